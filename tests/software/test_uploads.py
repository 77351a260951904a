"""Uploads in pieces: resumed after every kind of break, never half, finished once."""

import hashlib
import io
import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.http.request import UnreadablePostError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from knox.models import AuthToken
from rest_framework.test import APIClient

from software import uploads
from software.models import Artifact, Upload, Version
from software.storage import StorageFull
from tests.factories import NOW, make_product, make_user, make_version
from tests.software.test_store_artifacts import largest_file
from tickets.exceptions import ConditionRefused, DomainError, InvalidInput, PermissionRefused, TransitionRefused

pytestmark = pytest.mark.django_db
CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def version() -> Version:
    return make_version(make_product("billing"), "2.0", state=Version.State.DRAFT)


def begin(version: Version, **values: Any) -> Upload:
    given = {"filename": "billing-2.0.tar.gz", "size": len(CONTENT), "sha256": DIGEST, "actor": None, "now": NOW}
    return uploads.begin_upload(version=version, **{**given, **values})


def send(upload: Upload, first: int, last: int, **values: Any) -> Upload:
    stream = values.pop("stream", None) or io.BytesIO(CONTENT[first:last])
    return uploads.write_piece(upload, actor=None, now=NOW, offset=first, stream=stream, **values)


def finish(upload: Upload, **values: Any) -> Artifact:
    return uploads.finish_upload(upload, actor=None, now=NOW, **values)


def offset_of(upload: Upload) -> int:
    return Upload.objects.values_list("received", flat=True).get(pk=upload.pk)


def refused(code: str, call: Any, *args: Any, **values: Any) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        call(*args, **values)
    assert refusal.value.code == code
    return refusal.value


def file_of(upload: Upload, media: Path) -> Path:
    return media / "dml" / "incoming" / f"{upload.token}.upload"


def test_pieces_become_an_artifact(version: Version, media: Path) -> None:
    upload = begin(version)
    send(upload, 0, 300_000)
    send(upload, 300_000, len(CONTENT))
    artifact = finish(upload)
    version.refresh_from_db()
    assert (version.state, artifact.sha256, artifact.size) == ("ready", DIGEST, len(CONTENT))
    assert Path(artifact.file.path).read_bytes() == CONTENT
    assert not file_of(upload, media).exists()
    assert finish(upload) == artifact, "a repetition gives the same answer"
    refused("transition_refused", send, upload, 0, 1)


@given(cuts=st.lists(st.integers(0, len(CONTENT)), max_size=6), wrong=st.integers(0, len(CONTENT)))
@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_pieces_in_order_give_the_file_and_others_are_refused(
    version: Version, cuts: list[int], wrong: int
) -> None:
    Version.objects.filter(pk=version.pk).update(state="draft")
    Artifact.objects.all().delete()
    upload = begin(version)
    at = 0
    for cut in [*sorted(cuts), len(CONTENT)]:
        if wrong != at:
            assert refused("offset_mismatch", send, upload, wrong, wrong + 1).detail == {"offset": at}
        send(upload, at, cut)
        at = cut
    assert finish(upload).sha256 == DIGEST


def test_it_is_not_finished_before_all_of_it_is_there(version: Version) -> None:
    upload = begin(version)
    send(upload, 0, 10)
    assert refused("upload_incomplete", finish, upload).detail == {"offset": 10}
    version.refresh_from_db()
    assert (version.state, Artifact.objects.count()) == ("draft", 0)


@pytest.mark.parametrize("error", [UnreadablePostError("cut"), ConnectionResetError(), TimeoutError()])
def test_after_a_cut_it_goes_on_where_the_connection_broke(version: Version, error: Exception) -> None:
    class Cut(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            block = super().read(size)
            if not block:
                raise error
            return block

    upload = begin(version)
    refused("upload_cut", send, upload, 0, 0, stream=Cut(CONTENT[:123_456]))
    assert offset_of(upload) == 123_456
    send(upload, 123_456, len(CONTENT))
    assert finish(upload).sha256 == DIGEST


def test_what_a_killed_process_wrote_without_noting_it_is_cut_off(version: Version, media: Path) -> None:
    upload = begin(version)
    send(upload, 0, 1000)
    with file_of(upload, media).open("ab") as file:
        file.write(b"never noted")
    send(upload, 1000, len(CONTENT))
    assert finish(upload).sha256 == DIGEST


def test_what_the_disk_lost_has_to_be_sent_again(version: Version, media: Path) -> None:
    upload = begin(version)
    send(upload, 0, 1000)
    os.truncate(file_of(upload, media), 400)
    assert refused("offset_mismatch", send, upload, 1000, 2000).detail == {"offset": 400}
    send(upload, 400, len(CONTENT))
    assert finish(upload).sha256 == DIGEST


def test_a_full_disk_leaves_the_upload_as_it_was(version: Version, media: Path) -> None:
    upload = begin(version)
    send(upload, 0, 100_000)
    with largest_file(500_000), pytest.raises(StorageFull):
        send(upload, 100_000, len(CONTENT))
    assert (offset_of(upload), file_of(upload, media).stat().st_size) == (100_000, 100_000)
    send(upload, 100_000, len(CONTENT))
    assert finish(upload).sha256 == DIGEST


def test_what_cannot_fit_is_refused_at_the_beginning(version: Version, settings: Any) -> None:
    refused("file_too_large", begin, version, size=settings.ARTIFACT_MAX_BYTES + 1)
    settings.ARTIFACT_MAX_BYTES = 2**61
    refused("storage_full", begin, version, size=2**60)


def test_a_piece_beyond_the_announced_size_is_refused(version: Version, media: Path) -> None:
    upload = begin(version, size=1000)
    refused("file_too_large", send, upload, 0, 1001)
    assert (offset_of(upload), file_of(upload, media).stat().st_size) == (0, 0)


def test_another_content_begins_anew(version: Version) -> None:
    upload = begin(version, sha256="")
    send(upload, 0, len(CONTENT))
    refused("invalid", finish, upload)
    refused("hash_mismatch", finish, upload, sha256="0" * 64)
    assert offset_of(upload) == 0
    send(upload, 0, len(CONTENT))
    assert finish(upload, sha256=DIGEST.upper()).sha256 == DIGEST


def test_while_a_piece_is_written_there_is_no_other_and_no_end(version: Version) -> None:
    upload = begin(version)
    inner: list[str] = []

    class Nosy(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if not inner:
                again = Upload.objects.get(pk=upload.pk)
                inner.append(refused("upload_busy", send, again, 0, 10).code)
                inner.append(refused("upload_busy", finish, again).code)
            return super().read(size)

    send(upload, 0, len(CONTENT), stream=Nosy(CONTENT))
    assert inner == ["upload_busy", "upload_busy"]
    assert finish(upload).sha256 == DIGEST


@pytest.mark.django_db(transaction=True)
def test_many_finish_at_once_and_there_is_one_artifact(version: Version) -> None:
    upload = begin(version)
    send(upload, 0, len(CONTENT))
    outcomes: list[Any] = []
    gate = threading.Barrier(6)

    def run() -> None:
        mine = Upload.objects.get(pk=upload.pk)
        gate.wait(30)
        try:
            outcomes.append(finish(mine).pk)
        except ConditionRefused as refusal:
            outcomes.append(refusal.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    artifact = Artifact.objects.get()
    assert len(outcomes) == 6
    assert set(outcomes) <= {artifact.pk, "upload_busy"}
    assert artifact.pk in outcomes
    assert Path(artifact.file.path).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "", "x\x00"])
def test_a_name_is_no_path(version: Version, name: str) -> None:
    with pytest.raises(InvalidInput):
        begin(version, filename=name)


def test_a_version_that_takes_nothing_and_a_person_without_the_right(version: Version) -> None:
    with pytest.raises(PermissionRefused):
        begin(version, actor=make_user("otto", "requester"))
    Version.objects.update(state="withdrawn")
    with pytest.raises(TransitionRefused):
        begin(version)


def test_nobody_has_more_than_so_many_under_way(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_OPEN", 2)
    actor = make_user("erik", "release engineer")
    begin(version, actor=actor)
    begin(version, actor=actor)
    with pytest.raises(ConditionRefused, match="2 uploads"):
        begin(version, actor=actor)


def test_abandoned_uploads_are_swept_with_their_files(version: Version, media: Path) -> None:
    upload = begin(version)
    send(upload, 0, 1000)
    assert uploads.sweep_uploads(now=NOW + timedelta(hours=23)) == 0
    path = file_of(upload, media)
    assert uploads.sweep_uploads(now=NOW + uploads.ABANDONED) == 1
    assert not path.exists()
    assert not Upload.objects.exists()
    refused("transition_refused", send, upload, 1000, 2000)
    assert not path.exists()


# --- over HTTP ----------------------------------------------------------------------------------------
@pytest.fixture
def clients() -> Any:
    def client(username: str, role: str = "release engineer") -> Any:
        user = make_user(username, role)
        found = APIClient()
        found.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(user)[1]}")
        return found

    return client


def test_the_whole_way_over_http(version: Version, clients: Any) -> None:
    erik, other = clients("erik"), clients("emil")
    announced = {"version": version.pk, "filename": "billing-2.0.tar.gz", "size": len(CONTENT)}
    made = erik.post("/api/v1/uploads/", announced)
    assert (made.status_code, made.json()["offset"]) == (201, 0), made.content
    path = f"/api/v1/uploads/{made.json()['id']}/"

    def put(client: Any, offset: int, content: bytes) -> Any:
        return client.put(f"{path}?offset={offset}", content, content_type="application/octet-stream")

    assert put(erik, 0, CONTENT[:1000]).json()["offset"] == 1000
    answer = put(erik, 5, b"x")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (409, "offset_mismatch")
    assert put(other, 1000, b"x").status_code == 404
    assert other.get(path).status_code == 404
    assert erik.get(path).json()["offset"] == 1000
    assert put(erik, 1000, CONTENT[1000:]).status_code == 200
    finished = erik.post(f"{path}finish/", {"sha256": DIGEST})
    assert (finished.status_code, finished.json()["state"]) == (201, "ready"), finished.content
    assert erik.post(f"{path}finish/", {"sha256": DIGEST}).status_code == 201
    assert erik.delete(path).status_code == 204
    assert erik.get(path).status_code == 404
    assert clients("rita", "requester").post("/api/v1/uploads/", announced).status_code == 403
