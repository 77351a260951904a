"""The upload form in the portal: pieces in order, one's own only, gone on with, refused in words."""

import hashlib
import json
from pathlib import Path

import pytest
from django.test import Client

from software.models import Artifact, Upload, Version
from tests.factories import make_product, make_user, make_version

pytestmark = pytest.mark.django_db
CONTENT = bytes(range(256)) * 40
BEGIN = "/software/billing/versions/2.0/upload/begin/"


@pytest.fixture(autouse=True)
def _library(settings, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path


@pytest.fixture
def engineer() -> Client:
    make_version(make_product("billing"), "2.0", state=Version.State.DRAFT)
    client = Client(enforce_csrf_checks=False)
    client.force_login(make_user("rene", "release engineer"))
    return client


def begin(client: Client, **values) -> dict:
    answer = client.post(BEGIN, {"filename": "billing-2.0.tar.gz", "size": len(CONTENT), **values})
    assert answer.status_code == 200, answer.content
    return answer.json()


def put(client: Client, url: str, first: int, last: int):
    return client.put(f"{url}?offset={first}", CONTENT[first:last], content_type="application/octet-stream")


def test_pieces_become_the_file_and_the_page_of_the_product_tells_it(engineer: Client) -> None:
    url = begin(engineer)["url"]
    assert put(engineer, url, 0, 4000).json()["received"] == 4000
    assert engineer.get(url).json() == {"url": url, "received": 4000, "size": len(CONTENT)}
    assert put(engineer, url, 4000, len(CONTENT)).status_code == 200
    page = engineer.post(url).json()["page"]
    artifact = Artifact.objects.get()
    assert artifact.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert artifact.version.state == "ready"
    assert "Stored: " in engineer.get(page).content.decode()


def test_a_piece_at_the_wrong_place_is_told_the_right_one(engineer: Client) -> None:
    url = begin(engineer)["url"]
    put(engineer, url, 0, 4000)
    answer = put(engineer, url, 5000, 6000)
    assert answer.status_code == 409
    assert (answer.json()["code"], answer.json()["offset"]) == ("offset_mismatch", 4000)


def test_the_announced_hash_counts(engineer: Client) -> None:
    url = begin(engineer, sha256="0" * 64)["url"]
    put(engineer, url, 0, len(CONTENT))
    answer = engineer.post(url)
    assert answer.json()["code"] == "hash_mismatch"
    assert not Artifact.objects.exists()


def test_what_is_not_complete_does_not_end(engineer: Client) -> None:
    url = begin(engineer)["url"]
    assert engineer.post(url).json()["code"] == "upload_incomplete"
    assert engineer.delete(url).status_code == 204
    assert not Upload.objects.exists()


def test_a_refusal_is_said_before_the_first_piece(engineer: Client) -> None:
    Version.objects.update(state=Version.State.WITHDRAWN)
    answer = engineer.post(BEGIN, {"filename": "billing-2.0.tar.gz", "size": 1})
    assert answer.status_code >= 400
    assert json.loads(answer.content)["message"]
    assert engineer.post(BEGIN, {"filename": "x.tar.gz", "size": "-1"}).status_code == 400


def test_somebody_elses_upload_does_not_exist(engineer: Client) -> None:
    url = begin(engineer)["url"]
    other = Client()
    other.force_login(make_user("otto", "release engineer"))
    assert other.get(url).status_code == 404
    assert put(other, url, 0, 10).status_code == 404
    requester = Client()
    requester.force_login(make_user("uma", "requester"))
    assert requester.post(BEGIN, {"filename": "x", "size": 1}).status_code == 403


def test_a_piece_without_the_forms_token_is_refused(engineer: Client) -> None:
    url = begin(engineer)["url"]
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = engineer.cookies
    assert put(strict, url, 0, 10).status_code == 403
