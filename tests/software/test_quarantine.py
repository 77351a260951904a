"""Files that are no longer what was stored: noticed at the first serve, offered to nobody, brought back by a second."""

import hashlib
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import InMemoryStorage
from django.core.management import call_command

from distribution.models import Deployment
from notifications.models import Outbox
from software import quarantine
from software.models import Artifact, Version
from software.quarantine import CHECK_LEASE, Check, check_before_serving, restore_version
from software.services import store_artifact
from tests.distribution.device_client import Device
from tests.distribution.fleet import make_batch, make_fleet, queue, stored_version
from tests.factories import NOW, make_product, make_user
from tickets.exceptions import ConditionRefused, InvalidInput, SeparationOfDuties, TransitionRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def version() -> Version:
    return stored_version(make_product("billing"), "2.0", size=3000)


def path_of(version: Version) -> Path:
    return Path(version.artifacts.get().file.path)


def damage(version: Version, how: str = "content") -> None:
    path = path_of(version)
    if how == "gone":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[:-1] if how == "size" else content[:-1] + bytes([content[-1] ^ 1]))


def states(version: Version) -> str:
    return Version.objects.values_list("state", flat=True).get(pk=version.pk)


def offered(version: Version) -> tuple[Device, Deployment, str]:
    """A device with an offer, and where its file is."""
    ci = make_fleet(1, version.product, "1.0")[0]
    deployment = queue(make_batch(), [ci], version)[0]
    device = Device(ci)
    assert device.fetch(deployment).status_code == 200
    return device, deployment, f"/softwaremodules/{version.pk}/artifacts/{version.artifacts.get().filename}"


def test_a_good_file_is_read_once_and_then_served(version: Version) -> None:
    device, _deployment, path = offered(version)
    for _ in range(2):
        answer = device.get(path)
        assert (answer.status_code, len(answer.getvalue())) == (200, version.artifacts.get().size)
    assert version.artifacts.get().checked_at is not None


@pytest.mark.parametrize("how", ["content", "size", "gone"])
def test_a_changed_file_is_never_served_and_its_version_offered_to_nobody(version: Version, how: str) -> None:
    make_user("erik", "release engineer")
    device, _deployment, path = offered(version)
    others = make_fleet(1, version.product, "1.0", prefix="other")
    queue(make_batch("ROL-0000002"), others, version)
    damage(version, how)

    assert device.get(path).status_code == 410
    assert states(version) == "quarantined"
    assert "deploymentBase" not in Device(others[0]).links()
    assert device.get(path).status_code == 410
    told = Outbox.objects.get()
    assert (told.recipient.username, told.thread) == ("erik", "Billing 2.0")
    assert "somebody else" in " ".join(told.text.split())


def test_a_file_that_changes_its_size_later_is_noticed_too(version: Version) -> None:
    device, _deployment, path = offered(version)
    assert device.get(path).status_code == 200
    damage(version, "size")
    assert device.get(path).status_code == 410
    assert states(version) == "quarantined"


def test_every_version_with_that_file_is_concerned(version: Version) -> None:
    twin = Version.objects.create(product=version.product, label="2.0.1", created_at=NOW)
    with path_of(version).open("rb") as stream:
        store_artifact(twin, actor=None, now=NOW, filename="same.tar.gz", stream=stream)
    damage(version)
    assert check_before_serving(version.artifacts.get(), now=NOW) is Check.BAD
    assert (states(version), states(twin)) == ("quarantined", "quarantined")


def test_while_somebody_reads_a_short_file_others_read_it_too(version: Version) -> None:
    device, _deployment, path = offered(version)
    Artifact.objects.update(check_begun_at=NOW + timedelta(days=36500))
    assert device.get(path).status_code == 200


def test_while_somebody_reads_it_the_others_come_back_later(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "SHORT", 0)
    device, _deployment, path = offered(version)
    artifact = version.artifacts.get()
    Artifact.objects.update(check_begun_at=NOW)
    assert check_before_serving(artifact, now=NOW) is Check.BUSY
    assert check_before_serving(artifact, now=NOW + CHECK_LEASE - timedelta(seconds=1)) is Check.BUSY
    Artifact.objects.update(check_begun_at=NOW + timedelta(days=36500))
    answer = device.get(path)
    assert (answer.status_code, int(answer["Retry-After"]) > 0) == (429, True)
    Artifact.objects.update(check_begun_at=NOW)
    assert check_before_serving(artifact, now=NOW + CHECK_LEASE) is Check.GOOD


def test_the_check_of_all_files_finds_it(version: Version, capsys: Any) -> None:
    damage(version)
    with pytest.raises(SystemExit):
        call_command("verify_signatures", "--files")
    assert "Billing 2.0: billing-2.0.tar.gz is not what was stored" in capsys.readouterr().out
    assert states(version) == "quarantined"


@pytest.fixture
def quarantined(version: Version) -> Version:
    author = make_user("erik", "release engineer")
    Artifact.objects.update(uploaded_by=author)
    version.good = path_of(version).read_bytes()
    damage(version)
    assert check_before_serving(version.artifacts.get(), now=NOW) is Check.BAD
    version.refresh_from_db()
    return version


def store_again(version: Version, actor: Any) -> None:
    name = version.artifacts.get().filename
    store_artifact(version, actor=actor, now=NOW, filename=name, stream=io.BytesIO(version.good))


def test_it_comes_back_with_the_right_file_by_somebody_else(quarantined: Version) -> None:
    helper, second = make_user("hilda", "release engineer"), make_user("sven", "release engineer")
    with pytest.raises(ConditionRefused, match="still not what was uploaded"):
        restore_version(quarantined, actor=second, now=NOW, reason="disk replaced")
    store_again(quarantined, helper)
    assert states(quarantined) == "quarantined"
    for person in (helper, quarantined.artifacts.get().uploaded_by):
        with pytest.raises(SeparationOfDuties):
            restore_version(quarantined, actor=person, now=NOW, reason="disk replaced")
    restore_version(quarantined, actor=second, now=NOW, reason="disk replaced")
    assert (quarantined.state, quarantined.state_reason) == ("ready", "")
    assert check_before_serving(quarantined.artifacts.get(), now=NOW) is Check.GOOD


def test_it_does_not_come_back_without_a_reason_or_twice(quarantined: Version) -> None:
    second = make_user("sven", "release engineer")
    store_again(quarantined, None)
    with pytest.raises(InvalidInput):
        restore_version(quarantined, actor=second, now=NOW, reason=" ")
    restore_version(quarantined, actor=second, now=NOW, reason="mended")
    with pytest.raises(TransitionRefused):
        restore_version(quarantined, actor=second, now=NOW, reason="mended")


def test_another_file_does_not_mend_it(quarantined: Version) -> None:
    name = quarantined.artifacts.get().filename
    with pytest.raises(ConditionRefused, match="never changes"):
        store_artifact(quarantined, actor=None, now=NOW, filename=name, stream=io.BytesIO(b"else"))


def test_files_may_lie_in_any_storage_of_django(monkeypatch: pytest.MonkeyPatch, media: Path) -> None:
    elsewhere = InMemoryStorage()
    monkeypatch.setattr(Artifact._meta.get_field("file"), "storage", elsewhere)
    monkeypatch.setattr("software.storage.artifact_storage", lambda: elsewhere)
    version = stored_version(make_product("billing"), "2.0", size=3000)
    artifact = version.artifacts.get()
    assert (elsewhere.exists(artifact.file.name), list(media.glob("dml/*/*"))) == (True, [])
    device, _deployment, path = offered(version)
    content = device.get(path).getvalue()
    assert hashlib.sha256(content).hexdigest() == artifact.sha256
    assert device.get(path, Range="bytes=10-19").getvalue() == content[10:20]
    artifact.file.storage.delete(artifact.file.name)
    assert device.get(path).status_code == 410
    assert states(version) == "quarantined"
