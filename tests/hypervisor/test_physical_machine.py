"""From a physical machine, by the capture medium, to a virtual one that boots; and a copy of that while it runs."""

import hashlib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from test_environments.drivers.errors import NotFound, Unavailable, Unsupported
from test_environments.drivers.interface import Consistency, Power, Recipe
from test_environments.drivers.libvirt.medium import make_medium
from test_environments.drivers.libvirt.physical import Incoming
from test_environments.drivers.libvirt.receiver import Receiver
from test_environments.drivers.receiving import ExpectedDisk, with_token
from tests.hypervisor.guests import Source, until
from tests.hypervisor.scenes import SECONDS, Machines, media

pytestmark = pytest.mark.timeout(900)

SECRET = "the-43-characters-that-only-this-medium-has"


def boot(medium: Path, disk: Path, log: Path) -> "subprocess.Popen[bytes]":
    """An emulated PC with a BIOS, an IDE disk, an Intel network card, and the medium in a USB port."""
    command = [
        *("qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-cpu", "max", "-m", "256", "-no-reboot"),
        *("-display", "none", "-monitor", "none", "-serial", f"file:{log}", "-nic", "user,model=e1000"),
        *("-drive", f"file={disk},format=raw,if=ide,index=0", "-device", "qemu-xhci"),
        *("-drive", f"if=none,id=stick,file={medium},format=raw,readonly=on"),
        *("-device", "usb-storage,drive=stick,bootindex=0,removable=on"),
    ]
    return subprocess.Popen(command)


def expected(name: str) -> ExpectedDisk:
    return ExpectedDisk(name, hashlib.sha256(SECRET.encode()).hexdigest(), "127.0.0.1", 0)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_physical_machine_becomes_a_virtual_one_and_is_copied_while_it_runs(
    machines: Machines, place: Path, tmp_path: Path, physical: Source
) -> None:
    disk = physical.write(tmp_path / "till-7.raw")
    before, log = sha256(disk), tmp_path / "screen.log"
    incoming = Incoming(place / "incoming", media())
    receiver = incoming.receiver(expected("till-7"))
    bare, medium = tmp_path / "bare.img", tmp_path / "medium.img"
    there = ExpectedDisk("till-7", "", "10.0.2.2", receiver.port)  # as the machine sees this host
    make_medium(bare, there, receiver.certificate, media(), pause_seconds=1)
    medium.write_bytes(b"".join(with_token(bare, SECRET)))
    with pytest.raises(Unavailable, match="has not arrived"):
        machines.capture("medium", "till-7")
    machine = boot(medium, disk, log)
    try:
        until(lambda: receiver.arrived, seconds=SECONDS, say=lambda: log.read_text(errors="replace")[-2000:])
        machine.wait(60)  # it switches itself off
    finally:
        machine.kill()
        machine.wait()
        receiver.close()
    received = incoming.received("till-7")
    assert received.sha256 == before == sha256(disk), "the machine's disk is as it was"
    assert [card["driver"] for card in received.inventory["network"]] == ["e1000"]
    assert received.inventory["disk_bytes"] == disk.stat().st_size

    image = machines.capture("medium", "till-7")
    assert image.source_sha256 == before
    assert image.baseline == {"billing": "1.0"}
    environment = machines.create(image)
    machines.deliver(environment, "http://127.0.0.1:9", Recipe("schedulers", remove=("etc/cron.d/*",)))
    machines.driver.start(environment, machines.bound())
    until(
        lambda: machines.says(environment, "agent 1.1.0 for copy-1"),
        seconds=SECONDS, say=lambda: machines.driver.console(environment),
    )  # fmt: skip
    assert machines.says(environment, "root on /dev/vda2, network by virtio_net")

    copy = machines.capture("domain", f"env-{environment}", Consistency.CRASH)
    assert (copy.baseline, copy.consistency) == ({"billing": "1.0"}, Consistency.CRASH)
    assert machines.driver.observe(environment, machines.bound()).power is Power.RUNNING
    with pytest.raises(Unsupported, match="frozen"):  # no guest agent in it
        machines.capture("domain", f"env-{environment}", Consistency.FROZEN)
    with pytest.raises(NotFound):
        machines.capture("domain", "nobody")


class Sender:
    """Speaks the medium's side, as it should or not."""

    def __init__(self, receiver: Receiver, folder: Path) -> None:
        self._port = receiver.port
        (folder / "receiver.pem").write_bytes(receiver.certificate)
        self._context = ssl.create_default_context(cafile=str(folder / "receiver.pem"))

    def send(self, *parts: bytes) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", self._port), timeout=30) as line,
            self._context.wrap_socket(line, server_hostname="capture") as secure,
        ):
            with suppress(OSError):  # it may hang up in the middle
                for part in parts:
                    secure.sendall(part)
                return secure.recv(4096)
            return b""


@pytest.fixture
def receiver(place: Path) -> Iterator[Receiver]:
    receiver = Incoming(place / "incoming", media()).receiver(expected("till-7"))
    yield receiver
    receiver.close()


def transfer(token: str, disk: bytes, checksum: str = "", inventory: str = '{"maker": "x"}') -> list[bytes]:
    checksum = checksum or hashlib.sha256(disk).hexdigest()
    return [f"ITSM-CAPTURE 1\n{token}\n{inventory}\n{len(disk)}\n".encode(), disk, f"{checksum}\n".encode()]


def test_only_the_medium_with_the_token_is_believed_and_only_once(receiver: Receiver, place: Path, tmp_path) -> None:
    sender, disk = Sender(receiver, tmp_path), b"disk" * 1000 + b"\0" * 5_000_000
    incoming = Incoming(place / "incoming", media())
    assert sender.send(*transfer("guessed", disk)[:1]).startswith(b"refused This medium is not expected")
    assert b"checksum" in sender.send(*transfer(SECRET, disk, "0" * 64))
    with pytest.raises(Unavailable):
        incoming.received("till-7")
    assert sender.send(*transfer(SECRET, disk)).startswith(b"accepted ")
    assert incoming.received("till-7").disk.read_bytes() == disk
    assert incoming.received("till-7").disk.stat().st_blocks * 512 < 2_000_000, "holes stay holes"
    with pytest.raises(OSError, match="refused"):
        sender.send(*transfer(SECRET, disk))


@pytest.mark.parametrize(
    "sent",
    [
        [b"GET / HTTP/1.1\r\n\r\n"],
        [b"ITSM-CAPTURE 1\n" + b"x" * 100_000],
        [b"ITSM-CAPTURE 1\nTOKEN\n{}\n-5\n"],
        [b"ITSM-CAPTURE 1\nTOKEN\nno json\n99999999999999\n"],
    ],
)
def test_whatever_else_arrives_is_refused_and_leaves_nothing(
    receiver: Receiver, place: Path, tmp_path: Path, sent: list[bytes]
) -> None:
    parts = [part.replace(b"TOKEN", SECRET.encode()) for part in sent]
    answer = Sender(receiver, tmp_path).send(*parts)
    assert answer.startswith(b"refused") or not answer, answer
    assert not (place / "incoming/till-7/disk.raw").exists()


def test_a_line_that_breaks_leaves_no_disk_and_another_try_succeeds(receiver: Receiver, place: Path, tmp_path) -> None:
    sender, disk = Sender(receiver, tmp_path), b"disk" * 100_000
    first, rest = transfer(SECRET, disk)[:2]
    with (
        socket.create_connection(("127.0.0.1", receiver.port), timeout=30) as line,
        sender._context.wrap_socket(line, server_hostname="capture") as secure,
    ):
        secure.sendall(first + rest[:1000])
    until(lambda: receiver.progress.refusal, seconds=30)
    assert not (place / "incoming/till-7/disk.raw").exists()
    assert sender.send(*transfer(SECRET, disk)).startswith(b"accepted ")


def test_each_disk_has_a_certificate_of_its_own_that_stays(place: Path) -> None:
    incoming = Incoming(place / "incoming", media())
    receivers = [incoming.receiver(expected(name)) for name in ("a", "b", "a")]
    for receiver in receivers:
        receiver.close()
    first, other, again = (receiver.certificate for receiver in receivers)
    assert first == again != other
    with pytest.raises(Unsupported, match="no name"):
        incoming.receiver(expected("../x"))
