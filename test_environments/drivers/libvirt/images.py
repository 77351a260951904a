"""Images of disks: taken once, looked at and masked by an errand, never changed again."""

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Conflict, DriverError, Failed, NotFound, Unsupported
from test_environments.drivers.interface import (
    CaptureOrder,
    Consistency,
    Conversion,
    CreateOrder,
    Image,
    Provenance,
)
from test_environments.drivers.libvirt import adapting, capturing, orders
from test_environments.drivers.libvirt.connection import Connection
from test_environments.drivers.libvirt.disk_images import sha256_of
from test_environments.drivers.libvirt.environment_files import read_about, write_about
from test_environments.drivers.libvirt.errands import Errands, Report
from test_environments.drivers.libvirt.ownership import QemuUser
from test_environments.drivers.libvirt.physical import Incoming
from test_environments.drivers.store import Store
from test_environments.drivers.texts import Text as _

DISK = "disk.qcow2"


class Images:
    """Those below one folder. Files are taken from `sources`, disks of physical machines from `incoming`."""

    def __init__(self, store: Store, sources: Path, incoming: Incoming) -> None:
        self._store = store
        self._incoming = incoming
        self._sources = sources

    def disk(self, image: UUID) -> Path:
        return self._store.path(image) / DISK

    def find(self, image: UUID) -> Image | None:
        """An image that was taken, None where there is none. Raises Failed."""
        if not self._store.has(image):
            return None
        return _image_of(image, read_about(self._store.path(image)))

    def about(self, order: CreateOrder, bound: Bound) -> dict[str, Any]:
        """What is known of the image that an order names, proved to be unchanged.

        Raises NotFound, Conflict, Failed, and Unsupported for a version that it does not hold.
        """
        if not self._store.has(order.image):
            raise NotFound(_("The image is not there; capture it again."))
        about = read_about(self._store.path(order.image))
        if about["image_sha256"] != order.image_sha256:
            raise Conflict(_("The image is another one than the portal knows; capture it again."))
        _check_unchanged(self.disk(order.image), about, bound)
        for product, label in order.versions.items():
            if label not in about["versions"].get(product, ()):
                found = ", ".join(about["versions"].get(product, ())) or _("none")
                raise Unsupported(
                    _(
                        "The image does not hold %(product)s %(label)s. Its versions: %(found)s.",
                        product=product,
                        label=label,
                        found=found,
                    )
                )
        return about

    def capture(
        self, order: CaptureOrder, bound: Bound, *, user: QemuUser, connection: Connection, errands: Errands
    ) -> Image:
        """Takes an image; raises the errors of `Driver.capture`."""
        take = self._way(order, user, connection)
        is_adapted = _is_adapted(order)
        folder = self._store.begin(order.image)
        provenance = {"provenance": dataclasses.asdict(order.provenance)}
        try:
            write_about(folder, provenance)
            folder.chmod(0o711)
            taken = take(folder, bound)
            if order.expected_sha256 and order.expected_sha256 != taken.source_sha256:
                raise Failed(
                    _(
                        "The source has the checksum %(found)s, not %(expected)s.",
                        found=taken.source_sha256,
                        expected=order.expected_sha256,
                    )
                )
            said = adapting.adapt(taken.disk, bound) if is_adapted else ""
            user.may_enter(folder)
            user.may_write(taken.disk)
            report = errands.run(
                "prepare", order.image, folder, bound,
                provenance=order.provenance, disk=taken.disk, order=orders.neutralise(order.masking),
            )  # fmt: skip
            image = _image(order, taken, report, sha256_of(taken.disk, bound), said)
            user.may_read(taken.disk)
            facts = {k: v for k, v in dataclasses.asdict(image).items() if k != "image"}
            facts["conversion"] = str(order.conversion)
            write_about(folder, {**provenance, **facts, "agent": report.agent, **_mark(taken.disk)})
            self._store.finish(order.image)
        except BaseException:
            self._store.give_up(order.image)
            raise
        return image

    def _way(
        self, order: CaptureOrder, user: QemuUser, connection: Connection
    ) -> Callable[[Path, Bound], capturing.Taken]:
        """How the source of an order is taken into a folder. Raises NotFound, Unsupported, Unavailable."""
        if order.method == "disk":
            source = capturing.source_path(self._sources, order.location)
            return lambda folder, bound: capturing.take_file(source, folder, bound, order.consistency)
        if order.method in {"medium", "upload"}:
            received = self._incoming.received(order.location)
            return lambda folder, bound: capturing.take_received(received, folder, bound)
        return lambda folder, bound: capturing.take_machine(connection, order, folder, bound, user)


def provenance_of(about: Mapping[str, Any]) -> Provenance:
    return Provenance(**about["provenance"])


def first_provenance(folders: list[Path]) -> Provenance | None:
    """Of the first folder of a thing that says it, None where nobody does."""
    for folder in folders:
        with suppress(DriverError, KeyError, TypeError):
            return provenance_of(read_about(folder))
    return None


def _is_adapted(order: CaptureOrder) -> bool:
    """Whether virt-v2v is asked for. Raises Unsupported, before anything is read."""
    if order.conversion is Conversion.KEEP:
        return False
    if order.method == "domain":
        raise Unsupported(_("A machine of this hypervisor has its drivers; let it keep them."))
    if why := adapting.why_not():
        raise Unsupported(why)
    return True


def _image(order: CaptureOrder, taken: capturing.Taken, report: Report, sha256: str, said: str) -> Image:
    return Image(
        order.image, "qcow2", taken.source_sha256, sha256, taken.source_bytes, taken.disk.stat().st_size,
        taken.consistency, report.baseline, report.versions,
        {"system": report.system, "disks": [{"bytes": taken.unfolded_bytes}], **taken.inventory}, report.changed,
        said,
    )  # fmt: skip


def _image_of(key: UUID, about: Mapping[str, Any]) -> Image:
    known = {"said": "", **about}  # of an image that an earlier version took
    facts = {f.name: known[f.name] for f in dataclasses.fields(Image) if f.name != "image"}
    facts["versions"] = {product: tuple(labels) for product, labels in facts["versions"].items()}
    facts["masked"] = tuple(facts["masked"])
    return Image(**{**facts, "image": key, "consistency": Consistency(facts["consistency"])})


def _mark(disk: Path) -> dict[str, int]:
    """What a change of a file shows without reading it."""
    facts = disk.stat()
    return {"disk_bytes": facts.st_size, "disk_changed_ns": facts.st_mtime_ns}


def _check_unchanged(disk: Path, about: Mapping[str, Any], bound: Bound) -> None:
    try:
        is_same = _mark(disk) == {name: about[name] for name in ("disk_bytes", "disk_changed_ns")}
        is_same = is_same or sha256_of(disk, bound) == about["image_sha256"]
    except OSError as error:
        raise Failed(_("The image cannot be read: %(error)s", error=error)) from error
    if not is_same:
        raise Failed(_("The image was changed on the disk; capture it again."))
