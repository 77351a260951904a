"""The XML of machines, and reading ours back. Every value is escaped; paths and names are ours, never a guest's."""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from test_environments.drivers.interface import Provenance
from test_environments.drivers.texts import Text as _

NAMESPACE = "urn:itsm-portal:test-environments"
ADDRESS = "10.0.2.15"  # of every machine; each has a network of its own
HOST_ADDRESS = "10.0.2.2"  # under which a machine sees the loopback of its hypervisor's namespace
CONSOLE = "console=ttyS0"


@dataclass(frozen=True, slots=True)
class Hardware:
    """Which disk and network hardware a machine has: `paravirtual` is fast, `common` is what any system knows."""

    disk_bus: str
    disk_prefix: str
    network: str


HARDWARE = {"paravirtual": Hardware("virtio", "vd", "virtio"), "common": Hardware("sata", "sd", "e1000e")}


@dataclass(frozen=True, slots=True)
class Disk:
    """A file as a disk of a machine. `format`: qcow2 or raw; never guessed."""

    path: Path
    format: str = "qcow2"
    is_readonly: bool = False


@dataclass(frozen=True, slots=True)
class DirectBoot:
    """A kernel that the hypervisor loads itself."""

    kernel: Path
    initramfs: Path
    arguments: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine is made of. `label`: environment or the errand it runs; `owner`: its environment's uuid."""

    uuid: str
    name: str
    owner: str
    provenance: Provenance
    disks: tuple[Disk, ...]
    console: Path
    memory_mb: int
    processors: int = 1
    accelerator: str = "tcg"
    hardware: str = "paravirtual"
    has_network: bool = True
    boot: DirectBoot | None = None
    is_errand: bool = False  # ends when its system does, and also when it would start again


def describe(machine: Machine) -> str:
    """The domain XML."""
    hardware = HARDWARE[machine.hardware]
    is_kvm = machine.accelerator == "kvm"
    parts = [
        f"<domain type={quoteattr('kvm' if is_kvm else 'qemu')}>",
        f"<name>{escape(machine.name)}</name><uuid>{machine.uuid}</uuid>",
        f"<metadata>{_provenance(machine)}</metadata>",
        f"<memory unit='MB'>{machine.memory_mb}</memory><vcpu>{machine.processors}</vcpu>",
        f"<os><type arch='x86_64' machine='q35'>hvm</type>{_boot(machine.boot)}</os>",
        f"<features><acpi/></features><cpu mode='{'host-passthrough' if is_kvm else 'maximum'}'/>",
        "<clock offset='utc'/><on_poweroff>destroy</on_poweroff>",
        f"<on_reboot>{'destroy' if machine.is_errand else 'restart'}</on_reboot>",
        "<on_crash>destroy</on_crash><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>",
    ]
    for number, disk in enumerate(machine.disks):
        target = f"{hardware.disk_prefix}{chr(ord('a') + number)}"
        parts.append(
            f"<disk type='file' device='disk'><driver name='qemu' type={quoteattr(disk.format)} discard='unmap'/>"
            f"<source file={quoteattr(str(disk.path))}/><target dev='{target}' bus='{hardware.disk_bus}'/>"
            f"{'<readonly/>' if disk.is_readonly else ''}</disk>"
        )
    if machine.has_network:
        parts.append(f"<interface type='user'><model type='{hardware.network}'/><rom enabled='no'/></interface>")
    parts += [
        f"<serial type='file'><source path={quoteattr(str(machine.console))} append='on'/></serial>",
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
        "<video><model type='none'/></video><memballoon model='none'/></devices></domain>",
    ]
    return "".join(parts)


def _boot(boot: DirectBoot | None) -> str:
    if boot is None:
        return "<boot dev='hd'/>"
    return (
        f"<kernel>{escape(str(boot.kernel))}</kernel><initrd>{escape(str(boot.initramfs))}</initrd>"
        f"<cmdline>{escape(boot.arguments)}</cmdline>"
    )


def _provenance(machine: Machine) -> str:
    of = machine.provenance
    values = {
        "owner": machine.owner,
        "portal": of.portal,
        "number": of.number,
        "source": of.source,
        "created": of.created_at,
    }
    attributes = " ".join(f"{name}={quoteattr(value)}" for name, value in values.items())
    return f'<itsm:environment xmlns:itsm="{NAMESPACE}" {attributes}/>'


def read_provenance(metadata: str) -> tuple[str, Provenance]:
    """The owner's uuid and the provenance of a machine. Raises ValueError."""
    try:
        found = ElementTree.fromstring(metadata)  # noqa: S314  written by us, kept by libvirt
    except ElementTree.ParseError as error:
        raise ValueError("unreadable metadata") from error
    values = {name: found.get(name, "") for name in ("portal", "number", "source", "created")}
    return found.get("owner", ""), Provenance(
        values["portal"], values["number"], values["source"], created_at=values["created"]
    )


def disks_of(description: str) -> list[tuple[str, Path]]:
    """Target and file of the disks of a machine, from libvirt's description of it. Raises ValueError."""
    root = ElementTree.fromstring(description)  # noqa: S314  from libvirt
    found = []
    for disk in root.findall("./devices/disk[@device='disk']"):
        source, target = disk.find("source"), disk.find("target")
        if target is None:
            continue
        if source is None or "file" not in source.attrib:
            raise ValueError(_("The disk %(target)s is not a file.", target=target.get("dev")))
        found.append((target.get("dev", ""), Path(source.attrib["file"])))
    return found
