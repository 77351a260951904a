"""Writing a captured source into a folder of its own, and proving that the copy is the same."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from test_environments.drivers.errors import Capacity, Failed, SourceChanged, Unsupported
from test_environments.drivers.file_copy.capture import Capture, Entry, open_file, open_folder, read_source
from test_environments.drivers.texts import Text as _
from test_environments.failpoint import reach

_BLOCK = 1024 * 1024


def copy_source(
    root: Path, capture: Capture, target: Path, *, running: Mapping[str, str], check: Callable[[], None]
) -> str:
    """Writes what `capture` found below `root` into the new folder `target`; `running` become the current
    versions. Returns the SHA-256 of what was read, the source's own current versions included.

    `check` is called between two blocks and may raise. Raises Capacity, SourceChanged, Unsupported, Failed,
    OSError (disk full).
    """
    free = shutil.disk_usage(target.parent).free
    if capture.bytes > free:
        raise Capacity(
            _(
                "The copy needs %(needed)s MB; %(free)s MB are free. Destroy a test environment or make room.",
                needed=capture.bytes // 1000000 + 1,
                free=free // 1000000,
            )
        )
    target.mkdir(mode=0o700)
    tree = hashlib.sha256()
    with open_folder(root, capture.folder) as handle:
        for entry in (*capture.software, *capture.files):
            check()
            content = _write(handle, entry, target / entry.path, check)
            tree.update(_line(entry, content))
        now = read_source(handle, capture.folder)
        if (now.software, now.baseline) != (capture.software, capture.baseline):
            raise SourceChanged(_("The source was updated while it was copied; try again."))
    tree.update(_runs(capture))
    for product, label in running.items():
        (target / product / "current").symlink_to(f"versions/{label}")
    for entry in reversed(capture.software):  # folders last become read-only, children before parents
        if entry.kind == "folder":
            (target / entry.path).chmod(entry.mode)
        elif entry.kind == "link":
            _check_link(target, entry)
    return tree.hexdigest()


def checksum(root: Path, folder: str, check: Callable[[], None]) -> str:
    """The SHA-256 of a tree as `copy_source` gives it, without a copy. Raises SourceChanged, Failed."""
    tree = hashlib.sha256()
    with open_folder(root, folder) as handle:
        found = read_source(handle, folder)
        for entry in (*found.software, *found.files):
            content = entry.target
            if entry.kind == "file":
                content = _digest(root / folder / entry.path, check).hex()
            tree.update(_line(entry, content))
    tree.update(_runs(found))
    return tree.hexdigest()


def _line(entry: Entry, content: str) -> bytes:
    return f"{entry.kind} {entry.mode:o} {entry.path}\0{content}\n".encode()


def _runs(capture: Capture) -> bytes:
    return "".join(f"runs {product}\0{label}\n" for product, label in capture.baseline.items()).encode()


def _write(root: int, entry: Entry, target: Path, check: Callable[[], None]) -> str:
    """Writes one entry; its content for the checksum: a digest, or where a link leads."""
    if entry.kind == "folder":
        target.mkdir(mode=0o700)
        return ""
    if entry.kind == "link":
        if os.path.isabs(entry.target):
            raise Unsupported(_leads_out(entry))
        target.symlink_to(entry.target)
        return entry.target
    digest = _copy_file(root, entry, target, check)
    if _digest(target, check) != digest:
        raise Failed(_("%(path)s could not be copied without errors: check the disk.", path=entry.path))
    target.chmod(entry.mode)
    reach("copying")
    return digest.hex()


def _copy_file(root: int, entry: Entry, target: Path, check: Callable[[], None]) -> bytes:
    """Copies one file; the SHA-256 of what was read. A file that changes meanwhile raises SourceChanged."""
    digest = hashlib.sha256()
    with open_file(root, entry.path) as source, open(target, "xb") as copy:
        before = os.fstat(source)
        while block := os.read(source, _BLOCK):
            digest.update(block)
            copy.write(block)
            check()
        after = os.fstat(source)
    if (before.st_size, before.st_mtime_ns) != (
        after.st_size,
        after.st_mtime_ns,
    ) or target.stat().st_size != after.st_size:
        raise SourceChanged(_("%(path)s changed while it was read; try again.", path=entry.path))
    return digest.digest()


def _digest(path: Path, check: Callable[[], None]) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            check()
    return digest.digest()


def _check_link(target: Path, entry: Entry) -> None:
    """Refuses a link that leads out of its version; looked at in the copy, where nobody else writes."""
    version = target.joinpath(*entry.path.split("/")[:3])
    if not Path(os.path.realpath(target / entry.path)).is_relative_to(os.path.realpath(version)):
        raise Unsupported(_leads_out(entry))


def _leads_out(entry: Entry) -> str:
    return _("%(path)s is a link that leads out of its version; such software cannot be copied.", path=entry.path)


def remove_tree(folder: Path, check: Callable[[], None] = lambda: None) -> None:
    """Deletes a folder, also with read-only folders in it; absent is fine. Raises OSError."""
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink()
        return
    folder.chmod(0o700)
    for path, names, _files in os.walk(folder):
        check()
        for name in names:
            if not os.path.islink(os.path.join(path, name)):
                os.chmod(os.path.join(path, name), 0o700)
    shutil.rmtree(folder)
