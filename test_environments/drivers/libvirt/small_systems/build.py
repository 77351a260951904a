"""Builds the small Linux system that runs errands in machines, once for each state of Debian's packages and our files.

Debian's kernel, the modules that are needed, busybox and our scripts; no mounts, no root. It lies in a cache folder
named after a hash of all that it is made of.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from test_environments.drivers.errors import Failed
from test_environments.drivers.libvirt.small_systems import packages
from test_environments.drivers.libvirt.small_systems.initramfs import Initramfs

SCRIPTS = Path(__file__).with_name("scripts")
PARAVIRTUAL = ["virtio_pci", "virtio_blk", "virtio_net", "virtio_rng"]
FILE_SYSTEMS = {"ext4": ["crc32c_generic", "ext4"], "xfs": ["crc32c_generic", "xfs"]}
# What physical machines have; what was tried is in docs/test-environments.md.
PHYSICAL = [
    *("ata_piix", "ata_generic", "ahci", "sd_mod", "nvme", "megaraid_sas", "mpt3sas", "hpsa", "smartpqi", "aacraid"),
    *("mptspi", "mptsas", "vmw_pvscsi", "hv_storvsc", "virtio_scsi"),
    *("e1000", "e1000e", "igb", "ixgbe", "i40e", "r8169", "tg3", "bnx2", "vmxnet3", "hv_netvsc"),
]
_APPLETS = (
    *("sh", "mount", "umount", "insmod", "cat", "head", "tail", "echo", "dd", "sync", "poweroff", "mkdir", "rmdir"),
    *("tar", "cp", "mv", "rm", "ln", "ls", "chmod", "chroot", "sed", "tr", "grep", "find", "dirname", "readlink"),
    *(
        "ip",
        "nc",
        "udhcpc",
        "sleep",
        "blockdev",
        "sha256sum",
        "tee",
        "mkfifo",
        "mknod",
        "switch_root",
        "true",
        "base64",
        "cmp",
    ),
)


@dataclass(frozen=True, slots=True)
class SmallSystem:
    """A kernel and what it starts with: for errands (plain), and for physical machines (compressed, all drivers)."""

    kernel: Path
    errands: Path
    capture: Path


def small_system(cache: Path) -> SmallSystem:
    """The system, built now unless it is there. Raises Unavailable (no apt), Failed."""
    kernel = packages.kernel_package()
    names = [kernel, "busybox-static", *OPENSSL]
    mark = packages.fingerprint(names, *SCRIPTS.glob("*.sh"), *Path(__file__).parent.glob("*.py"))
    final = cache / f"system-{mark}"
    if not final.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".new-") as folder:
            _build(Path(folder), names, keep=cache / "packages")
            packages.replace_folder(Path(folder) / "done", final)
    return SmallSystem(final / "kernel", final / "errands.cpio", final / "capture.cpio.gz")


def for_errands(cache: Path, place: Path) -> tuple[Path, Path]:
    """Kernel and first file system of errands in `place`, where QEMU's user can read them.

    Raises Unavailable, Failed, OSError.
    """
    built = small_system(cache)
    place.mkdir(mode=0o711, exist_ok=True)
    copies = []
    for path in (built.kernel, built.errands):
        copies.append(place / f"{path.parent.name}-{path.name}")
        if not copies[-1].exists():
            new = place / f".new-{path.name}"
            shutil.copyfile(path, new)
            new.chmod(0o644)
            new.replace(copies[-1])
    return copies[0], copies[1]


# TLS for the capture medium; busybox has none that checks certificates.
OPENSSL = ["openssl", "libssl3", "libc6"]


def _build(folder: Path, names: list[str], *, keep: Path) -> None:
    parts, done = folder / "parts", folder / "done"
    packages.unpack(names, parts, keep=keep)
    done.mkdir()
    done.chmod(0o755)
    kernels = list((parts / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise Failed("Debian's kernel package holds no kernel, or several.")
    shutil.copyfile(kernels[0], done / "kernel")
    errands = _base(parts, {"hardware": PARAVIRTUAL, **FILE_SYSTEMS})
    (done / "errands.cpio").write_bytes(errands.plain())
    capture = _base(parts, {"hardware": PARAVIRTUAL + PHYSICAL})
    for name in ("usr/bin/openssl", "usr/lib/x86_64-linux-gnu/libssl.so.3", "usr/lib/x86_64-linux-gnu/libcrypto.so.3"):
        path = "bin/openssl" if name.endswith("openssl") else f"lib/{Path(name).name}"
        capture.file(path, (parts / name).read_bytes(), mode=0o755)
    for name in ("libc.so.6", "ld-linux-x86-64.so.2"):
        capture.file(f"lib/{name}", next(parts.glob(f"**/x86_64-linux-gnu/{name}")).read_bytes(), mode=0o755)
    capture.link("lib64", "lib")
    capture.folder("usr/lib/ssl")
    (done / "capture.cpio.gz").write_bytes(capture.packed())


def _base(parts: Path, modules: dict[str, list[str]]) -> Initramfs:
    """Busybox, our scripts and kernel modules: lists of what is loaded together, by name."""
    system = Initramfs()
    for name in ("dev", "proc", "sys", "run", "bin", "etc", "tmp", "target"):
        system.folder(name)
    system.device("dev/console", 5, 1)
    system.device("dev/null", 1, 3)
    system.file("bin/busybox", (parts / "bin/busybox").read_bytes(), mode=0o755)
    for name in _APPLETS:
        system.link(f"bin/{name}", "busybox")
    system.file("init", (SCRIPTS / "init.sh").read_bytes(), mode=0o755)
    for script in SCRIPTS.glob("*.sh"):
        system.file(f"errands/{script.name}", script.read_bytes(), mode=0o755)
    for name, wanted in modules.items():
        order = packages.modules_in_order(parts / "lib/modules", wanted)
        for path in order:
            system.file(f"modules/{path.name}", path.read_bytes())
        system.file(f"modules/{name}.order", "".join(f"{path.name}\n" for path in order).encode())
    return system
