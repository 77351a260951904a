"""The folder of disks that are expected from physical machines or uploads, or have arrived.

incoming/<name>/receiver.pem     key and certificate of the receiver, for this disk alone
               /disk.<format>    what arrived; complete once `received.json` is there
               /received.json    sha256, size, what hardware the machine has
"""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import NotFound, Unavailable, Unsupported
from test_environments.drivers.libvirt import disk_images
from test_environments.drivers.libvirt.medium import make_medium
from test_environments.drivers.libvirt.programs import take_back
from test_environments.drivers.libvirt.receiver import Receiver, note_arrival
from test_environments.drivers.receiving import ArrivedDisk, ExpectedDisk, Progress
from test_environments.drivers.texts import Text as _

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TELL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Received:
    """A disk that arrived whole."""

    disk: Path
    sha256: str
    size: int
    inventory: dict[str, Any]


class Incoming:
    """One such folder. `media` is where the small system is built."""

    def __init__(self, folder: Path, media: Path, *, say: Callable[[str], None] = print) -> None:
        self._folder = folder
        self._media = media
        self._say = say

    def _place(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise Unsupported(_("%(name)r is no name of a disk: letters, digits, dots and dashes.", name=name))
        return self._folder / name

    def received(self, name: str) -> Received:
        """A disk that arrived. Raises NotFound when none is expected, Unavailable when it is not complete yet."""
        place = self._place(name)
        if not place.is_dir():
            raise NotFound(_("No disk %(name)s is expected; make a capture medium for it first.", name=name))
        try:
            facts = json.loads((place / "received.json").read_text())
        except FileNotFoundError:
            raise Unavailable(
                _("The disk %(name)s has not arrived yet: boot the machine from its capture medium.", name=name)
            ) from None
        disk = place / str(facts.get("disk", "disk.raw"))
        return Received(disk, facts["sha256"], facts["size"], facts["inventory"])

    def forget(self, name: str) -> None:
        """Removes what arrived, and what was kept for it; absent is fine."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._place(name))

    def receiver(self, expected: ExpectedDisk) -> Receiver:
        """Expects a disk, or goes on expecting it; listens at once. Raises Unsupported (no name), Unavailable."""
        place = self._place(expected.name)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Receiver(place, expected.address, expected.port, expected.token_sha256, say=self._say)

    def receive(
        self, expected: ExpectedDisk, medium: Path, bound: Bound, tell: Callable[[Progress], None]
    ) -> ArrivedDisk:
        """See `Driver.receive`."""
        place = self._place(expected.name)
        if (place / "received.json").exists():
            found = self.received(expected.name)
            return ArrivedDisk(found.sha256, found.size, found.inventory)
        receiver = self.receiver(expected)
        try:
            if not medium.exists():
                make_medium(medium, expected, receiver.certificate, self._media)
            told = receiver.progress
            tell(told)
            while not bound.wait(lambda: receiver.arrived, every=0.2, seconds=_TELL_SECONDS):
                bound.check()
                if receiver.progress != told:
                    told = receiver.progress
                    tell(told)
            assert receiver.arrived is not None
            return receiver.arrived
        finally:
            receiver.close()

    def take_in(self, name: str, file: Path, format_: str, bound: Bound) -> ArrivedDisk:
        """See `Driver.take_in`."""
        place = self._place(name)
        if (place / "received.json").exists():
            found = self.received(name)
            return ArrivedDisk(found.sha256, found.size, found.inventory)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o711, parents=True)
        try:
            size = file.stat().st_size
            disk_images.need_room(place, size)
            disk = place / f"disk.{format_}"
            sha256 = disk_images.take_copy(file, disk, bound)
            unfolded = disk_images.check_foreign(disk, format_, bound)
            take_back(disk)
            arrived = ArrivedDisk(sha256, size, {"format": format_, "disk_bytes": unfolded})
            note_arrival(place, disk.name, arrived)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return arrived
