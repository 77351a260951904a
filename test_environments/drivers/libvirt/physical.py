"""Physical machines: a medium that boots on one and streams its disk, and the receiver of the stream.

    incoming/<name>/medium.img       the medium: a disk image for a USB stick
                   /disk.raw         what arrived; complete once `received.json` is there
                   /received.json    sha256, size, what hardware the machine has

Each medium carries one token, good for one complete transfer, and the receiver's certificate, made for it alone. What
arrives is hostile input: bounded in length and time, checked against the sender's sha256, and opened only by errands.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Capacity, Failed, NotFound, Unavailable, Unsupported
from test_environments.drivers.libvirt.disk_images import need_room
from test_environments.drivers.libvirt.small_systems import packages
from test_environments.drivers.libvirt.small_systems.boot_disk import PACKAGES, make_boot_disk
from test_environments.drivers.libvirt.small_systems.build import small_system
from test_environments.drivers.libvirt.small_systems.initramfs import Initramfs

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SERVER_NAME = "capture"  # in the certificate; the medium knows no other
_BOOT_MB = 32
_BLOCK = 1024 * 1024
_LINE_BYTES = 16 * 1024
_QUIET_SECONDS = 60.0  # without a byte: the line is dead
_VALID = timedelta(days=3650)  # the clock of an old machine may be wrong; the medium does not look at it


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the medium sends to, and how it comes into the network. `address` empty: by DHCP."""

    receiver: str
    port: int
    address: str = ""  # own address with prefix length, such as 192.0.2.20/24
    gateway: str = ""
    disk: str = ""  # such as sda; empty: the only one there is


@dataclass(frozen=True, slots=True)
class Received:
    """A disk that arrived whole."""

    disk: Path
    sha256: str
    size: int
    inventory: dict[str, Any]


class Incoming:
    """The folder of disks that are expected or have arrived."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _place(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise Unsupported(f"{name!r} is no name of a disk: letters, digits, dots and dashes.")
        return self._folder / name

    def received(self, name: str) -> Received:
        """A disk that arrived. Raises NotFound when none is expected, Unavailable when it is not complete yet."""
        place = self._place(name)
        if not place.is_dir():
            raise NotFound(f"No disk {name} is expected; make a capture medium for it first.")
        try:
            facts = json.loads((place / "received.json").read_text())
        except FileNotFoundError:
            raise Unavailable(
                f"The disk {name} has not arrived yet: boot the machine from its capture medium."
            ) from None
        return Received(place / "disk.raw", facts["sha256"], facts["size"], facts["inventory"])

    def forget(self, name: str) -> None:
        """Removes what arrived, and the medium."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._place(name))

    def receiver(self, name: str, address: str, port: int, *, say: Callable[[str], None]) -> "Receiver":
        """Expects a disk under a new name; listens at once. Raises Unsupported (the name is taken), Unavailable."""
        place = self._place(name)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            place.mkdir(mode=0o700)
        except FileExistsError:
            raise Unsupported(f"A disk {name} is expected or has arrived already; choose another name.") from None
        return Receiver(place, address, port, say=say)


class Receiver:
    """Takes one disk, over TLS, from the one medium that has the token. Close it at the end."""

    def __init__(self, place: Path, address: str, port: int, *, say: Callable[[str], None]) -> None:
        self._place = place
        self._say = say
        self._token = secrets.token_urlsafe(32)
        self._done = threading.Event()
        self._lock = threading.Lock()
        self.certificate, key = _certificate()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        with tempfile.TemporaryDirectory(dir=place) as folder:
            pair = Path(folder) / "pair.pem"
            pair.touch(0o600)
            pair.write_bytes(key + self.certificate)
            self._context.load_cert_chain(pair)
        try:
            self._socket = socket.create_server((address, port))
        except OSError as error:
            shutil.rmtree(place)
            raise Unavailable(f"{address}:{port} cannot be listened on: {error.strerror}.") from None
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def make_medium(self, settings: Settings, media: Path, *, pause_seconds: int = 60) -> Path:
        """Writes the medium: a disk image to be put on a USB stick. Raises Unavailable (no apt), Failed."""
        values = {
            "receiver": settings.receiver, "port": str(settings.port), "token": self._token, "disk": settings.disk,
            "address": settings.address, "gateway": settings.gateway, "pause": str(pause_seconds),
        }  # fmt: skip
        for name, value in values.items():
            if not re.fullmatch(r"[A-Za-z0-9._:/-]*", value):
                raise Unsupported(f"{value!r} cannot be the {name} of a capture medium.")
        own = Initramfs()
        own.file(
            "capture/settings", "".join(f"{name}={value}\n" for name, value in values.items()).encode(), mode=0o600
        )
        own.file("capture/receiver.pem", self.certificate)
        system = small_system(media)
        medium = self._place / "medium.img"
        with tempfile.TemporaryDirectory(dir=media, prefix=".new-") as folder:
            tools = Path(folder) / "tools"
            packages.unpack(PACKAGES, tools, keep=media / "packages")
            make_boot_disk(
                medium, tools, boot_mb=_BOOT_MB, parts=[],
                files={"kernel": system.kernel, "initrd": system.capture, "settings.cpio": own.plain()},
                arguments="console=ttyS0 console=tty0 quiet panic=-1 itsm.errand=capture",
            )  # fmt: skip
        medium.chmod(0o600)
        return medium

    def wait(self, bound: Bound) -> bool:
        """Whether the disk arrived within the bound. Raises Interrupted."""
        return bound.wait(self._done.is_set, every=0.2)

    def close(self) -> None:
        """Takes nothing more. What is incomplete goes, the medium too: its token is worth nothing any more."""
        self._stop_listening()
        with suppress(FileNotFoundError):
            (self._place / "medium.img").unlink()
        if not self._done.is_set():
            with self._lock:
                shutil.rmtree(self._place, ignore_errors=True)

    def _stop_listening(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while not self._done.is_set():
            try:
                line, address = self._socket.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(line, str(address[0])), daemon=True).start()

    def _serve(self, line: socket.socket, address: str) -> None:
        try:
            line.settimeout(_QUIET_SECONDS)
            with self._context.wrap_socket(line, server_side=True) as secure, secure.makefile("rb") as stream:
                try:
                    sha256 = self._take(stream)
                except (Failed, Capacity) as error:
                    self._say(f"capture: from {address}: {error}")
                    secure.sendall(f"refused {error}\n".encode())
                else:
                    self._say(f"capture: the disk from {address} has arrived, sha256 {sha256}")
                    secure.sendall(f"accepted {sha256}\n".encode())
        except OSError as error:
            self._say(f"capture: from {address}: {error}")

    def _take(self, stream: BinaryIO) -> str:
        """Reads one transfer. Raises Failed, Capacity, OSError."""
        if _line(stream) != "ITSM-CAPTURE 1" or not hmac.compare_digest(_line(stream).encode(), self._token.encode()):
            raise Failed("This medium is not expected (any more).")
        if not self._lock.acquire(blocking=False):
            raise Failed("A transfer is under way already.")
        try:
            if self._done.is_set():
                raise Failed("The disk has arrived already.")
            return self._take_disk(stream)
        finally:
            self._lock.release()

    def _take_disk(self, stream: BinaryIO) -> str:
        inventory = _inventory(_line(stream))
        size = _number(_line(stream))
        need_room(self._place, size)
        disk = self._place / "disk.raw"
        sha256 = _write(stream, disk, size)
        if _line(stream) != sha256:
            disk.unlink()
            raise Failed("What arrived has another checksum than what was sent.")
        facts = {"sha256": sha256, "size": size, "inventory": inventory}
        new = self._place / ".received.json"
        new.write_text(json.dumps(facts))
        new.replace(self._place / "received.json")
        self._stop_listening()
        self._done.set()
        return sha256


def _write(stream: BinaryIO, disk: Path, size: int) -> str:
    """Writes the disk with holes for zeros; its sha256."""
    digest, left = hashlib.sha256(), size
    disk.unlink(missing_ok=True)
    with open(os.open(disk, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        while left:
            block = stream.read(min(_BLOCK, left))
            if not block:
                raise Failed("The line broke; boot the machine from the medium again.")
            digest.update(block)
            left -= len(block)
            if block.count(0) == len(block):
                file.seek(len(block), os.SEEK_CUR)
            else:
                file.write(block)
        file.truncate(size)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _line(stream: BinaryIO) -> str:
    line = stream.readline(_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise Failed("The line broke, or what arrived is not from a capture medium.")
    return line[:-1].decode(errors="replace")


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) == 0:
        raise Failed("The medium did not tell the size of the disk.")
    return int(text)


def _inventory(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


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
