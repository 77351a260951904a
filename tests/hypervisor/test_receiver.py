"""The receiver of physical machines' disks: whom it believes, and what it leaves of whom it does not."""

import hashlib
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from test_environments.drivers.errors import Unavailable, Unsupported
from test_environments.drivers.libvirt.physical import Incoming
from test_environments.drivers.libvirt.receiver import Receiver
from tests.hypervisor.guests import until
from tests.hypervisor.physical import SECRET, expected
from tests.hypervisor.scenes import media


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
