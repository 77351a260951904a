"""`make demo VM=1`: releases are tried on virtual machines where QEMU and libvirt are there, else on file copies.

One till server's disk stands for the backup that its shop makes: a small Linux that runs billing 1.0 and its agent.
"""

import hashlib
import os
import shutil
import signal
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from itsm_portal.demo.software import put_on_disk
from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import DriverError
from test_environments.drivers.libvirt.host import living_machines, what_is_missing
from test_environments.drivers.libvirt.small_systems.tiny_guest import TinyGuest

CLONE = Path(__file__).resolve().parent.parent.parent
INSTALL = "apt install qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-dev gcc pkg-config"
# What copies must not do: send the night's invoices, and mails to customers.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "schedulers": {"remove": ["etc/cron.d/*"]},
    "mail relay": {"write": {"etc/mail.json": '{"relay": ""}'}},
}
TAKEN_OUT = ["etc/cron.d/invoices", "etc/mail.json"]
_FILES = {
    "etc/cron.d/invoices": b"0 4 * * * send-invoices\n",
    "etc/mail.json": b'{"relay": "mail.example.org"}',
    "etc/update-agent/token": b"the token of production\n",
}
_CI_ROOT = "srv/till"
END_SECONDS = 10.0
_ROOM = Path("/var/tmp")  # noqa: S108 - the folder in it is checked
_BUILT = CLONE / ".tools" / "machines"  # Debian's packages and what is made of them, once for this clone


def folder_of(data: Path) -> Path:
    """Where the machines of a data folder lie: QEMU's user must reach it, and its path must be short."""
    return _ROOM / f"itsm-machines-{hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:8]}"


def prepare(data: Path) -> str:
    """Names a folder of machines to the portal's processes. Returns what this host lacks for them; empty: nothing.

    To be called before Django is set up.
    """
    if missing := what_is_missing():
        return missing
    folder = folder_of(data)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o711)
    if not _is_ours(folder):
        return f"{folder}, which belongs to somebody else"
    folder.chmod(0o711)
    _BUILT.mkdir(parents=True, exist_ok=True)
    if not (folder / "media").exists():
        (folder / "media").symlink_to(_BUILT)
    os.environ["TEST_ENVIRONMENT_DRIVERS"] = "file_copy,libvirt"
    os.environ["TEST_ENVIRONMENT_MACHINES"] = str(folder)
    return ""


def write_disk(target: Path, *, agent_id: str, label: str, facts: bytes) -> str:
    """The disk of a till server, with what must not be in a copy. Returns why it cannot be made; empty: it is there."""
    config = {
        "url": "https://portal.example.org", "controller_id": agent_id, "token_file": "token", "root": f"/{_CI_ROOT}",
        "disk_reserve_bytes": 1_000_000,
    }  # fmt: skip
    files = {**_FILES, f"{_CI_ROOT}/facts.json": facts}
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        guest = TinyGuest(_BUILT)
        guest.make_disk(target, config=config, files=files, more=lambda root: put_on_disk(root / _CI_ROOT, label))
    except DriverError as error:
        return f"a disk, which cannot be made ({error})"
    return ""


def left_over(data: Path) -> list[str]:
    """Disks of images and environments, and machines, that are still there."""
    folder = folder_of(data)
    if not _is_ours(folder):
        return []
    return [*_disks(folder), *(f"process {pid}" for pid in _machines(folder))]


def end(data: Path) -> list[str]:
    """After the test host has ended: ends machines that it left, and removes the folder once no disk is in it.

    Returns what was still there.
    """
    folder = folder_of(data)
    if not _is_ours(folder):
        return []
    left = left_over(data)
    for process in _machines(folder):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)
    if not Bound(END_SECONDS).wait(lambda: not _users(folder)):
        left += [f"process {pid}" for pid in _users(folder)]
    if not _disks(folder):
        shutil.rmtree(folder)
    return left


def remove(data: Path) -> None:
    """All of it, with its disks."""
    folder = folder_of(data)
    if not _is_ours(folder):
        return
    for disk in _disks(folder):
        Path(disk).unlink()
    end(data)


def _is_ours(folder: Path) -> bool:
    """Whether it is there and nobody else made it: everybody may write where it lies, and knows its name."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _disks(folder: Path) -> list[str]:
    return sorted(str(disk) for disk in folder.rglob("*.qcow2"))


def _machines(folder: Path) -> list[int]:
    return [process for run in folder.glob("h*/run/qemu") for process in living_machines(run)]


def _users(folder: Path) -> list[int]:
    """All processes whose command names something in the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{folder}/".encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


if __name__ == "__main__":
    for name in sys.argv[1:]:
        remove(Path(name))
