"""What an environment is on the disk: a stack of overlays on its image, and what we know of it.

    <uuid>/about.json      facts; replaced in one step, so it is always whole
           base.qcow2      a full clone's own base
           disk-<n>.qcow2  overlays: the top is what the machine writes to; those below belong to snapshots
           console.log

A snapshot freezes the top and lays a new one over it; going back lays a new top over what was frozen.
Overlays name their base by a relative path.
"""

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Capacity, Failed, NotFound
from test_environments.drivers.libvirt.disk_images import make_overlay
from test_environments.drivers.libvirt.ownership import QemuUser
from test_environments.drivers.texts import Text as _

ABOUT = "about.json"
_CONSOLE = "console.log"
_CONSOLE_BYTES = 1_000_000


def read_about(folder: Path) -> dict[str, Any]:
    """Raises NotFound, Failed."""
    try:
        found: dict[str, Any] = json.loads((folder / ABOUT).read_text())
    except FileNotFoundError:
        raise NotFound(_("It is not there; it has to be made again.")) from None
    except (OSError, ValueError) as error:
        raise Failed(_("%(file)s cannot be read: %(error)s", file=folder / ABOUT, error=error)) from error
    return found


def write_about(folder: Path, about: Mapping[str, Any]) -> None:
    """In one step, for root only."""
    new = folder / f".{ABOUT}"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        json.dump(about, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / ABOUT)


@contextmanager
def plain_errors() -> Iterator[None]:
    """What the disk refuses, as an error of drivers with the path."""
    try:
        yield
    except OSError as error:
        kind = Capacity if error.errno == errno.ENOSPC else Failed
        raise kind(f"{error.strerror or error}: {error.filename or ''}") from error


def copy_file(source: Path, target: Path, bound: Bound) -> None:
    """Raises OSError, Interrupted, Failed (the bound)."""
    with open(source, "rb") as image, open(target, "xb") as copy:
        while block := image.read(4 * 1024 * 1024):
            copy.write(block)
            bound.check()


def end_of_console(folder: Path, max_bytes: int) -> str:
    """What the machine said last; empty where it said nothing."""
    try:
        with open(folder / _CONSOLE, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - max_bytes))
            return log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def cut_console(folder: Path) -> None:
    """A system that talks without end does not fill the disk: QEMU appends to whatever is left."""
    with suppress(FileNotFoundError):
        if (folder / _CONSOLE).stat().st_size > _CONSOLE_BYTES:
            os.truncate(folder / _CONSOLE, 0)


class EnvironmentFiles:
    """The files of one environment whose machine is off."""

    def __init__(self, folder: Path, user: QemuUser) -> None:
        self.folder = folder
        self._user = user
        self.about = read_about(folder)

    @classmethod
    def make(cls, folder: Path, user: QemuUser, about: Mapping[str, Any], base: str) -> "EnvironmentFiles":
        """In an empty folder, on a base (relative path)."""
        user.may_enter(folder)
        write_about(folder, {**about, "base": base, "top": "", "snapshots": {}, "has_identity": False, "made": 0})
        files = cls(folder, user)
        files._cover(base)
        return files

    @property
    def top(self) -> Path:
        return self.folder / str(self.about["top"])

    @property
    def console(self) -> Path:
        """The log of the machine's console, there for QEMU to write."""
        path = self.folder / _CONSOLE
        path.touch(0o600)
        self._user.may_write(path)
        return path

    def note(self, **facts: Any) -> None:
        """Keeps further facts."""
        self.about.update(facts)
        write_about(self.folder, self.about)

    def keep(self, snapshot: UUID) -> None:
        """Freezes what is there under this name; without effect when the name is taken."""
        snapshots = self.about["snapshots"]
        if str(snapshot) not in snapshots:
            self._cover(self.about["top"], snapshots={**snapshots, str(snapshot): self.about["top"]})

    def go_back(self, snapshot: UUID | None) -> None:
        """Discards what was written since. Raises NotFound."""
        frozen = self.about["base"] if snapshot is None else self.about["snapshots"].get(str(snapshot))
        if frozen is None:
            raise NotFound(_("There is no such snapshot of this environment."))
        self._cover(frozen, has_identity=False)

    def _cover(self, below: str, **facts: Any) -> None:
        """A new top over a file; who knows no more of a file than its name may delete it."""
        number = int(self.about["made"]) + 1
        name = f"disk-{number}.qcow2"
        (self.folder / name).unlink(missing_ok=True)
        make_overlay(self.folder / name, below)
        self._user.may_write(self.folder / name)
        self.note(**facts, top=name, made=number)
        wanted = {name, self.about["base"], *self.about["snapshots"].values()}
        for path in self.folder.glob("disk-*.qcow2"):
            if path.name not in wanted:
                path.unlink()
            elif path.name != name:
                self._user.may_read(path)
