"""Both ends of a reception: what the capture medium says, and the test host's part that receives disks."""

import hashlib
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from test_environments.drivers.libvirt.driver import Libvirt
from test_environments.runner.receptions import ReceptionDesk
from tests.factories import NOW

DISK = b"a disk" * 1000 + b"\0" * 3_000_000


class Sender:
    """Speaks the medium's side."""

    def __init__(self, certificate: Path) -> None:
        self._address = settings.TEST_ENVIRONMENT_RECEIVER[:2]
        self._context = ssl.create_default_context(cafile=str(certificate))

    def send(self, *parts: bytes) -> bytes:
        with (
            socket.create_connection(self._address, timeout=30) as line,
            self._context.wrap_socket(line, server_hostname="capture") as secure,
        ):
            with suppress(OSError):
                for part in parts:
                    secure.sendall(part)
                return secure.recv(4096)
            return b""


def transfer(secret: str, disk: bytes = DISK, inventory: str = '{"maker": "x"}') -> list[bytes]:
    checksum = hashlib.sha256(disk).hexdigest()
    return [f"ITSM-CAPTURE 1\n{secret}\n{inventory}\n{len(disk)}\n".encode(), disk, f"{checksum}\n".encode()]


class Desk:
    """The test host's part that receives disks, in a thread as the host's loop has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stop = threading.Event()
        self._driver = Libvirt(folder, portal="x", options={}, say=print)
        self._desk = ReceptionDesk({"libvirt": self._driver}, print)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        from django.db import connection

        while not self._stop.is_set():
            self._desk.turn(NOW)
            self._stop.wait(0.1)
        self._desk.close()
        connection.close()

    def end(self) -> None:
        self._stop.set()
        self._thread.join(60)
        self._driver.close()
