"""A physical machine, emulated by a QEMU unknown to the driver: it sends its disk by the capture medium."""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

from test_environments.drivers.libvirt.medium import make_medium
from test_environments.drivers.libvirt.physical import Incoming, Received
from test_environments.drivers.receiving import ExpectedDisk, with_token
from tests.hypervisor.guests import until
from tests.hypervisor.scenes import SECONDS, media

SECRET = "the-43-characters-that-only-this-medium-has"


def expected(name: str) -> ExpectedDisk:
    return ExpectedDisk(name, hashlib.sha256(SECRET.encode()).hexdigest(), "127.0.0.1", 0)


def boot_physical(medium: Path, disk: Path, log: Path) -> "subprocess.Popen[bytes]":
    """An emulated PC with a BIOS, an IDE disk, an Intel network card, and the medium in a USB port."""
    command = [
        *("qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-cpu", "max", "-m", "256", "-no-reboot"),
        *("-display", "none", "-monitor", "none", "-serial", f"file:{log}", "-nic", "user,model=e1000"),
        *("-drive", f"file={disk},format=raw,if=ide,index=0", "-device", "qemu-xhci"),
        *("-drive", f"if=none,id=stick,file={medium},format=raw,readonly=on"),
        *("-device", "usb-storage,drive=stick,bootindex=0,removable=on"),
    ]
    return subprocess.Popen(command)


def boot_until_sent(medium: Path, disk: Path, screen: Path, has_arrived: Callable[[], object]) -> None:
    """Boots the machine until its disk has arrived and it has switched itself off.

    On a busy host its timer may be emulated so late that the kernel gives up: it is booted again, as a person would.
    """
    for _try in range(3):
        machine = boot_physical(medium, disk, screen)
        try:
            machine.wait(SECONDS)
        finally:
            machine.kill()
            machine.wait()
        if "capture: accepted" in screen.read_text(errors="replace"):
            break
    until(has_arrived, seconds=SECONDS, say=lambda: screen.read_text(errors="replace")[-2000:])


def send_disk(disk: Path, incoming: Incoming, name: str, work: Path) -> Received:
    """Makes a medium, boots the machine with this disk from it, and waits until it has switched itself off."""
    receiver = incoming.receiver(expected(name))
    bare, medium, screen = work / "bare.img", work / "medium.img", work / "screen.log"
    there = ExpectedDisk(name, "", "10.0.2.2", receiver.port)  # as the machine sees this host
    make_medium(bare, there, receiver.certificate, media(), pause_seconds=1)
    medium.write_bytes(b"".join(with_token(bare, SECRET)))
    try:
        boot_until_sent(medium, disk, screen, lambda: receiver.arrived)
    finally:
        receiver.close()
    return incoming.received(name)
