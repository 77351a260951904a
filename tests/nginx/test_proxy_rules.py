"""What the documented proxy lets through, and which device it takes a certificate for."""

import contextlib
import http.client
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from benchmarks import nginx
from tests.nginx.conftest import Site, SocketConnection, running, wait_until

PAGE = Path(settings.BASE_DIR) / "docs/operations/production.md"


@pytest.fixture
def names() -> Iterator[Path]:
    """The socket of an nginx that says which device the documented map sees in a certificate's name."""
    program = nginx.program()
    if program is None:
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    (mapped,) = re.findall(r"^map .*?\$device \{.*?^\}$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    mapped = mapped.replace("$ssl_client_verify", "$http_x_verified").replace("$ssl_client_s_dn", "$http_x_dn")
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folder = Path(name)
        server = f'server {{ listen unix:{folder}/nginx; location / {{ return 200 "[$device]"; }} }}'
        (folder / "nginx.conf").write_text(nginx.whole(folder, f"{mapped}\n{server}"))
        with running([program, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]) as process:
            wait_until(lambda: (folder / "nginx").exists(), process)
            yield folder / "nginx"


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("CN=till-7,O=Plant,C=DE", "till-7"),
        ("O=Plant,CN=till-7", "till-7"),
        ("emailAddress=x@example.org,CN=till-7,C=DE", "till-7"),
        ("CN=attacker,O=x\\,CN=till-7", "attacker"),
        ("O=x\\,CN=till-7,CN=attacker", "attacker"),
        ("CN=attacker,CN=till-7", ""),
        ("CN=till-7+CN=attacker", ""),
        ("O=x+CN=till-7", ""),
        ("CN=till\\,7", ""),
        ("O=till-7", ""),
        ("", ""),
    ],
)
def test_the_name_in_a_certificate_is_the_one_that_the_authority_gave(names: Path, name: str, device: str) -> None:
    def told(verified: str) -> str:
        connection = SocketConnection(names)
        connection.request("GET", "/", headers={"X-Verified": verified, "X-Dn": name})
        return connection.getresponse().read().decode()

    assert told("SUCCESS") == f"[{device}]"
    assert told("FAILED:expired") == "[]"
    assert told("NONE") == "[]"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_pieces_and_signatures_may_be_large_and_nothing_else(site: Site) -> None:
    def post(method: str, path: str) -> int:
        connection = SocketConnection(site.socket)
        connection.putrequest(method, path)
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(2 * 1024 * 1024))
        connection.endheaders()
        with contextlib.suppress(OSError):  # it may have been refused already
            connection.send(b"x" * 2 * 1024 * 1024)
        answer: http.client.HTTPResponse = connection.getresponse()
        return answer.status

    assert post("PUT", "/api/v1/uploads/1/?offset=0") == 401, "the portal says so, not the proxy"
    assert post("POST", "/api/v1/signatures/") == 401
    assert post("POST", "/api/v1/cis/bulk/") == 413
    assert post("PUT", site.device.base + "/configData") == 413


@pytest.fixture
def two_webs() -> Iterator[Path]:
    """The socket of an nginx as documented, before one web server that answers "people" and one "devices"."""
    program = nginx.program()
    if program is None:
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folder = Path(name)
        places = {
            nginx.PEOPLE: f"server unix:{folder}/people;",
            nginx.DEVICES: f"server unix:{folder}/devices;",
            "listen": f"listen unix:{folder}/nginx;",
            "server_name": "server_name localhost;",
        }
        webs = "".join(
            f'server {{ listen unix:{folder}/{who}; location / {{ return 200 "{who}"; }} }}\n'
            for who in ("people", "devices")
        )
        text = nginx.configuration(folder, places).rstrip().removesuffix("}") + webs + "}\n"
        (folder / "nginx.conf").write_text(text)
        with running([program, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]) as process:
            wait_until(lambda: (folder / "nginx").exists(), process)
            yield folder / "nginx"


def test_people_do_not_queue_behind_devices(two_webs: Path) -> None:
    def served_by(path: str) -> str:
        connection = SocketConnection(two_webs)
        connection.request("GET", path)
        return connection.getresponse().read().decode()

    device = "/DEFAULT/controller/v1/till-7"
    for path in (device, f"{device}/", f"{device}/deploymentBase/1", f"{device}/deploymentBase/1/feedback"):
        assert served_by(path) == "devices"
    for path in (
        "/",
        "/cis/",
        "/api/v1/cis/",
        "/software/",
        "/api/v1/versions/1/artifact/",
        "/search/?q=/controller/v1/x",
    ):
        assert served_by(path) == "people"
