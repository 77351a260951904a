"""Software into the media library over HTTP: multipart or raw, with a limit, and never half."""

import hashlib
from io import BytesIO
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import RequestFactory
from rest_framework.exceptions import ParseError

from software.api import RawParser, WholeMultiPartParser
from software.models import Artifact, Version
from tests.factories import make_product, make_user, make_version
from tickets.exceptions import InvalidInput

pytestmark = pytest.mark.django_db
CONTENT = b"billing 2.0 " * 5000


@pytest.fixture
def erik(as_user):
    return as_user(make_user("erik", "release engineer"))


@pytest.fixture
def version() -> Version:
    return make_version(make_product("billing"), "2.0", state=Version.State.DRAFT)


def raw(client: Any, version: Version, content: bytes = CONTENT, **query: str) -> Any:
    query = {"filename": "billing-2.0.tar.gz", **query}
    text = "&".join(f"{name}={value}" for name, value in query.items())
    path = f"/api/v1/versions/{version.pk}/artifact/?{text}"
    return client.post(path, content, content_type="application/octet-stream")


def test_a_raw_upload_is_stored_and_can_be_fetched_again(erik, version):
    answer = raw(erik, version)
    assert answer.status_code == 201, answer.content
    (stored,) = answer.json()["artifacts"]
    assert answer.json()["state"] == "ready"
    assert (stored["size"], stored["sha256"]) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    fetched = erik.get(f"/api/v1/versions/{version.pk}/download/")
    assert b"".join(fetched.streaming_content) == CONTENT
    assert fetched["Content-Disposition"] == 'attachment; filename="billing-2.0.tar.gz"'
    assert fetched["X-Content-Type-Options"] == "nosniff"


def test_a_key_for_repetitions_is_passed_over(erik, version):
    """What it would be compared with is the whole file, and that is larger than what a process keeps in memory."""
    content = b"x" * 3 * 1024 * 1024
    path = f"/api/v1/versions/{version.pk}/artifact/?filename=billing-2.0.tar.gz"
    keyed = {"Idempotency-Key": "build-17"}
    for _ in range(2):
        answer = erik.post(path, content, content_type="application/octet-stream", headers=keyed)
        assert answer.status_code == 201, answer.content
        assert "Idempotency-Replayed" not in answer


def test_a_multipart_upload_is_stored(erik, version):
    file = SimpleUploadedFile("billing.bin", CONTENT)
    answer = erik.post(f"/api/v1/versions/{version.pk}/artifact/", {"file": file}, format="multipart")
    assert answer.status_code == 201, answer.content
    assert Artifact.objects.get().sha256 == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("form", ["raw", "multipart"])
def test_an_upload_over_the_limit_is_refused_before_it_is_read(erik, version, settings, form):
    settings.ARTIFACT_MAX_BYTES = 1000
    content = b"x" * 100_000
    if form == "raw":
        answer = raw(erik, version, content)
    else:
        body = {"file": SimpleUploadedFile("billing.bin", content)}
        answer = erik.post(f"/api/v1/versions/{version.pk}/artifact/", body, format="multipart")
    assert answer.status_code == 413
    assert answer.json()["errors"][0]["code"] == "too_large"
    assert not Artifact.objects.exists()
    assert Version.objects.get().state == "draft"


def test_another_content_than_announced_is_refused(erik, version):
    answer = raw(erik, version, sha256="0" * 64)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "hash_mismatch")
    assert not Artifact.objects.exists()


def test_a_raw_upload_needs_a_name_that_is_no_path(erik, version):
    answer = erik.post(f"/api/v1/versions/{version.pk}/artifact/", b"x", content_type="application/octet-stream")
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "filename")
    answer = raw(erik, version, filename="../../etc/passwd")
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "filename")


def test_an_empty_upload_is_refused(erik, version):
    assert raw(erik, version, b"").status_code == 411
    assert not Artifact.objects.exists()


def request_with(body: bytes, length: int, content_type: str) -> Any:
    request = RequestFactory().generic("POST", "/", body, content_type=content_type)
    request.META["CONTENT_LENGTH"] = str(length)
    request.upload_handlers  # noqa: B018 - made when first asked for
    return request


def test_a_cut_raw_upload_is_no_shorter_file():
    stream = RawParser().parse(BytesIO(CONTENT[:-1]), None, {"request": request_with(b"", len(CONTENT), "x/y")})
    with pytest.raises(InvalidInput, match="cut"):
        list(iter(lambda: stream.read(4096), b""))


def test_a_cut_multipart_upload_is_no_shorter_file():
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + CONTENT
    kind = "multipart/form-data; boundary=b"
    request = request_with(b"", len(body) + 100, kind)
    with pytest.raises((InvalidInput, ParseError), match="cut"):
        WholeMultiPartParser().parse(BytesIO(body), kind, {"request": request, "encoding": "utf-8"})


def test_only_those_with_the_right_upload_and_download(as_user, version):
    anna = as_user(make_user("anna", "requester"))
    assert raw(anna, version).status_code == 403
    assert anna.get(f"/api/v1/versions/{version.pk}/download/").status_code == 403


def test_a_version_that_is_needed_is_not_removed(erik, version):
    from tests.api.world import make_objects

    objects = make_objects("own", make_user("owner"), make_user("author"))
    needed = erik.delete(f"/api/v1/versions/{objects.keys['versions']}/")
    assert needed.status_code == 409
    assert erik.delete(f"/api/v1/versions/{version.pk}/").status_code == 204
