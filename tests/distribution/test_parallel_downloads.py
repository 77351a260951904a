"""How many download at a time: from a process, and of a batch."""

import gc

import pytest

from distribution.channels.ddi import downloads
from distribution.models import Deployment
from software.models import Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import make_batch, make_fleet, queue, stored_version

pytestmark = pytest.mark.django_db
PLACES = 4


@pytest.fixture(autouse=True)
def _few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_places", downloads.Places(PLACES))
    # The files here are short, and are to be counted all the same.
    monkeypatch.setattr(downloads, "_SHORT", 0)


@pytest.fixture
def path(device: Device, deployment: Deployment, new: Version) -> str:
    device.fetch(deployment)
    return f"/softwaremodules/{new.pk}/artifacts/billing-2.0.tar.gz"


def test_one_download_too_many_is_told_to_come_back_and_polls_go_on(device: Device, path: str) -> None:
    running = [device.get(path, Range="bytes=0-9") for _ in range(PLACES - 1)]
    running.append(device.get(path))
    assert {answer.status_code for answer in running} == {200, 206}
    refused = device.get(path)
    assert refused.status_code == 429
    assert 5 <= int(refused["Retry-After"]) <= 30
    assert device.get().status_code == 200
    assert device.head(path).status_code == 200, "needs no place"
    assert device.get(path, Range="bytes=9999999-").status_code == 416

    assert running.pop().getvalue(), "read to the end"
    last = device.get(path)
    assert last.status_code == 200
    assert device.get(path).status_code == 429
    del last
    gc.collect()
    assert device.get(path).status_code == 200, "a place is free when its response is read, or forgotten"


def test_one_device_keeps_at_most_half_of_the_places(media, new: Version) -> None:
    big = stored_version(new.product, "3.0", size=2 * 1024 * 1024)
    greedy, modest = (Device(ci) for ci in make_fleet(2, new.product, "1.0", prefix="many"))
    deployments = queue(make_batch(), [greedy.ci, modest.ci], big)
    path = f"/softwaremodules/{big.pk}/artifacts/billing-3.0.tar.gz"
    for device, deployment in zip((greedy, modest), deployments, strict=True):
        device.fetch(deployment)
    held = [greedy.get(path) for _ in range(PLACES // 2)]
    assert {answer.status_code for answer in held} == {200}
    assert greedy.get(path).status_code == 429
    assert greedy.get(path, Range="bytes=1-").status_code == 429
    assert greedy.get(path, Range="bytes=0-131071").getvalue(), "a small part holds nobody up"
    assert modest.get(path).status_code == 200
    held.pop()
    gc.collect()
    assert greedy.get(path).status_code == 200


def test_what_is_as_short_as_a_page_is_sent_however_many_download(
    device: Device, path: str, new: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [device.get(path, Range="bytes=0-9") for _ in range(PLACES)]
    assert device.get(path).status_code == 429
    stored = new.artifacts.get()
    content = stored.file.read()
    monkeypatch.setattr(downloads, "_SHORT", stored.size)
    answer = device.get(path)
    assert (answer.status_code, answer.content) == (200, content)
    assert answer["Content-Length"] == str(stored.size)
    part = device.get(path, Range="bytes=2-5")
    assert (part.status_code, part.content) == (206, content[2:6])
    monkeypatch.setattr(downloads, "_SHORT", stored.size - 1)
    assert device.get(path).status_code == 429
    assert len(held) == PLACES


def test_with_a_proxy_the_portal_only_says_which_file(device: Device, path: str, new: Version, settings) -> None:
    settings.X_ACCEL_LOCATION = "/artifacts/"
    stored = new.artifacts.get()
    for _ in range(PLACES + 1):
        answer = device.get(path)
        assert answer["X-Accel-Redirect"] == f"/artifacts/{stored.file.name}"
        assert (answer.status_code, answer.content) == (200, b"")
    assert device.get(path, Range="bytes=1-2").status_code == 206
    assert device.get(path, Range="bytes=9999999-").status_code == 416
    assert "X-Accel-Redirect" not in device.get(path, **{"If-None-Match": f'"{stored.sha1}"'})
    assert device.get(path, **{"If-Match": f'"{stored.sha1}"'}).getvalue() == stored.file.read()


def test_a_batch_offers_only_to_so_many_as_may_download_at_a_time(new: Version) -> None:
    cis = make_fleet(3, new.product, "1.0", prefix="fetching")
    first, second, third = queue(make_batch(max_downloads=2), cis, new)
    one, two, three = map(Device, cis)
    assert one.fetch(first).status_code == 200
    assert two.fetch(second).status_code == 200
    assert "deploymentBase" not in three.links()
    assert three.fetch(third).status_code == 404

    one.report(first, "download")
    assert "deploymentBase" not in three.links(), "it fetches the file"
    one.report(first, "downloaded")
    assert "deploymentBase" in three.links(), "it has the file"
    assert three.fetch(third).status_code == 200
    assert two.fetch(second).status_code == 200, "what was offered stays"
