"""Takes one disk, over TLS, from the one medium that has the token.

What arrives is hostile input: bounded in length and time, checked against the sender's sha256, and started only by
errands. The certificate lies beside the disk and stays, so that a medium is good for the next runner, too.
"""

import hashlib
import hmac
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from test_environments.drivers.errors import Capacity, Failed, Unavailable
from test_environments.drivers.libvirt.disk_images import need_room
from test_environments.drivers.receiving import ArrivedDisk, Progress
from test_environments.drivers.texts import Text as _

_SERVER_NAME = "capture"  # in the certificate; the medium knows no other
_BLOCK = 1024 * 1024
_LINE_BYTES = 16 * 1024
_GREETING_SECONDS = 15.0  # until the token is there
_QUIET_SECONDS = 60.0  # without a byte: the line is dead
_CALLERS = 8  # at a time
_VALID = timedelta(days=3650)  # the clock of an old machine may be wrong; the medium does not look at it


class Receiver:
    """Listens until it is closed, also between two tries. `place` is the folder of the disk."""

    def __init__(self, place: Path, address: str, port: int, token_sha256: str, *, say: Callable[[str], None]) -> None:
        """Raises Unavailable."""
        self._place = place
        self._token_sha256 = token_sha256
        self._say = say
        self._transfer = threading.Lock()
        self._callers = threading.BoundedSemaphore(_CALLERS)
        self._lines: set[socket.socket] = set()
        self._is_closed = False
        self.progress = Progress()
        self.arrived: ArrivedDisk | None = None
        pair, self.certificate = _pair(place)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.load_cert_chain(pair)
        try:
            self._socket = socket.create_server((address, port))
        except OSError as error:
            raise Unavailable(
                _(
                    "%(address)s:%(port)s cannot be listened on: %(reason)s.",
                    address=address,
                    port=port,
                    reason=error.strerror,
                )
            ) from None
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes nothing more and cuts what is under way; what is incomplete goes. Waits for its end."""
        self._is_closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for line in list(self._lines):
            _cut(line)
        with self._transfer:
            if self.arrived is None:
                (self._place / "disk.raw").unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                line, address = self._socket.accept()
            except OSError:
                return  # closed
            if not self._callers.acquire(blocking=False):
                line.close()
                continue
            threading.Thread(target=self._serve, args=(line, str(address[0])), daemon=True).start()

    def _serve(self, line: socket.socket, address: str) -> None:
        try:
            with self._context.wrap_socket(line, server_side=True, do_handshake_on_connect=False) as secure:
                self._lines.add(secure)
                # All of it in time: a byte now and then keeps no place.
                greeting = threading.Timer(_GREETING_SECONDS, _cut, [secure])
                greeting.start()
                try:
                    secure.settimeout(_GREETING_SECONDS)
                    secure.do_handshake()
                    self._answer(secure, address, greeting)
                finally:
                    greeting.cancel()
                    self._lines.discard(secure)
        except (OSError, ValueError) as error:  # ValueError: it was cut in the middle of the handshake
            self._say(f"capture: from {address}: {error}")
        finally:
            self._callers.release()

    def _answer(self, line: ssl.SSLSocket, address: str, greeting: threading.Timer) -> None:
        try:
            sha256 = self._take(line, address, greeting)
        except (Failed, Capacity) as error:
            self._say(f"capture: from {address}: {error}")
            line.sendall(f"refused {error}\n".encode())
        else:
            self._say(f"capture: the disk from {address} has arrived, sha256 {sha256}")
            line.sendall(f"accepted {sha256}\n".encode())

    def _take(self, line: ssl.SSLSocket, address: str, greeting: threading.Timer) -> str:
        """Reads one transfer. Raises Failed, Capacity, OSError."""
        stream = line.makefile("rb")
        name, token = _line(stream), _line(stream)
        told = hashlib.sha256(token.encode()).hexdigest()
        if name != "ITSM-CAPTURE 1" or not hmac.compare_digest(told, self._token_sha256):
            raise Failed(_("This medium is not expected (any more)."))
        greeting.cancel()
        line.settimeout(_QUIET_SECONDS)
        if not self._transfer.acquire(blocking=False):
            raise Failed(_("A transfer is under way already."))
        try:
            if self._is_closed or self.arrived is not None:
                raise Failed(_("The disk has arrived already, or is expected no longer."))
            return self._take_disk(stream, address)
        except (Failed, Capacity, OSError) as error:
            if self.arrived is None:
                (self._place / "disk.raw").unlink(missing_ok=True)
                why = str(error) if isinstance(error, OSError) else error.text
                self.progress = Progress(sender=address, refusal=why)
            raise
        finally:
            self._transfer.release()

    def _take_disk(self, stream: BinaryIO, address: str) -> str:
        inventory = _inventory(_line(stream))
        size = _number(_line(stream))
        need_room(self._place, size)
        disk = self._place / "disk.raw"

        def tell(received: int) -> None:
            self.progress = Progress(size, received, address, inventory)

        tell(0)
        sha256 = _write(stream, disk, size, tell)
        if _line(stream) != sha256:
            raise Failed(_("What arrived has another checksum than what was sent."))
        arrived = ArrivedDisk(sha256, size, inventory)
        note_arrival(self._place, disk.name, arrived)
        self.arrived = arrived
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        return sha256


def _cut(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def note_arrival(place: Path, disk: str, arrived: ArrivedDisk) -> None:
    """Writes beside a disk that it is complete. In one step."""
    facts = {"disk": disk, "sha256": arrived.sha256, "size": arrived.size, "inventory": dict(arrived.inventory)}
    new = place / ".received.json"
    new.write_text(json.dumps(facts))
    new.replace(place / "received.json")


def _write(stream: BinaryIO, disk: Path, size: int, tell: Callable[[int], None]) -> str:
    """Writes the disk with holes for zeros; its sha256."""
    digest, left = hashlib.sha256(), size
    disk.unlink(missing_ok=True)
    with open(os.open(disk, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        while left:
            block = stream.read(min(_BLOCK, left))
            if not block:
                raise Failed(_("The line broke; boot the machine from the medium again."))
            digest.update(block)
            left -= len(block)
            if block.count(0) == len(block):
                file.seek(len(block), os.SEEK_CUR)
            else:
                file.write(block)
            tell(size - left)
        file.truncate(size)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _line(stream: BinaryIO) -> str:
    line = stream.readline(_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise Failed(_("The line broke, or what arrived is not from a capture medium."))
    return line[:-1].decode(errors="replace")


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) == 0:
        raise Failed(_("The medium did not tell the size of the disk."))
    return int(text)


def _inventory(text: str) -> dict[str, Any]:
    """What the machine says of itself; nothing where a database could not keep it."""
    if re.search(r"\\u(0000|[dD][89a-fA-F])", text):
        return {}
    try:
        found = json.loads(text, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _pair(place: Path) -> tuple[Path, bytes]:
    """The file with key and certificate of this place, made at the first time, and the certificate alone."""
    path = place / "receiver.pem"
    if not path.exists():
        certificate, key = _certificate()
        new = place / ".receiver.pem"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(key + certificate)
        new.replace(path)
    begin = b"-----BEGIN CERTIFICATE-----"
    return path, begin + path.read_bytes().partition(begin)[2]


def _certificate() -> tuple[bytes, bytes]:
    """A certificate of its own for one medium, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _SERVER_NAME)])
    now = datetime.fromtimestamp(time.time(), UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_SERVER_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private
