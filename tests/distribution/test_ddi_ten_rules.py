"""The ten rules that break real clients when they are violated; the number is in each test's name.

Rule 7 (downloads) and rule 8 (polls while downloading) are tested over real HTTP too, in test_download_over_http.py.
"""

import re
from time import strptime
from urllib.parse import urlsplit

import pytest

from distribution import services
from distribution.models import Batch, Deployment
from software.models import Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import state
from tests.factories import NOW

pytestmark = pytest.mark.django_db


def test_rule_01_feedback_attributes_and_cancel_feedback_are_answered_with_200(
    device: Device, deployment: Deployment, batch: Batch
) -> None:
    device.fetch(deployment)
    assert device.report(deployment, "proceeding").status_code == 200
    assert device.attributes({"serial": "1"}).status_code == 200
    services.cancel_open([batch.pk], now=NOW, reason="abort")
    assert device.answer(deployment, "closed", "success").status_code == 200


def test_rule_02_action_ids_are_small_numbers_written_as_strings(device: Device, deployment: Deployment) -> None:
    body = device.fetch(deployment).json()
    assert isinstance(body["id"], str)
    assert 1 <= int(body["id"]) <= 2_147_483_647
    assert Deployment._meta.pk.get_internal_type() == "AutoField", "32 bits"


def test_rule_03_the_cancel_link_can_be_appended_to(device: Device, deployment: Deployment, batch: Batch) -> None:
    device.fetch(deployment)
    services.cancel_open([batch.pk], now=NOW, reason="abort")
    href = urlsplit(device.links()["cancelAction"])
    assert (href.query, href.fragment) == ("", "")
    assert re.search(r"/cancelAction/\d+$", href.path)
    body = {"id": "1", "status": {"execution": "closed", "result": {"finished": "success"}}}
    response = device.client.post(
        href.path + "/feedback", body, content_type="application/json", headers=device.headers
    )
    assert response.status_code == 200
    assert state(deployment) == "cancelled"


def test_rule_04_paths_are_fixed_without_slash_and_without_redirect(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    body = {"id": "1", "status": {"execution": "proceeding", "result": {"finished": "none"}}}
    assert device.send("POST", f"/deploymentBase/{deployment.pk}/feedback", body).status_code == 200
    assert device.send("PUT", "/configData", {"data": {}}).status_code == 200
    for path in (f"/deploymentBase/{deployment.pk}/feedback/", "/configData/", "/"):
        assert device.send("POST", path, body).status_code in {404, 405}


def test_rule_05_every_artifact_has_name_size_sha1_and_a_link(
    device: Device, deployment: Deployment, new: Version
) -> None:
    (chunk,) = device.fetch(deployment).json()["deployment"]["chunks"]
    (artifact,) = chunk["artifacts"]
    stored = new.artifacts.get()
    assert (artifact["filename"], artifact["size"]) == (stored.filename, stored.size)
    assert type(artifact["size"]) is int
    assert artifact["hashes"] == {"sha1": stored.sha1, "md5": stored.md5, "sha256": stored.sha256}
    href = artifact["_links"]["download-http"]["href"]
    content = device.client.get(urlsplit(href).path, headers=device.headers)
    assert content.status_code == 200
    assert len(content.getvalue()) == stored.size
    secure = device.client.get(f"{device.base}/deploymentBase/{deployment.pk}", headers=device.headers, secure=True)
    assert list(secure.json()["deployment"]["chunks"][0]["artifacts"][0]["_links"]) == ["download", "md5sum"]


def test_rule_06_every_poll_names_a_sleep_time(device: Device, deployment: Deployment) -> None:
    for _ in ("offered", "fetched"):
        sleep = device.poll()["config"]["polling"]["sleep"]
        assert "00:00:01" <= sleep <= "23:59:59"
        strptime(sleep, "%H:%M:%S")
        device.fetch(deployment)


def test_rule_07_head_ranges_and_the_end_of_the_file(device: Device, deployment: Deployment, new: Version) -> None:
    device.fetch(deployment)
    stored = new.artifacts.get()
    path = f"/softwaremodules/{new.pk}/artifacts/{stored.filename}"
    assert device.head(path)["Content-Length"] == str(stored.size)
    part = device.get(path, Range="bytes=10-19")
    assert (part.status_code, part["Content-Range"]) == (206, f"bytes 10-19/{stored.size}")
    end = device.get(path, Range=f"bytes={stored.size}-")
    assert (end.status_code, end["Content-Range"]) == (416, f"bytes */{stored.size}")


def test_rule_09_update_skip_is_never_said(device: Device, deployment: Deployment, batch: Batch) -> None:
    services.close_batch(batch)
    assert "deploymentBase" not in device.links(), "hidden instead"
    services.open_batch(batch, now=NOW)
    assert "skip" not in device.fetch(deployment).content.decode()


def test_rule_10_odd_bodies_are_taken_and_the_server_clock_counts(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    body = {
        "id": 7,
        "time": "19700101T000000",
        "timestamp": -1,
        "extra": {"x": [1]},
        "status": {
            "execution": "proceeding",
            "result": {"finished": "none", "progress": "?"},
            "code": "x",
            "details": "text",
        },
    }
    assert device.send("POST", f"/deploymentBase/{deployment.pk}/feedback", body).status_code == 200
    event = deployment.events.latest("id")
    deployment.refresh_from_db()
    assert event.at.year >= 2024
    assert event.at == deployment.reported_at
    assert event.details == ["text"]
