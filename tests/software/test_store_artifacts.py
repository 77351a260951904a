"""Uploads: complete and verified, or nothing at all."""

import hashlib
import io
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http.request import UnreadablePostError

from software.models import Artifact, Version
from software.services import store_artifact
from software.storage import StorageFull
from tests.factories import NOW, make_product, make_user, make_version
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused, TransitionRefused

pytestmark = pytest.mark.django_db
CONTENT = b"software" * 1000


@pytest.fixture
def version() -> Version:
    return make_version(make_product(), "2.0", state=Version.State.DRAFT)


def store(version: Version, stream: Any = CONTENT, *, actor: Any = None, **values: Any) -> Artifact:
    values = {"filename": "billing-2.0.tar.gz"} | values
    stream = io.BytesIO(stream) if isinstance(stream, bytes) else stream
    return store_artifact(version, actor=actor, now=NOW, stream=stream, **values)


def files(media: Path) -> list[str]:
    return sorted(str(path.relative_to(media)) for path in media.rglob("*") if path.is_file())


def assert_nothing_stored(version: Version, media: Path) -> None:
    version.refresh_from_db()
    assert version.state == Version.State.DRAFT
    assert not Artifact.objects.exists()
    assert files(media) == []


def test_a_stored_file_is_measured_and_makes_the_version_ready(version: Version, media: Path) -> None:
    engineer = make_user("rita", "release engineer")
    digest = hashlib.sha256(CONTENT).hexdigest()

    artifact = store(version, actor=engineer, sha256=digest.upper())

    version.refresh_from_db()
    artifact.refresh_from_db()
    assert version.state == Version.State.READY
    assert (artifact.size, artifact.sha256) == (len(CONTENT), digest)
    assert artifact.sha1 == hashlib.sha1(CONTENT).hexdigest()
    assert artifact.md5 == hashlib.md5(CONTENT).hexdigest()
    assert artifact.uploaded_by == engineer
    assert files(media) == [f"dml/{digest[:2]}/{digest}"]
    assert Path(artifact.file.path).read_bytes() == CONTENT


def test_an_upload_of_django_is_taken_in_blocks(version: Version) -> None:
    assert store(version, SimpleUploadedFile("x", CONTENT)).size == len(CONTENT)


class CutStream(io.BytesIO):
    """Breaks off as a lost connection does."""

    def __init__(self, error: Exception) -> None:
        super().__init__(b"x" * 2_500_000)
        self.error = error

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        if not block:
            raise self.error
        return block


@pytest.mark.parametrize("error", [UnreadablePostError("cut"), ConnectionResetError(), TimeoutError()])
def test_a_cut_upload_leaves_nothing(version: Version, media: Path, error: Exception) -> None:
    with pytest.raises(InvalidInput, match="cut off"):
        store(version, CutStream(error))
    assert_nothing_stored(version, media)


def test_a_truncated_upload_is_noticed_by_its_digest(version: Version, media: Path) -> None:
    with pytest.raises(InvalidInput, match="SHA-256") as refusal:
        store(version, CONTENT[:-1], sha256=hashlib.sha256(CONTENT).hexdigest())
    assert refusal.value.code == "hash_mismatch"
    assert_nothing_stored(version, media)


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_that_is_too_large_leaves_nothing(settings, version: Version, media: Path, announced: bool) -> None:
    settings.ARTIFACT_MAX_BYTES = len(CONTENT) - 1
    with pytest.raises(InvalidInput) as refusal:
        store(version, SimpleUploadedFile("x", CONTENT) if announced else CONTENT)
    assert refusal.value.code == "file_too_large"
    assert_nothing_stored(version, media)
    settings.ARTIFACT_MAX_BYTES = len(CONTENT)
    assert store(version).size == len(CONTENT)


def test_an_empty_file_is_refused(version: Version, media: Path) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        store(version, b"")
    assert_nothing_stored(version, media)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk that takes no file beyond this size: the kernel refuses the write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing(version: Version, media: Path) -> None:
    with largest_file(1_500_000), pytest.raises(StorageFull, match="full"):
        store(version, b"x" * 4_000_000)
    assert_nothing_stored(version, media)
    assert store(version, b"x" * 4_000_000).size == 4_000_000


def test_what_a_killed_upload_left_is_swept_by_a_later_one(version: Version, media: Path) -> None:
    incoming = media / "dml" / "incoming"
    incoming.mkdir(parents=True)
    old, young = incoming / "old.part", incoming / "young.part"
    for path, age in ((old, timedelta(days=2)), (young, timedelta(hours=1))):
        path.write_bytes(b"half")
        os.utime(path, times=((NOW - age).timestamp(),) * 2)
    store(version)
    assert (old.exists(), young.exists()) == (False, True)


def test_the_same_file_again_is_no_change_and_another_one_is_refused(version: Version, media: Path) -> None:
    first = store(version)
    assert store(version) == first
    with pytest.raises(ConditionRefused, match="never changes"):
        store(version, b"something else")
    with pytest.raises(ConditionRefused, match="never changes"):
        store(version, b"something else", filename="more.tar.gz")
    assert Artifact.objects.count() == 1
    assert files(media) == [first.file.name]


def test_the_same_file_again_repairs_a_lost_one(version: Version) -> None:
    artifact = store(version)
    os.unlink(artifact.file.path)
    store(version)
    assert Path(artifact.file.path).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["", "../x", "/etc/passwd", ".hidden", "a b", "x" * 129, "a\x00b", "a/b"])
def test_a_file_name_is_only_a_name(version: Version, media: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        store(version, filename=name)
    assert_nothing_stored(version, media)


def test_a_withdrawn_version_takes_nothing(version: Version) -> None:
    Version.objects.filter(pk=version.pk).update(state="withdrawn")
    with pytest.raises(TransitionRefused):
        store(version)


def test_it_needs_the_right(version: Version, media: Path) -> None:
    with pytest.raises(PermissionRefused):
        store(version, actor=make_user("otto", "requester"))
    assert_nothing_stored(version, media)
