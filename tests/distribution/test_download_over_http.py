"""Downloads as clients do them, over real HTTP; line 14 and 18 of the conformance list, rules 7 and 8."""

import http.client
import socket
import time
from urllib.parse import urlsplit

import pytest
from django.test import Client

from cmdb.models import ConfigurationItem
from distribution.models import Deployment
from software.models import Artifact, Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import make_batch, make_fleet, queue, state, stored_version
from tests.factories import make_product, make_version

SIZE = 3_000_000


class Portal:
    """The live portal as one device reaches it."""

    def __init__(self, url: str, ci: ConfigurationItem, deployment: Deployment, artifact: Artifact) -> None:
        self.address = urlsplit(url).netloc
        self.device, self.deployment, self.artifact = Device(ci), deployment, artifact
        self.base = self.device.base
        self.path = f"{self.base}/softwaremodules/{artifact.version_id}/artifacts/{artifact.filename}"
        with artifact.file.open("rb") as file:
            self.content = file.read()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        connection.request(method, path, body=body, headers=self.device.headers | headers)
        return connection.getresponse()

    def get(self, **headers: str) -> http.client.HTTPResponse:
        return self.ask("GET", self.path, **headers)


@pytest.fixture
def portal(live_server) -> Portal:
    product = make_product()
    make_version(product, "1.0")
    new = stored_version(product, "2.0", size=SIZE)
    (ci,) = make_fleet(1, product, "1.0")
    (deployment,) = queue(make_batch(), [ci], new)
    found = Portal(live_server.url, ci, deployment, new.artifacts.get())
    assert found.ask("GET", f"{found.base}/deploymentBase/{deployment.pk}").status == 200
    return found


@pytest.mark.conformance(14, "HEAD, whole, `0-99`, `1000-`, `-1000`; 416 at the end, turned round, junk; If-Match 412")
@pytest.mark.django_db(transaction=True)
def test_14_head_whole_parts_and_what_is_none(portal: Portal) -> None:
    size, content = portal.artifact.size, portal.content

    head = portal.ask("HEAD", portal.path)
    assert (head.status, head.read(), head.getheader("Content-Length")) == (200, b"", str(size))
    whole = portal.get()
    assert (whole.status, whole.read()) == (200, content)
    assert {
        name: whole.getheader(name) for name in ("Content-Type", "Accept-Ranges", "ETag", "Content-Disposition")
    } == {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": f'"{portal.artifact.sha1}"',
        "Content-Disposition": "attachment;filename=billing-2.0.tar.gz",
    }
    assert whole.getheader("X-Content-Type-Options") == "nosniff"
    assert whole.getheader("Set-Cookie") is None

    for wanted, part, told in (
        ("bytes=0-99", content[:100], f"bytes 0-99/{size}"),
        ("bytes=1000-", content[1000:], f"bytes 1000-{size - 1}/{size}"),
        ("bytes=-1000", content[-1000:], f"bytes {size - 1000}-{size - 1}/{size}"),
        (f"bytes=5-{size + 5}", content[5:], f"bytes 5-{size - 1}/{size}"),
        (f"bytes=-{size + 5}", content, f"bytes 0-{size - 1}/{size}"),
    ):
        answer = portal.get(Range=wanted)
        assert (answer.status, answer.getheader("Content-Range")) == (206, told)
        assert answer.getheader("Content-Length") == str(len(part))
        assert answer.read() == part
    for wanted in (f"bytes={size}-", "bytes=100-10", "junk", "bytes=", "bytes=-", "bytes=-0", "bytes=a-b", "lines=1-2"):
        answer = portal.get(Range=wanted)
        assert (answer.status, answer.getheader("Content-Range")) == (416, f"bytes */{size}"), wanted
        assert answer.read() == b""
    several = portal.get(Range="bytes=0-1,5-6")
    assert (several.status, len(several.read())) == (200, size)

    tag = f'"{portal.artifact.sha1}"'
    assert portal.get(**{"If-Match": '"another"'}).status == 412
    assert portal.get(**{"If-Match": tag, "Range": "bytes=0-9"}).status == 206
    assert portal.get(**{"If-None-Match": tag}).status == 304
    for condition, expected in (
        (tag, 206),
        ('"another"', 200),
        (f"W/{tag}", 200),
        (whole.getheader("Last-Modified"), 206),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
        ("never", 200),
    ):
        assert portal.get(**{"If-Range": condition, "Range": "bytes=0-9"}).status == expected, condition
    for method in ("PUT", "POST", "DELETE"):
        assert portal.ask(method, portal.path).status == 405

    events = portal.deployment.events.filter(kind="download")
    assert [(e.from_state, e.to_state, e.details) for e in events] == [
        ("offered", "offered", ["billing-2.0.tar.gz"])
    ], "one for the file, none for its parts"


@pytest.mark.conformance(18, "Polls are answered while the same device downloads slowly")
@pytest.mark.django_db(transaction=True)
def test_18_polls_are_answered_while_the_same_device_downloads_slowly(portal: Portal) -> None:
    download = socket.create_connection((portal.address.split(":")[0], int(portal.address.split(":")[1])), timeout=10)
    download.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = "".join(f"{name}: {value}\r\n" for name, value in portal.device.headers.items())
    download.sendall(f"GET {portal.path} HTTP/1.1\r\nHost: {portal.address}\r\n{head}\r\n".encode())
    assert download.recv(1024).startswith(b"HTTP/1.1 200")
    for _ in range(3):
        begin = time.monotonic()
        assert portal.ask("GET", portal.base).status == 200
        assert time.monotonic() - begin < 1
    download.close()


@pytest.mark.django_db(transaction=True)
def test_a_body_announced_with_expect_100_continue_is_taken(portal: Portal) -> None:
    body = b'{"mode": "merge", "data": {"serial": "8922673153"}}'
    headers = {"Expect": "100-continue", "Content-Type": "application/json", "charsets": "utf-8"}
    answer = portal.ask("PUT", f"{portal.base}/configData", body, **headers)
    assert answer.status == 200
    # A GET without a body, but with the type of one.
    assert portal.ask("GET", portal.base, **{"Content-Type": "application/json"}).status == 200


@pytest.mark.conformance(14, "The artifact of another device and of no offer is 404")
@pytest.mark.django_db
def test_14_the_artifact_of_another_device_and_of_no_offer_is_404(
    device: Device, deployment: Deployment, new: Version
) -> None:
    path = f"/softwaremodules/{new.pk}/artifacts/billing-2.0.tar.gz"
    assert device.get(path).status_code == 404, "waiting"
    device.fetch(deployment)
    assert device.get(path).status_code == 200
    (other,) = make_fleet(1, new.product, "1.0", prefix="other")
    assert Device(other).get(path).status_code == 404
    assert Client().get(device.base + path).status_code == 401
    for name in ("billing-1.0.tar.gz", "..%2F..%2Fetc%2Fpasswd", "%00", "billing-2.0.tar.gz%00"):
        assert device.get(f"/softwaremodules/{new.pk}/artifacts/{name}").status_code == 404
    device.report(deployment, "closed", "success")
    assert device.get(path).status_code == 404, "closed"


@pytest.mark.django_db
def test_a_file_that_is_gone_or_cut_on_disk_is_410_and_never_sent(
    device: Device, deployment: Deployment, new: Version
) -> None:
    device.fetch(deployment)
    path = f"/softwaremodules/{new.pk}/artifacts/billing-2.0.tar.gz"
    stored = new.artifacts.get()
    with open(stored.file.path, "r+b") as file:
        file.truncate(stored.size - 1)
    assert device.get(path).status_code == 410
    stored.file.storage.delete(stored.file.name)
    assert device.get(path).status_code == 410
    new.refresh_from_db()
    assert new.state == "quarantined"
    assert state(deployment) == "offered"
    assert not deployment.events.filter(kind="download").exists()
