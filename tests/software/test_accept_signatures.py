"""What key holders signed, taken in by the portal: verified, all or nothing, and judged again with each key set."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from signing.documents import File
from signing.envelope import public_of
from software.models import KeySet, Product, ReleaseManifest, RollbackDecision, Version
from software.signatures import accept_envelopes, judge_again, request_for, signed_versions, trusted_key_set
from tests.distribution.fleet import stored_version
from tests.factories import NOW, make_product, make_user
from tests.signing.holder import LATE, Holder, new_key, signed
from tickets.exceptions import InvalidInput, PermissionRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def holder(settings) -> Holder:
    found = Holder()
    settings.SIGNING_ROOT_KEYS = found.pins
    return found


@pytest.fixture
def product() -> Product:
    return make_product("billing")


@pytest.fixture
def old(product: Product) -> Version:
    return stored_version(product, "1.0")


@pytest.fixture
def new(product: Product) -> Version:
    return stored_version(product, "2.0")


def accept(*envelopes: Any, actor: Any = None, now: Any = NOW) -> list[str]:
    return accept_envelopes([envelope.to_json() for envelope in envelopes], actor=actor, now=now)


def refused(code: str, *envelopes: Any, **values: Any) -> None:
    before = [model.objects.count() for model in (KeySet, ReleaseManifest, RollbackDecision)]
    with pytest.raises(InvalidInput) as refusal:
        accept(*envelopes, **values)
    assert refusal.value.code == code
    assert [model.objects.count() for model in (KeySet, ReleaseManifest, RollbackDecision)] == before


def counted(version: Version, counter: int) -> Version:
    version.counter = counter
    return version


def test_everything_of_a_release_in_one_upload_in_any_order(holder: Holder, old: Version, new: Version) -> None:
    back = holder.rollback(counted(new, 2), counted(old, 1))
    told = accept(back, holder.release(new, 2), holder.release(old, 1), holder.keys())
    assert len(told) == 4
    assert dict(Version.objects.values_list("label", "counter")) == {"1.0": 1, "2.0": 2}
    decision = RollbackDecision.objects.get()
    assert (decision.from_version, decision.to_version, decision.good_until) == (new, old, LATE)
    assert signed_versions([old.pk, new.pk], now=NOW) == {old.pk: True, new.pk: True}


def test_a_repetition_is_no_change(holder: Holder, new: Version) -> None:
    envelopes = (holder.keys(), holder.release(new, 1))
    assert len(accept(*envelopes)) == 2
    assert accept(*envelopes) == []


def test_one_bad_envelope_and_nothing_is_taken(holder: Holder, old: Version, new: Version) -> None:
    refused("key_unknown", holder.keys(), holder.release(old, 1), holder.release(new, 2, key=new_key()))
    new.refresh_from_db()
    assert (new.counter, trusted_key_set()) == (None, None)


def test_without_a_pinned_root_or_a_key_set_nothing_is_believed(holder: Holder, new: Version, settings) -> None:
    refused("no_root", holder.release(new, 1))
    settings.SIGNING_ROOT_KEYS = []
    refused("no_root", holder.keys())


def test_a_manifest_must_name_exactly_the_stored_files(holder: Holder, new: Version) -> None:
    stored = new.artifacts.get()
    right = File(stored.filename, stored.size, stored.sha256)
    wrong = [
        (File(stored.filename, stored.size + 1, stored.sha256),),
        (File(stored.filename, stored.size, "0" * 64),),
        (File("other.tar.gz", stored.size, stored.sha256),),
        tuple(sorted((right, File("more.tar.gz", 1, "0" * 64)))),
    ]
    for files in wrong:
        refused("artifact_mismatch", holder.keys(), holder.release(new, 1, files=files))


def test_a_manifest_of_what_the_library_does_not_have_is_refused(holder: Holder, new: Version) -> None:
    for change in ({"version": "9.9"}, {"product": "other"}):
        refused("wrong_version", holder.keys(), holder.release(new, 1, **change))


def test_a_counter_belongs_to_one_version_for_ever(holder: Holder, old: Version, new: Version) -> None:
    accept(holder.keys(), holder.release(old, 1))
    refused("counter_taken", holder.release(new, 1))
    refused("counter_taken", holder.release(old, 3))
    assert accept(holder.release(old, 1, expires=LATE - timedelta(days=1))) == ["manifest of Billing 1.0"]


def test_a_decision_must_give_the_counters_of_the_manifests(holder: Holder, old: Version, new: Version) -> None:
    accept(holder.keys(), holder.release(old, 1))
    refused("wrong_version", holder.rollback(counted(new, 2), counted(old, 1)))
    accept(holder.release(new, 2))
    refused("wrong_version", holder.rollback(counted(new, 3), counted(old, 1)))
    assert accept(holder.rollback(counted(new, 2), None)) == ["rollback decision Billing 2.0 → removal"]


def test_what_has_expired_is_refused(holder: Holder, new: Version) -> None:
    soon = NOW + timedelta(hours=1)
    refused("manifest_expired", holder.keys(), holder.release(new, 1, expires=soon), now=soon)
    refused("keys_stale", holder.keys(expires=soon), now=soon)
    accept(holder.keys(expires=soon))
    refused("manifest_expired", holder.release(new, 1), now=soon)


def test_an_older_or_forged_key_set_changes_nothing(holder: Holder) -> None:
    accept(holder.keys(2))
    refused("keys_stale", holder.keys(1))
    refused("signature_invalid", signed(holder.key_set(3), new_key()))


def test_a_revoked_key_counts_for_nothing_from_then_on(holder: Holder, old: Version, new: Version) -> None:
    accept(holder.keys(), holder.release(old, 1), holder.release(new, 2))
    accept(holder.rollback(counted(new, 2), counted(old, 1)))
    accept(holder.revoking())
    assert signed_versions([old.pk, new.pk], now=NOW) == {}
    for model in (ReleaseManifest, RollbackDecision):
        assert set(model.objects.values_list("is_trusted", "good_until")) == {(False, None)}
    refused("key_revoked", holder.release(new, 2, expires=LATE - timedelta(days=1)))


def test_signed_again_by_a_new_key_it_counts_again(holder: Holder, new: Version) -> None:
    accept(holder.keys(), holder.release(new, 1))
    other = Holder(root=holder.root)
    accept(signed(holder.key_set(2, release_keys=other.key_set().release_keys), holder.root))
    assert signed_versions([new.pk], now=NOW) == {}
    accept(holder.release(new, 1, key=other.key))
    assert signed_versions([new.pk], now=NOW) == {new.pk: True}


def test_an_expired_manifest_is_trusted_but_not_good(holder: Holder, new: Version) -> None:
    end = NOW + timedelta(days=1)
    accept(holder.keys(), holder.release(new, 1, expires=end))
    assert signed_versions([new.pk], now=end - timedelta(seconds=1)) == {new.pk: True}
    assert signed_versions([new.pk], now=end) == {new.pk: False}


def test_the_time_of_the_key_set_bounds_everything(holder: Holder, new: Version) -> None:
    end = NOW + timedelta(days=1)
    accept(holder.keys(expires=end), holder.release(new, 1))
    assert signed_versions([new.pk], now=end) == {new.pk: False}
    accept(holder.keys(2))
    assert signed_versions([new.pk], now=end) == {new.pk: True}


def test_other_pinned_roots_end_the_trust_in_old_sets(holder: Holder, new: Version, settings, capsys) -> None:
    accept(holder.keys(), holder.release(new, 1))
    call_command("verify_signatures")
    assert "1 key sets, 1 manifests, 0 decisions; 0 problems" in capsys.readouterr().out
    settings.SIGNING_ROOT_KEYS = [public_of(new_key())]
    assert trusted_key_set() is None
    with pytest.raises(SystemExit):
        call_command("verify_signatures")
    assert "no key set leads to the pinned root keys" in capsys.readouterr().out
    assert not ReleaseManifest.objects.filter(is_trusted=True).exists()


def test_an_envelope_or_a_file_that_was_changed_in_the_database_is_found(holder: Holder, old: Version, new) -> None:
    accept(holder.keys(), holder.release(old, 1), holder.release(new, 2))
    assert judge_again() == []
    row = old.manifests.get()
    ReleaseManifest.objects.filter(pk=row.pk).update(envelope=row.envelope.replace('"sig":"', '"sig":"AAAA'))
    new.artifacts.update(sha256="0" * 64)
    altered, other_files = sorted(judge_again())
    assert altered.startswith("manifest of Billing 1.0: signature_invalid")
    assert other_files == "manifest of Billing 2.0: the media library has other files"
    assert signed_versions([old.pk, new.pk], now=NOW) == {}


def test_it_needs_the_right_and_sensible_numbers(holder: Holder) -> None:
    with pytest.raises(PermissionRefused):
        accept(holder.keys(), actor=make_user("otto", "requester"))
    refused("invalid")


def test_the_request_proposes_counters_in_the_order_of_the_versions(holder: Holder, old: Version, new: Version) -> None:
    asked = request_for("x", versions=[new, old], ways_back=[(new, old), (new, None)], now=NOW)
    manifests, decisions = asked["documents"][:2], asked["documents"][2:]
    assert [(m["version"], m["counter"]) for m in manifests] == [("1.0", 1), ("2.0", 2)]
    assert [d["from"]["counter"] for d in decisions] == [2, 2]
    assert [d["to"] for d in decisions] == [{"version": "1.0", "counter": 1}, None]
    accept(holder.keys(), holder.release(new, 5))
    new.refresh_from_db()
    assert request_for("x", versions=[old], ways_back=[], now=NOW)["documents"][0]["counter"] == 6


def test_what_has_no_file_is_not_asked_for(product: Product, new: Version) -> None:
    draft = Version.objects.create(product=product, label="3.0", created_at=NOW)
    asked = request_for("x", versions=[draft, new], ways_back=[(draft, new), (new, None)], now=NOW)
    assert [document["kind"] for document in asked["documents"]] == ["release", "rollback"]


def test_the_command_takes_a_file(holder: Holder, new: Version, tmp_path, capsys) -> None:
    path = tmp_path / "signed.json"
    path.write_text(json.dumps({"envelopes": [e.to_json() for e in (holder.keys(), holder.release(new, 1))]}))
    call_command("import_signatures", path)
    assert "2 new" in capsys.readouterr().out
    path.write_text("nonsense")
    with pytest.raises(CommandError):
        call_command("import_signatures", path)
