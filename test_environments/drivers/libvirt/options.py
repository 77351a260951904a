"""The driver's own settings, read and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from test_environments.drivers.errors import Unsupported
from test_environments.drivers.libvirt.accelerators import EVIDENCE
from test_environments.drivers.libvirt.machine import HARDWARE
from test_environments.drivers.libvirt.uris import EMBED, HypervisorUri, read_uri
from test_environments.drivers.texts import Text as _


@dataclass(frozen=True, slots=True)
class Options:
    uri: HypervisorUri  # `qemu:///embed` (default: a libvirt of our own, closed off), or a daemon's: see `uris.py`
    sources: Path  # the folder below which disk images lie that may be taken
    media: Path  # where the small system is built
    accelerator: str  # `tcg` (emulated, default) or `kvm`, which is tried by a real start first
    hardware: str  # `paravirtual` (default) or `common`: what systems without virtio drivers need
    memory_mb: int  # of a machine that does not say (256)
    growth_mb: int  # of its disk (512)
    user: str  # that QEMU runs as (`libvirt-qemu`)


def read_options(given: Mapping[str, Any], work_folder: Path) -> Options:
    """Raises Unsupported for what no machine could be made with."""
    if unknown := sorted(set(given) - set(Options.__dataclass_fields__)):
        raise Unsupported(_("The driver libvirt knows no option %(unknown)s.", unknown=", ".join(unknown)))
    found = Options(
        uri=read_uri(str(given.get("uri", EMBED))),
        sources=Path(given.get("sources", work_folder)),
        media=Path(given.get("media", work_folder / "media")),
        accelerator=str(given.get("accelerator", "tcg")),
        hardware=str(given.get("hardware", "paravirtual")),
        memory_mb=int(given.get("memory_mb", 256)),
        growth_mb=int(given.get("growth_mb", 512)),
        user=str(given.get("user", "libvirt-qemu")),
    )
    if found.accelerator not in EVIDENCE or found.hardware not in HARDWARE:
        text = _(
            "The driver libvirt knows no %(accelerator)s machine with %(hardware)s hardware.",
            accelerator=found.accelerator, hardware=found.hardware,
        )  # fmt: skip
        raise Unsupported(text)
    return found
