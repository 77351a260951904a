"""Downloads with X-Accel-Redirect: the answers are those of the portal, the bytes are nginx's."""

import time

import pytest

from distribution.models import DeploymentEvent
from tests.nginx.conftest import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_parts_conditions_and_refusals_are_as_without_nginx(site: Site) -> None:
    size, content, tag = len(site.content), site.content, f'"{site.sha1}"'

    head = site.ask("HEAD", site.path)
    assert (head.status, head.getheader("Content-Length"), head.read()) == (200, str(size), b"")
    whole = site.get()
    assert (whole.status, whole.read()) == (200, content)
    assert whole.getheader("Server") == "nginx"
    for name, value in {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Content-Disposition": "attachment;filename=billing-2.0.tar.gz",
    }.items():
        assert whole.getheader(name) == value
    assert whole.getheader("X-Content-Type-Options") == "nosniff"
    assert whole.getheader("X-Accel-Redirect") is None
    assert whole.getheader("Last-Modified") == head.getheader("Last-Modified")

    for wanted, part, told in (
        ("bytes=0-99", content[:100], f"bytes 0-99/{size}"),
        ("bytes=1000-", content[1000:], f"bytes 1000-{size - 1}/{size}"),
        ("bytes=-1000", content[-1000:], f"bytes {size - 1000}-{size - 1}/{size}"),
        (f"bytes=5-{size + 5}", content[5:], f"bytes 5-{size - 1}/{size}"),
    ):
        answer = site.get(Range=wanted)
        assert (answer.status, answer.getheader("Content-Range")) == (206, told)
        assert answer.read() == part
        assert answer.getheader("ETag") == tag
    for wanted in (f"bytes={size}-", "bytes=100-10", "junk", "bytes=-0"):
        answer = site.get(Range=wanted)
        assert (answer.status, answer.getheader("Content-Range")) == (416, f"bytes */{size}"), wanted
    assert site.get(Range="bytes=0-1,5-6").status == 200

    assert site.get(**{"If-Match": '"another"'}).status == 412
    assert site.get(**{"If-Match": tag, "Range": "bytes=0-9"}).read() == content[:10]
    assert site.get(**{"If-None-Match": tag}).status == 304
    for condition, expected in (
        (tag, 206),
        ('"another"', 200),
        (whole.getheader("Last-Modified"), 206),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
    ):
        assert site.get(**{"If-Range": condition, "Range": "bytes=0-9"}).status == expected, condition

    assert DeploymentEvent.objects.filter(kind="download").count() == 1, "one for the file, none for its parts"
    assert site.ask("GET", "/artifacts/dml/").status == 404, "the location is internal"
    assert site.get(Authorization="TargetToken wrong").status == 401


def test_a_download_that_was_cut_is_resumed_where_it_ended(site: Site) -> None:
    client = site.begin_slowly()
    got = b""
    while len(got) < 1_000_000:
        got += client.recv(65536)
    client.close()
    got = got[: 1_000_000 - 500]
    rest = site.get(Range=f"bytes={len(got)}-")
    assert rest.status == 206
    assert rest.read() == site.content[len(got) :]


def test_polls_are_answered_while_more_slow_devices_download_than_the_portal_has_threads(site: Site) -> None:
    clients = [site.begin_slowly() for _ in range(18)]
    for _ in range(5):
        begin = time.monotonic()
        assert site.ask("GET", site.device.base).status == 200
        # With two threads and eighteen downloads in them no poll would ever be answered.
        assert time.monotonic() - begin < 5
    for client in clients:
        client.close()
