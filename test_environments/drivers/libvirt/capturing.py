"""Taking an image: from a file, or from a machine on the same hypervisor while it runs."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import DriverError, Failed, NotFound, Unsupported
from test_environments.drivers.interface import CaptureOrder, Consistency
from test_environments.drivers.libvirt import disk_images
from test_environments.drivers.libvirt.connection import Connection
from test_environments.drivers.libvirt.hypervisor import ALIVE
from test_environments.drivers.libvirt.machine import disks_of
from test_environments.drivers.libvirt.ownership import QemuUser
from test_environments.drivers.libvirt.physical import Received
from test_environments.drivers.texts import Text as _


@dataclass(frozen=True, slots=True)
class Taken:
    """A disk that was taken to `disk`; what it was taken from."""

    disk: Path
    source_sha256: str
    source_bytes: int
    unfolded_bytes: int
    consistency: Consistency
    inventory: Mapping[str, Any] = field(default_factory=dict)  # of a physical machine


def source_path(sources: Path, location: str) -> Path:
    """The file of a location below the folder of sources; no link leads out. Raises NotFound, Unsupported."""
    path = (sources / location).resolve()
    if not path.is_relative_to(sources.resolve()):
        raise Unsupported(_("%(location)s leads out of the folder of sources.", location=location))
    if not path.is_file():
        raise NotFound(_("There is no disk image %(location)s in the folder of sources.", location=location))
    return path


def take_file(source: Path, folder: Path, bound: Bound, consistency: Consistency) -> Taken:
    """Converts a disk image into `folder`. Raises Unsupported, SourceChanged, Capacity, Failed."""
    format_ = disk_images.format_of(source)
    size = source.stat().st_size
    disk_images.need_room(folder, 2 * size)
    copy, disk = folder / f"source.{format_}", folder / "disk.qcow2"
    sha256 = disk_images.take_copy(source, copy, bound)
    unfolded = disk_images.convert(copy, format_, disk, bound)
    copy.unlink()
    return Taken(disk, sha256, size, unfolded, consistency)


def take_received(received: Received, folder: Path, bound: Bound) -> Taken:
    """Converts a disk that arrived, once more checked. Raises as `take_file`."""
    taken = take_file(received.disk, folder, bound, Consistency.COLD)  # its name says the format
    if taken.source_sha256 != received.sha256:
        raise Failed(_("The disk was changed after it had arrived; receive it again."))
    return replace(taken, inventory=received.inventory)


def take_machine(connection: Connection, order: CaptureOrder, folder: Path, bound: Bound, user: QemuUser) -> Taken:
    """Copies the disk of a machine as it is at one moment; it runs on.

    Raises NotFound, Unsupported (several disks; frozen without a guest agent), Failed.
    """
    uuid = connection.call("uuid_of", bound, name=order.location)
    try:
        disks = disks_of(connection.call("description", bound, uuid=uuid))
    except ValueError as error:
        raise Unsupported(error.args[0]) from None
    if len(disks) != 1:
        raise Unsupported(
            _(
                "The machine %(location)s has %(n)s disks; only those with one can be copied.",
                location=order.location,
                n=len(disks),
            )
        )
    if connection.call("look", bound, uuid=uuid)["state"] not in ALIVE:
        raise Unsupported(
            _("The machine %(location)s is off: take its disk by the method disk.", location=order.location)
        )
    target, _path = disks[0]
    size = int(connection.call("disk_size", bound, uuid=uuid, target=target))
    disk_images.need_room(folder, size)
    disk = folder / "disk.qcow2"
    disk_images.make_empty(disk, size)
    user.may_enter(folder)
    user.may_write(disk)
    is_frozen = order.consistency is Consistency.FROZEN
    if is_frozen:
        _freeze(connection, uuid, bound)
    try:
        xml = (
            f"<domainbackup mode='push'><disks><disk name={quoteattr(target)} type='file'><driver type='qcow2'/>"
            f"<target file={quoteattr(str(disk))}/></disk></disks></domainbackup>"
        )
        connection.call("begin_copy", bound, uuid=uuid, xml=xml)
    finally:
        if is_frozen:
            connection.call("thaw", uuid=uuid)
    _wait_for_copy(connection, uuid, bound)
    sha256 = disk_images.sha256_of(disk, bound)
    reached = Consistency.FROZEN if is_frozen else Consistency.CRASH
    return Taken(disk, sha256, disk.stat().st_size, size, reached)


def _freeze(connection: Connection, uuid: str, bound: Bound) -> None:
    try:
        connection.call("freeze", bound, uuid=uuid)
    except DriverError as error:
        raise Unsupported(
            _(
                "Its file systems cannot be frozen (%(error)s). Install the QEMU guest agent in it, or ask "
                "for “crash”.",
                error=error,
            )
        ) from None


def _wait_for_copy(connection: Connection, uuid: str, bound: Bound) -> None:
    state = {"is_running": True, "is_done": False, "text": ""}

    def is_over() -> bool:
        state.update(connection.call("copy_state", uuid=uuid))
        return not state["is_running"]

    try:
        is_over_in_time = bound.wait(is_over, every=0.1)
    except BaseException:
        with suppress(DriverError):
            connection.call("end_copy", uuid=uuid)
        raise
    if not is_over_in_time:
        with suppress(DriverError):
            connection.call("end_copy", uuid=uuid)
        bound.check()
    if not state["is_done"]:
        raise Failed(_("The copy of the running machine failed: %(why)s.", why=state["text"] or _("no reason given")))
