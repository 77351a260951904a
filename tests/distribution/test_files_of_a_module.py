"""The list of a module's files, and the line with the MD5 of each."""

import hashlib
import io

import pytest

from distribution.models import Deployment
from software.models import Artifact, Version
from software.services import store_artifact
from tests.distribution.device_client import Device
from tests.distribution.fleet import make_fleet
from tests.factories import NOW, make_version

pytestmark = pytest.mark.django_db


def listed(device: Device, version: Version) -> list[str]:
    response = device.get(f"/softwaremodules/{version.pk}/artifacts")
    return [row["filename"] for row in response.json()] if response.status_code == 200 else []


def test_the_list_is_that_of_the_deployment(device: Device, deployment: Deployment, new: Version) -> None:
    assert device.get(f"/softwaremodules/{new.pk}/artifacts").status_code == 404, "waiting"
    (chunk,) = device.fetch(deployment).json()["deployment"]["chunks"]
    assert device.get(f"/softwaremodules/{new.pk}/artifacts").json() == chunk["artifacts"]


def test_the_list_is_there_for_what_it_runs_and_not_for_others(
    device: Device, deployment: Deployment, new: Version
) -> None:
    device.fetch(deployment)
    device.report(deployment, "closed", "success")
    assert not listed(device, new), "closed and not proven"
    device.attributes(billing="2.0")
    assert listed(device, new) == ["billing-2.0.tar.gz"]
    (other,) = make_fleet(1, new.product, "2.0", prefix="other")
    assert not listed(Device(other), new)
    assert device.get("/softwaremodules/999999/artifacts").status_code == 404


def test_the_md5_of_a_file(device: Device, deployment: Deployment, new: Version) -> None:
    path = f"/softwaremodules/{new.pk}/artifacts/billing-2.0.tar.gz"
    assert device.get(f"{path}.MD5SUM").status_code == 404, "waiting"
    (chunk,) = device.fetch(deployment).json()["deployment"]["chunks"]
    assert chunk["artifacts"][0]["_links"]["md5sum-http"]["href"].endswith(f"{device.base}{path}.MD5SUM")
    content = device.get(path).getvalue()
    response = device.get(f"{path}.MD5SUM")
    assert response.content.decode() == f"{hashlib.md5(content).hexdigest()}  billing-2.0.tar.gz"
    assert response["Content-Type"].startswith("text/plain")
    assert response["Content-Disposition"] == "attachment;filename=billing-2.0.tar.gz.MD5SUM"
    head = device.head(f"{path}.MD5SUM")
    assert (head.status_code, head.content, int(head["Content-Length"])) == (200, b"", len(response.content))
    for name in (
        "billing-2.0.tar.gz.MD5SUM.MD5SUM",
        ".MD5SUM",
        "billing-1.0.tar.gz.MD5SUM",
        "billing-2.0.tar.gz.md5sum",
    ):
        assert device.get(f"/softwaremodules/{new.pk}/artifacts/{name}").status_code == 404
    assert deployment.events.filter(kind="download").count() == 1, "the checksum is no download"


def test_a_file_that_is_called_like_a_checksum_is_the_file(
    device: Device, deployment: Deployment, new: Version
) -> None:
    draft = make_version(new.product, "3.0", state=Version.State.DRAFT)
    store_artifact(draft, actor=None, now=NOW, filename="a.bin.MD5SUM", stream=io.BytesIO(b"content"))
    Artifact.objects.filter(version=draft).update(version=new)
    device.fetch(deployment)
    base = f"/softwaremodules/{new.pk}/artifacts"
    assert device.get(f"{base}/a.bin.MD5SUM").getvalue() == b"content"
    assert device.get(f"{base}/a.bin").status_code == 404
