"""Links that carry their own permission: bound to one file and one moment, and to nothing else."""

from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from distribution.channels.ddi import signed_links
from distribution.models import Deployment
from itsm_portal import environment
from software.models import Version
from software.services import withdraw_version
from tests.distribution.device_client import Device
from tests.distribution.fleet import stored_version
from tickets.clock import database_now

pytestmark = pytest.mark.django_db
KEY = "a key of its own, long enough for tests"


@pytest.fixture(autouse=True)
def _mirror(settings) -> None:
    settings.DOWNLOAD_URL, settings.DOWNLOAD_KEY = "https://mirror.example.org/files", KEY


def path_of(link: str | None) -> str:
    assert link is not None
    return link.replace("https://mirror.example.org/files", "/downloads")


def get(path: str, **headers: str):
    response = Client().get(path, headers=headers)
    return response.status_code, (response.getvalue() if response.status_code in {200, 206} else b"")


def test_the_link_gives_the_file_without_any_other_permission(new: Version) -> None:
    artifact = new.artifacts.get()
    path = path_of(signed_links.link(artifact, now=database_now()))
    content = artifact.file.read()
    assert get(path) == (200, content)
    assert get(path, Range="bytes=10-19") == (206, content[10:20])
    assert Client().head(path)["Content-Length"] == str(artifact.size)
    assert Client().post(path).status_code == 405


def test_the_link_is_the_same_for_hours_and_works_for_at_least_a_day(new: Version, settings) -> None:
    settings.DOWNLOAD_SECONDS = 86_400
    artifact, now = new.artifacts.get(), database_now()
    begin = now.replace(hour=0, minute=0, second=0, microsecond=0)
    links = {signed_links.link(artifact, now=begin + timedelta(hours=hours)) for hours in range(24)}
    assert len(links) == 1
    until = int(links.pop().split("/")[-3])
    assert until == (begin + timedelta(days=2)).timestamp()


def test_a_link_is_good_for_its_file_and_its_time_only(new: Version) -> None:
    artifact = new.artifacts.get()
    other = stored_version(new.product, "3.0").artifacts.get()
    now = database_now()
    until = int((now + timedelta(hours=1)).timestamp())
    signed = signed_links.signature(artifact, until)
    good = f"/downloads/{artifact.pk}/{until}/{signed}/{artifact.filename}"
    assert get(good)[0] == 200
    changed = "A" if signed[0] != "A" else "B"
    for bad in (
        good.replace(signed, changed + signed[1:]),
        good.replace(signed, signed[:-1]),
        good.replace(signed, "é"),
        good.replace(str(until), str(until + 1)),
        good.replace(artifact.filename, other.filename),
        f"/downloads/{other.pk}/{until}/{signed}/{other.filename}",
        f"/downloads/999999/{until}/{signed}/{artifact.filename}",
        f"/downloads/{artifact.pk}/{until}/{signed}/%00",
        f"/downloads/{artifact.pk}/{until}/{signed}/{artifact.filename}%00.txt",
        f"/downloads/{10**30}/{until}/{signed}/{artifact.filename}",
        f"/downloads/{artifact.pk}/{10**30}/{signed}/{artifact.filename}",
    ):
        assert get(bad) == (403, b""), bad
    past = int((now - timedelta(seconds=1)).timestamp())
    late = f"/downloads/{artifact.pk}/{past}/{signed_links.signature(artifact, past)}/{artifact.filename}"
    assert get(late)[0] == 410


def test_no_cache_gives_a_file_away_after_the_time_of_its_link(new: Version) -> None:
    artifact, now = new.artifacts.get(), database_now()
    until = int(now.timestamp()) + 3600
    path = f"/downloads/{artifact.pk}/{until}/{signed_links.signature(artifact, until)}/{artifact.filename}"
    seconds = int(Client().get(path)["Cache-Control"].split("max-age=")[1].split(",")[0])
    assert 3500 < seconds <= 3600


def test_another_key_makes_another_link_and_no_key_none(new: Version, settings) -> None:
    artifact, now = new.artifacts.get(), database_now()
    path = path_of(signed_links.link(artifact, now=now))
    settings.DOWNLOAD_KEY = KEY[::-1]
    assert get(path)[0] == 403
    settings.DOWNLOAD_KEY = ""
    assert get(path)[0] == 404
    settings.DOWNLOAD_URL = ""
    assert signed_links.link(artifact, now=now) is None


def test_a_withdrawn_version_is_gone(new: Version) -> None:
    path = path_of(signed_links.link(new.artifacts.get(), now=database_now()))
    withdraw_version(new, actor=None, now=database_now())
    assert get(path)[0] == 410


def test_devices_are_sent_to_the_mirror(device: Device, deployment: Deployment, new: Version, settings) -> None:
    def links() -> dict[str, str]:
        chunk = device.fetch(deployment).json()["deployment"]["chunks"][0]
        return {name: link["href"] for name, link in chunk["artifacts"][0]["_links"].items()}

    href = links()["download"]
    assert href.startswith("https://mirror.example.org/files/")
    assert get(path_of(href))[0] == 200
    settings.DOWNLOAD_URL = ""
    assert "/softwaremodules/" in links()["download-http"]


def test_a_device_that_shows_its_token_has_its_download_noted_once(
    device: Device, deployment: Deployment, new: Version, settings
) -> None:
    device.fetch(deployment)
    path = path_of(signed_links.link(new.artifacts.get(), now=database_now()))
    downloads = deployment.events.filter(kind="download")

    def fetch(**headers: str) -> int:
        return get(path, **headers)[0]

    assert fetch() == 200
    assert fetch(Authorization="TargetToken wrong") == 200, "the link alone is the permission"
    assert fetch(Authorization=f"GatewayToken {device.token}") == 200
    assert fetch(**device.headers, Range="bytes=0-9") == 206
    assert not downloads.exists()
    for _ in range(2):
        assert fetch(**device.headers) == 200
    assert downloads.get().details == ["billing-2.0.tar.gz"]

    device.report(deployment, "closed", "success")
    settings.DDI_AUTHENTICATION = ["certificate"]
    assert fetch(**device.headers) == 200
    assert downloads.count() == 1


def test_the_key_is_checked_when_the_portal_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOWNLOAD_KEY", raising=False)
    assert environment.download_key("") == ""
    with pytest.raises(ImproperlyConfigured, match="DOWNLOAD_KEY is not"):
        environment.download_key("https://mirror.example.org")
    monkeypatch.setenv("DOWNLOAD_KEY", "short")
    with pytest.raises(ImproperlyConfigured, match="at least 32"):
        environment.download_key("")
    monkeypatch.setenv("X_ACCEL_LOCATION", "artifacts")
    with pytest.raises(ImproperlyConfigured, match="slash"):
        environment.location("X_ACCEL_LOCATION")
