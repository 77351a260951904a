"""The tiny guest as a production CI, and looking into disks and processes from outside."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from test_environments.drivers.bound import Bound
from test_environments.drivers.libvirt.small_systems.tiny_guest import TinyGuest

MEDIA = ".tools/machines"
CONFIG = {
    "url": "https://production.example.org", "controller_id": "till-7", "token_file": "token", "root": "/srv/till",
    "poll_min_seconds": 0.5, "disk_reserve_bytes": 1_000_000,
}  # fmt: skip


class Source:
    """Writes the disk of one physical machine; the same parts for all of them."""

    def __init__(self, guest: TinyGuest) -> None:
        self._guest = guest

    def write(self, target: Path) -> Path:
        files = {
            "etc/update-agent/token": b"the token of production\n",
            "etc/cron.d/invoices": b"0 4 * * * send-invoices\n",
            "etc/mail.json": b'{"relay": "mail.example.org"}',
        }
        self._guest.make_disk(target, config=CONFIG, files=files, more=_install)
        return target


def _install(root: Path) -> None:
    for version in ("0.9", "1.0"):
        folder = root / "srv/till/billing/versions" / version
        folder.mkdir(parents=True)
        (folder / "app.txt").write_text(f"billing {version}")
        (folder / "software.json").write_text(json.dumps({"product": "billing", "version": version}))
    (root / "srv/till/billing/current").symlink_to("versions/1.0")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def until(condition: Callable[[], object], *, seconds: float, say: Callable[[], str] = str) -> None:
    """Waits until the condition holds; fails after so many seconds with what `say` tells."""
    assert Bound(seconds).wait(condition, every=0.2), f"the condition did not come to hold; {say()}"


def machines_below(folder: Path) -> list[int]:
    """QEMU processes and owners of hypervisors that have to do with a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"{folder}/".encode() in words and (b"qemu-system" in words or b"owner.py" in words):
            found.append(int(entry.name))
    return found


def read_file(disk: Path, path: str, work: Path) -> str:
    """A file of the guest's system on a disk that no machine uses; empty when it is not there."""
    raw = work / "look.raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk, raw], check=True, timeout=60)
    try:
        table = raw.open("rb").read(512)
        offset = int.from_bytes(table[446 + 16 + 8 : 446 + 16 + 12], "little") * 512
        command = ["/usr/sbin/debugfs", "-R", f"cat /{path}", f"{raw}?offset={offset}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return "" if "File not found" in done.stderr else done.stdout
    finally:
        raw.unlink()
