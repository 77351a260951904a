"""The portal behind Debian's nginx, as docs/operations/nginx.conf sets it up; everybody speaks through sockets."""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from django.conf import settings as django_settings
from django.db import connection

from benchmarks import nginx
from tests.distribution.device_client import Device
from tests.distribution.fleet import make_batch, make_fleet, queue, stored_version
from tests.factories import make_product, make_version

SIZE = 20_000_000


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket: no test depends on a port."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))


class Site:
    """The portal as one device reaches it through nginx."""

    def __init__(self, folder: Path, device: Device, path: str, content: bytes, sha1: str) -> None:
        self.socket, self.device, self.path, self.content, self.sha1 = folder / "nginx", device, path, content, sha1

    def ask(self, method: str, path: str, **headers: str) -> http.client.HTTPResponse:
        connection = SocketConnection(self.socket)
        connection.request(method, path, headers=self.device.headers | headers)
        return connection.getresponse()

    def get(self, **headers: str) -> http.client.HTTPResponse:
        return self.ask("GET", self.path, **headers)

    def begin_slowly(self) -> socket.socket:
        """A download whose client takes the head of the answer and then nothing more."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        client.connect(str(self.socket))
        head = "".join(f"{name}: {value}\r\n" for name, value in self.device.headers.items())
        client.sendall(f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())
        assert client.recv(1024).startswith(b"HTTP/1.1 200")
        return client


def _configuration(folder: Path) -> str:
    """The documented file with the places that it tells to adapt."""
    places = {
        nginx.PEOPLE: f"server unix:{folder}/web;",
        nginx.DEVICES: f"server unix:{folder}/web;",
        "listen": f"listen unix:{folder}/nginx;",
        "server_name": "server_name localhost;",
        "alias": f"alias {django_settings.MEDIA_ROOT}/;",
    }
    return nginx.configuration(folder, places)


def _environment() -> dict[str, str]:
    """The settings of the test for gunicorn; its database is the test's."""
    given = connection.settings_dict
    login = f"{given['USER']}:{quote(given['PASSWORD'], safe='')}@{given['HOST']}:{given['PORT']}"
    return {
        **os.environ,
        "DATABASE_URL": f"postgres://{login}/{given['NAME']}",
        "MEDIA_ROOT": str(django_settings.MEDIA_ROOT),
        "X_ACCEL_LOCATION": "/artifacts/",
    }


@pytest.fixture
def site(transactional_db: None, settings, tmp_path: Path) -> Iterator[Site]:
    """gunicorn with two threads behind nginx; one device that was offered a file of 20 MB."""
    program = nginx.program()
    if program is None:
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    settings.MEDIA_ROOT = tmp_path / "media"
    product = make_product()
    make_version(product, "1.0")
    new = stored_version(product, "2.0", size=SIZE)
    (ci,) = make_fleet(1, product, "1.0")
    (deployment,) = queue(make_batch(), [ci], new)
    artifact = new.artifacts.get()
    device = Device(ci)
    assert device.fetch(deployment).status_code == 200
    path = f"{device.base}/softwaremodules/{artifact.version_id}/artifacts/{artifact.filename}"
    content = Path(artifact.file.path).read_bytes()
    # Sockets have short names only.
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folder = Path(name)
        (folder / "nginx.conf").write_text(_configuration(folder))
        web = [sys.executable, "-m", "gunicorn", "itsm_portal.wsgi", "--config", "python:itsm_portal.web_server"]
        web += ["--bind", f"unix:{folder}/web", "--workers", "1", "--threads", "2", "--log-level", "warning"]
        with (
            running(web, cwd=django_settings.BASE_DIR, env=_environment()) as first,
            running([program, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]) as second,
        ):
            found = Site(folder, device, path, content, artifact.sha1)
            wait_until(lambda: _answers(found), first, second)
            yield found


class running:
    """A process for the length of a `with`."""

    def __init__(self, argv: list[str], **options: object) -> None:
        self._argv, self._options = argv, options

    def __enter__(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(self._argv, **self._options)  # type: ignore[call-overload]
        return self._process

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _answers(site: Site) -> bool:
    try:
        return site.ask("GET", "/healthz").status == 200
    except OSError:
        return False


def wait_until(is_so: Callable[[], bool], *processes: subprocess.Popen[bytes]) -> None:
    """Waits for the processes to be ready; fails when one of them ends."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert all(process.poll() is None for process in processes), "gunicorn or nginx ended"
        if is_so():
            return
        time.sleep(0.05)
    raise AssertionError("gunicorn or nginx does not answer")
