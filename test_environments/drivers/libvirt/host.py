"""What the machine of the hypervisor has and runs, as /proc tells it."""

import importlib.util
import os
import pwd
import shutil
from itertools import pairwise
from pathlib import Path

RESERVE_MB = 256  # that machines leave to the host
_QEMU = b"/usr/bin/qemu-system-"
_PROGRAMS = (
    "qemu-system-x86_64", "qemu-img", "apt-get", "dpkg-deb", "unshare", "nsenter", "setpriv", "prlimit",
)  # fmt: skip


def what_is_missing() -> str:
    """What a libvirt of our own (`qemu:///embed`) needs and this host does not have; empty if nothing."""
    if os.geteuid() != 0:
        return "root's rights"
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            return program
    if not any(user.pw_name == "libvirt-qemu" for user in pwd.getpwall()):
        return "the user libvirt-qemu"
    return "" if importlib.util.find_spec("libvirt") else "libvirt's binding for Python (make machines)"


def free_memory_mb() -> int:
    """What could be given to machines now."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return max(0, int(line.split()[1]) * 1024 // 10**6 - RESERVE_MB)
    return 0


def process_of(uuid: str) -> int | None:
    """The QEMU process of a machine on this host, None without one."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].startswith(_QEMU) and (b"-uuid", uuid.encode()) in pairwise(words):
            return int(entry.name)
    return None


def living_machines(run_folder: Path) -> list[int]:
    """The processes of machines that libvirt keeps track of in its folder for that."""
    found = []
    for path in run_folder.glob("*.pid"):
        if path.name == "driver.pid":
            continue
        try:
            process = int(path.read_text())
            words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if words[0].startswith(_QEMU):
            found.append(process)
    return found


def resident_mb(process: int | None) -> int:
    """Memory that a process holds; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 10**6


def allocated_bytes(folder: Path) -> int:
    """What the files of a folder take of the disk."""
    total = 0
    for path in folder.iterdir():
        try:
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total
