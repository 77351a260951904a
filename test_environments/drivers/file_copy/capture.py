"""Reading the folder of a production CI: what it runs and what a copy consists of.

Only `<product>/versions/<version>`, `<product>/current` and plain files beside them belong to a copy. Names
that begin with a dot (the agent's own folder, work in progress) and the agent's own configuration and token
do not. Every step down is taken with O_NOFOLLOW from an open folder, so a link put there meanwhile is never
followed.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from test_environments.drivers.errors import Failed, NotFound, SourceChanged, Unsupported
from test_environments.drivers.file_copy.sources import why_not_a_source
from test_environments.drivers.texts import Text as _

SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
NOT_COPIED = frozenset({"agent.json", "agent.log", "token", "agent.token"})

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder or link of the copy. `size` in bytes; `target` only for links."""

    path: str
    kind: str  # "file", "folder" or "link"
    mode: int
    size: int = 0
    modified_ns: int = 0
    target: str = ""


@dataclass(frozen=True, slots=True)
class Capture:
    """What was found in the source: the version that each product runs, all versions, and what to copy."""

    folder: str
    baseline: dict[str, str]
    versions: dict[str, tuple[str, ...]]
    software: tuple[Entry, ...]
    files: tuple[Entry, ...] = field(default=())

    @property
    def bytes(self) -> int:
        return sum(entry.size for entry in (*self.software, *self.files))


@contextmanager
def open_folder(root: Path, folder: str) -> Iterator[int]:
    """A descriptor of `folder` below `root`; no component may be a link. Raises DriverError."""
    why = why_not_a_source(root, folder)
    if why:
        raise NotFound(why)
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(
            _("The folder of sources cannot be read (%(reason)s). See TEST_ENVIRONMENT_SOURCES.", reason=error.strerror)
        ) from error
    try:
        for part in folder.split("/"):
            try:
                below = os.open(part, _FOLDER, dir_fd=handle)
            except OSError as error:
                raise Failed(
                    _("The folder %(folder)s cannot be read (%(reason)s).", folder=folder, reason=error.strerror)
                ) from error
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


@contextmanager
def open_file(root: int, path: str) -> Iterator[int]:
    """A descriptor of the plain file `path` below the folder `root`; no link is followed. Raises
    SourceChanged.
    """
    *folders, name = path.split("/")
    handle = os.dup(root)
    try:
        for part in folders:
            below = os.open(part, _FOLDER, dir_fd=handle)
            os.close(handle)
            handle = below
        file = os.open(name, _FILE, dir_fd=handle)
    except OSError as error:
        raise SourceChanged(_("%(path)s changed while it was read; try again.", path=path)) from error
    finally:
        os.close(handle)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise SourceChanged(_("%(path)s changed while it was read; try again.", path=path))
        yield file
    finally:
        os.close(file)


def capture(root: Path, folder: str) -> Capture:
    """Reads names, sizes and links of `folder` below `root`; no content. Raises DriverError."""
    with open_folder(root, folder) as handle:
        return read_source(handle, folder)


def read_source(handle: int, folder: str) -> Capture:
    """As `capture`, from an open folder."""
    baseline: dict[str, str] = {}
    versions: dict[str, tuple[str, ...]] = {}
    software: list[Entry] = []
    files: list[Entry] = []
    for name, mode in _children(handle):
        if stat.S_ISREG(mode) and name not in NOT_COPIED:
            files.append(_file_entry(handle, name, ""))
        elif stat.S_ISDIR(mode) and SEGMENT.fullmatch(name):
            with _below(handle, name) as product:
                found = _read_product(product, name, software, files)
                if found is None:
                    continue
                versions[name], running = found
                if running:
                    baseline[name] = running
    if not baseline:
        raise Failed(
            _(
                "The folder %(folder)s holds no running software: no <product>/current leads to a version.",
                folder=folder,
            )
        )
    return Capture(folder, baseline, versions, tuple(software), tuple(files))


def _read_product(
    handle: int, product: str, software: list[Entry], files: list[Entry]
) -> tuple[tuple[str, ...], str] | None:
    """The versions of a product and the one that runs; None when the folder is no product."""
    children = dict(_children(handle))
    if not stat.S_ISDIR(children.get("versions", 0)):
        return None
    software.append(Entry(product, "folder", 0o755))
    software.append(Entry(f"{product}/versions", "folder", 0o755))
    labels = []
    with _below(handle, "versions") as below:
        for label, mode in _children(below):
            if stat.S_ISDIR(mode) and SEGMENT.fullmatch(label):
                labels.append(label)
                _read_tree(below, label, f"{product}/versions/", software)
    running = ""
    if stat.S_ISLNK(children.get("current", 0)):
        target = os.readlink("current", dir_fd=handle)
        # While the agent repairs a version, `current` leads to `.old-<version>` for a moment.
        running = target.removeprefix("versions/").removeprefix(".old-")
        if not target.startswith("versions/") or running not in labels:
            raise SourceChanged(
                _(
                    "%(product)s/current does not lead to a version. Try again when no update is under way.",
                    product=product,
                )
            )
    files += [
        _file_entry(handle, name, f"{product}/")
        for name, mode in children.items()
        if stat.S_ISREG(mode) and name not in NOT_COPIED
    ]
    return tuple(labels), running


def _read_tree(parent: int, name: str, prefix: str, entries: list[Entry]) -> None:
    path = f"{prefix}{name}"
    with _below(parent, name) as handle:
        entries.append(Entry(path, "folder", stat.S_IMODE(os.fstat(handle).st_mode) & 0o777))
        for child, mode in _children(handle, hidden=True):
            if stat.S_ISDIR(mode):
                _read_tree(handle, child, f"{path}/", entries)
            elif stat.S_ISREG(mode):
                entries.append(_file_entry(handle, child, f"{path}/"))
            elif stat.S_ISLNK(mode):
                entries.append(Entry(f"{path}/{child}", "link", 0o777, target=os.readlink(child, dir_fd=handle)))
            else:
                raise Unsupported(_("%(path)s/%(child)s is not a plain file.", path=path, child=child))


def _file_entry(handle: int, name: str, prefix: str) -> Entry:
    try:
        facts = os.stat(name, dir_fd=handle, follow_symlinks=False)
    except OSError as error:
        raise SourceChanged(
            _("%(prefix)s%(name)s changed while it was read; try again.", prefix=prefix, name=name)
        ) from error
    return Entry(prefix + name, "file", stat.S_IMODE(facts.st_mode) & 0o777, facts.st_size, facts.st_mtime_ns)


def _children(handle: int, *, hidden: bool = False) -> list[tuple[str, int]]:
    """Names and modes below an open folder, sorted; names with a leading dot only if `hidden`."""
    names = [name for name in os.listdir(handle) if hidden or not name.startswith(".")]
    children = []
    for name in sorted(names):
        try:
            children.append((name, os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode))
        except FileNotFoundError:
            continue
    return children


@contextmanager
def _below(handle: int, name: str) -> Iterator[int]:
    try:
        below = os.open(name, _FOLDER, dir_fd=handle)
    except OSError as error:
        raise SourceChanged(_("%(name)s changed while it was read; try again.", name=name)) from error
    try:
        yield below
    finally:
        os.close(below)
