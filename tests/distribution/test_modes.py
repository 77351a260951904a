"""Forced, soft, soft that becomes forced, and download only."""

from datetime import timedelta

import pytest

from cmdb.models import AgentProfile, ConfigurationItem, InstalledVersion
from distribution import services
from distribution.models import Batch, Deployment
from software.models import Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import history, make_batch, queue, state
from tests.factories import NOW
from tickets.clock import database_now

pytestmark = pytest.mark.django_db


def modes(device: Device, deployment: Deployment) -> tuple[str, str]:
    body = device.fetch(deployment).json()["deployment"]
    return body["download"], body["update"]


@pytest.fixture
def download(ci: ConfigurationItem, new: Version) -> Deployment:
    """Billing 2.0, only to be downloaded."""
    return queue(make_batch(mode=Batch.Mode.DOWNLOAD_ONLY), [ci], new)[0]


def test_soft_leaves_the_moment_to_the_device(device: Device, ci: ConfigurationItem, new: Version) -> None:
    (deployment,) = queue(make_batch(mode=Batch.Mode.SOFT), [ci], new)
    assert modes(device, deployment) == ("attempt", "attempt")


@pytest.mark.conformance(3, "`c` changes when soft becomes forced")
def test_03_soft_becomes_forced_after_its_time_and_the_link_changes(
    device: Device, ci: ConfigurationItem, new: Version
) -> None:
    batch = make_batch(mode=Batch.Mode.SOFT, force_after=3600)
    (deployment,) = queue(batch, [ci], new)
    Batch.objects.update(opened_at=database_now() - timedelta(minutes=59))
    before = device.get()
    assert modes(device, deployment) == ("attempt", "attempt")
    assert device.get(**{"If-None-Match": before["ETag"]}).status_code == 304

    Batch.objects.update(opened_at=database_now() - timedelta(minutes=61))
    after = device.get(**{"If-None-Match": before["ETag"]})
    assert after.status_code == 200
    assert after.json()["_links"]["deploymentBase"] != before.json()["_links"]["deploymentBase"]
    assert modes(device, deployment) == ("forced", "forced")


@pytest.mark.conformance(20, "Download-only ends on `downloaded`, whatever result stands beside it")
@pytest.mark.parametrize("finished", ["success", "none", "failure"])
def test_20_download_only_ends_on_downloaded(device: Device, download: Deployment, finished: str) -> None:
    assert modes(device, download) == ("forced", "skip")
    assert device.report(download, "download").status_code == 200
    assert device.report(download, "downloaded", finished).status_code == 200
    assert state(download) == "succeeded"
    assert device.report(download, "closed", "success").status_code == 410
    assert history(download)[-1] == ("report", "downloading", "succeeded")


@pytest.mark.parametrize(("finished", "expected"), [("success", "succeeded"), ("failure", "failed")])
def test_download_only_ends_on_closed_too(device: Device, download: Deployment, finished: str, expected: str) -> None:
    device.fetch(download)
    assert device.report(download, "closed", finished).status_code == 200
    assert state(download) == expected


def test_what_was_only_downloaded_is_not_installed(device: Device, download: Deployment, ci: ConfigurationItem) -> None:
    device.attributes(billing="1.0")
    device.fetch(download)
    device.report(download, "downloaded")
    links = device.links()
    assert not {"installedBase", "configData", "deploymentBase"} & set(links)
    assert device.get(f"/installedBase/{download.pk}").status_code == 404
    assert InstalledVersion.objects.get(ci=ci, valid_to=None).label == "1.0"
    back = make_batch("ROL-2", purpose="rollback")
    assert services.queue_rollback(back, forward_batch_ids=[download.batch_id], now=NOW) == 0
    # Whoever installs it later by hand is not explained by the download.
    device.attributes(billing="2.0")
    assert InstalledVersion.objects.get(ci=ci, valid_to=None).is_drift


def test_the_last_downloaded_is_taken_beyond_the_quota(device: Device, download: Deployment) -> None:
    device.fetch(download)
    Deployment.objects.update(reports=1000)
    assert device.report(download, "download").status_code == 429
    assert device.report(download, "downloaded").status_code == 200


def test_an_agent_that_does_not_know_skip_gets_no_download_only(
    device: Device, download: Deployment, ci: ConfigurationItem
) -> None:
    ConfigurationItem.objects.filter(pk=ci.pk).update(agent_profile=AgentProfile.objects.create(name="blind"))
    assert "deploymentBase" not in device.links(), "it would close it as a success and install nothing"
    assert device.fetch(download).status_code == 404


def test_attributes_do_not_end_a_download(device: Device, download: Deployment) -> None:
    device.fetch(download)
    device.attributes(billing="2.0")
    assert state(download) == "offered"
