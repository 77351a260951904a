"""With signatures required: what has to be signed before a test, an approval and a start, and what is offered."""

from datetime import timedelta
from typing import Any

import pytest

from distribution import device
from distribution.channels.ddi import payload
from distribution.models import Deployment
from notifications.models import Outbox
from releases import services
from releases.models import Rollout
from signing.documents import Release, Rollback, read
from signing.envelope import Envelope, public_of
from software.models import ReleaseManifest, RollbackDecision, Version
from software.signatures import accept_envelopes
from tests.distribution.fleet import stored_version
from tests.factories import NOW, make_product
from tests.releases.world import BIG_BANG, World, deployments, state
from tests.signing.holder import LATE, Holder, new_key, signed
from tickets.clock import database_now
from tickets.exceptions import ConditionRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def holder(settings, world: World) -> Holder:
    """The key holder of this portal, where signatures are required."""
    found = Holder()
    settings.SIGNING_ROOT_KEYS = found.pins
    settings.REQUIRE_SIGNATURES = True
    upload(world, found.keys())
    return found


def upload(world: World, *envelopes: Envelope) -> None:
    accept_envelopes([envelope.text() for envelope in envelopes], actor=None, now=world.now)


def sign(world: World, holder: Holder, request: dict[str, Any], **values: Any) -> None:
    """What the key holder does with a request: signs each document and gives it back."""
    for document in request["documents"]:
        times = {"issued": "2026-11-01T00:00:00Z", "expires": LATE.strftime("%Y-%m-%dT%H:%M:%SZ"), **values}
        data = {"schema": 1, **document, **times}
        read_as = Release if document["kind"] == "release" else Rollback
        upload(world, signed(read_as.from_json(data), holder.key))


def missing(call: Any, *args: Any, **values: Any) -> list[str]:
    with pytest.raises(ConditionRefused) as refusal:
        call(*args, **values)
    assert refusal.value.code == "signatures_missing"
    return list(refusal.value.detail["missing"])


def test_an_unsigned_version_is_neither_approved_nor_started(world: World, holder: Holder) -> None:
    world.add_cis(3)
    release = world.ready(world.new)
    everything = [
        "release manifest of Billing 2.0",
        "release manifest of Billing 1.0",
        "rollback decision Billing 2.0 → 1.0",
    ]
    assert missing(services.approve_release, release, actor=world.mona, now=world.now) == everything
    sign(world, holder, services.signing_request(release, now=world.now))
    assert services.signing_request(release, now=world.now)["documents"] == []
    services.approve_release(release, actor=world.mona, now=world.now)
    RollbackDecision.objects.update(is_trusted=False, good_until=None)
    found = missing(services.start_rollout, release, actor=world.sven, now=world.now)
    assert found == ["rollback decision Billing 2.0 → 1.0"]
    assert not Rollout.objects.exists()


def test_a_test_needs_the_manifests_of_the_package_only(world: World, holder: Holder) -> None:
    ci = world.add_ci("srv-1")
    release = world.built(world.new)
    found = missing(services.start_test, release, actor=world.erik, now=world.now, source_ci=ci)
    assert found == ["release manifest of Billing 2.0"]


def test_with_everything_signed_it_runs_and_goes_back(world: World, holder: Holder) -> None:
    world.add_cis(2)
    release = world.ready(world.new, policy=BIG_BANG)
    sign(world, holder, services.signing_request(release, now=world.now))
    services.approve_release(release, actor=world.mona, now=world.now)
    rollout = services.start_rollout(release, actor=world.sven, now=world.now)
    world.pass_time(3)
    assert state(rollout) == "completed"
    RollbackDecision.objects.update(good_until=world.now)
    found = missing(services.roll_back_rollout, rollout, actor=world.sven, now=world.now, reason="x")
    assert found == ["Billing 2.0 → 1.0"]
    RollbackDecision.objects.update(good_until=LATE)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="Invoices are empty")
    world.pass_time(2)
    assert state(rollout) == "rolled_back"
    assert set(world.runs().values()) == {"1.0"}


def test_each_previous_version_and_each_removal_needs_its_own_decision(world: World, holder: Holder) -> None:
    older = stored_version(world.billing, "0.9")
    world.add_ci("old", billing="0.9")
    world.add_cis(2)
    receipts = make_product("receipts")
    stored_version(receipts, "1.0")
    bare = world.add_ci("bare", receipts="1.0")
    release = world.ready(world.new, targets={"fresh": {str(bare.pk): [world.billing.pk]}})
    request = services.signing_request(release, now=world.now)
    versions = [d["version"] for d in request["documents"] if d["kind"] == "release"]
    ways = {(d["from"]["version"], d["to"] and d["to"]["version"]) for d in request["documents"] if "from" in d}
    assert versions == ["0.9", "1.0", "2.0"]
    assert ways == {("2.0", None), ("2.0", older.label), ("2.0", "1.0")}


def test_a_way_back_that_ends_before_early_life_support_does_not_count(world: World, holder: Holder) -> None:
    world.add_cis(1)
    release = world.ready(world.new)
    sign(world, holder, services.signing_request(release, now=world.now))
    RollbackDecision.objects.update(good_until=world.now + timedelta(days=5))
    assert services.missing_signatures(release, now=world.now).lines() == ["rollback decision Billing 2.0 → 1.0"]
    RollbackDecision.objects.update(good_until=world.now + timedelta(days=5, seconds=1))
    assert not services.missing_signatures(release, now=world.now)


def test_a_manifest_of_the_version_before_may_have_expired_where_a_decision_names_it(
    world: World, holder: Holder
) -> None:
    world.add_cis(1)
    release = world.ready(world.new)
    sign(world, holder, services.signing_request(release, now=world.now))
    ReleaseManifest.objects.filter(version=world.old).update(good_until=world.now)
    assert not services.missing_signatures(release, now=world.now)
    ReleaseManifest.objects.filter(version=world.new).update(good_until=world.now)
    assert services.missing_signatures(release, now=world.now).lines() == ["release manifest of Billing 2.0"]


def test_a_step_forward_to_a_lower_counter_needs_a_decision_of_its_own(world: World, holder: Holder) -> None:
    """The older version was signed later: agents take the newer one for a downgrade."""
    world.add_cis(1)
    upload(world, holder.release(world.new, 1), holder.release(world.old, 2))
    release = world.ready(world.new)
    assert services.missing_signatures(release, now=world.now).lines() == ["rollback decision Billing 1.0 → 2.0"]


def test_the_check_costs_the_same_for_any_fleet(world: World, holder: Holder, django_assert_max_num_queries) -> None:
    world.add_cis(30)
    release = world.ready(world.new)
    with django_assert_max_num_queries(12):
        services.missing_signatures(release, now=world.now)


# --- offers -------------------------------------------------------------------------------------------
def begun(world: World, holder: Holder) -> Rollout:
    """A rollout under way whose device has not asked yet."""
    ci = world.add_ci("srv-1")
    release = world.ready(world.new, policy=BIG_BANG)
    sign(world, holder, services.signing_request(release, now=world.now))
    services.approve_release(release, actor=world.mona, now=world.now)
    rollout = services.start_rollout(release, actor=world.sven, now=world.now)
    world.tick()
    assert device.current_action(ci, now=world.now).deploy is not None
    return rollout


def may_be_offered(world: World) -> bool:
    deployment = Deployment.objects.select_related("batch").get()
    shown = device.current_action(deployment.ci, now=world.now).deploy is not None
    if not shown:
        assert not device.offer(deployment, deployment.ci, now=world.now)
    return shown


def test_a_revoked_key_stops_offers_and_a_new_signature_lets_them_go_on(world: World, holder: Holder) -> None:
    begun(world, holder)
    upload(world, holder.revoking())
    assert not may_be_offered(world)
    again = Holder(root=holder.root)
    upload(world, again.keys(3))
    upload(world, again.release(Version.objects.get(label="2.0"), 2))
    assert may_be_offered(world)


def said(rollout: Rollout) -> list[str]:
    return list(rollout.events.filter(kind__in=["unsigned", "signed"]).order_by("id").values_list("kind", flat=True))


def test_people_hear_when_a_revoked_key_stops_their_rollout_and_when_it_goes_on(world: World, holder: Holder) -> None:
    rollout = begun(world, holder)
    world.tick()
    assert said(rollout) == []
    upload(world, holder.revoking())
    for _ in range(3):
        world.tick()
    assert said(rollout) == ["unsigned"], "once, however many ticks"
    assert "Billing 2.0" in rollout.events.get(kind="unsigned").text
    told = Outbox.objects.filter(event__contains=":unsigned:")
    assert {notice.recipient for notice in told} == {rollout.release.created_by, rollout.started_by}
    assert {notice.thread for notice in told} == {rollout.release.number}

    again = Holder(root=holder.root)
    upload(world, again.keys(3))
    upload(world, again.release(Version.objects.get(label="2.0"), 2))
    for _ in range(2):
        world.tick()
    assert said(rollout) == ["unsigned", "signed"]
    ReleaseManifest.objects.update(good_until=database_now() - timedelta(seconds=1))
    world.tick()
    assert said(rollout) == ["unsigned", "signed", "unsigned"], "an expiry stops it, too"
    assert told.all().count() == 4, "both are told again"


def test_nobody_hears_of_a_rollout_that_has_nothing_left_to_offer(world: World, holder: Holder, settings) -> None:
    rollout = begun(world, holder)
    settings.REQUIRE_SIGNATURES = False
    upload(world, holder.revoking())
    world.tick()
    assert said(rollout) == []
    world.pass_time(1)
    settings.REQUIRE_SIGNATURES = True
    world.tick()
    assert Deployment.objects.get().state != "queued"
    assert said(rollout) == []


def test_an_expired_manifest_is_not_offered_unless_signatures_are_not_required(
    world: World, holder: Holder, settings
) -> None:
    begun(world, holder)
    ReleaseManifest.objects.update(good_until=database_now() - timedelta(seconds=1))
    assert not may_be_offered(world)
    settings.REQUIRE_SIGNATURES = False
    assert may_be_offered(world)


def test_the_way_back_is_offered_by_its_decision_alone(world: World, holder: Holder) -> None:
    rollout = begun(world, holder)
    world.work()
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="wait")
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    decisions = RollbackDecision.objects.all()
    decisions.update(good_until=database_now() - timedelta(seconds=1))
    world.tick()
    world.work()
    assert deployments(rollout, "rollback") == {"srv-1": "queued"}
    decisions.update(good_until=LATE)
    ReleaseManifest.objects.update(good_until=database_now() - timedelta(seconds=1))
    world.work()
    world.tick()
    assert state(rollout) == "rolled_back"


def entries_of(deployment: Deployment) -> list[dict[str, str]]:
    body = payload.deployment("http://portal/x", deployment, deployment.ci, 0, NOW)
    (chunk,) = body["deployment"]["chunks"]
    return list(chunk.get("metadata", ()))


def metadata(deployment: Deployment) -> dict[str, str]:
    return {entry["key"]: entry["value"] for entry in entries_of(deployment)}


def test_offers_carry_what_the_agent_verifies(world: World, holder: Holder) -> None:
    rollout = begun(world, holder)
    forward = metadata(Deployment.objects.get())
    assert set(forward) == {"itsm.keys", "itsm.release"}
    assert read(Envelope.from_json(forward["itsm.release"])).version == "2.0"
    world.work()
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="wait")
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.tick()
    back = metadata(Deployment.objects.latest("pk"))
    assert set(back) == {"itsm.keys", "itsm.release", "itsm.rollback"}
    decision = read(Envelope.from_json(back["itsm.rollback"]))
    assert (decision.from_.version, decision.to.version) == ("2.0", "1.0")
    world.pass_time(2)


def test_offers_lead_through_every_change_of_roots(world: World, holder: Holder) -> None:
    second, third = new_key(), new_key()
    roots = (public_of(second),)
    upload(world, signed(holder.key_set(2), holder.root))
    upload(world, signed(holder.key_set(3, roots=roots), holder.root, second))
    upload(world, signed(holder.key_set(4, roots=roots), second))
    upload(world, signed(holder.key_set(5, roots=(public_of(third),)), second, third))
    upload(world, signed(holder.key_set(6, roots=(public_of(third),)), third))
    begun(world, holder)
    sets = [entry["value"] for entry in entries_of(Deployment.objects.get()) if entry["key"] == "itsm.keys"]
    assert [read(Envelope.from_json(text)).number for text in sets] == [6, 5, 3, 1], "no more than it takes"


def test_a_removal_carries_its_decision(world: World, holder: Holder) -> None:
    receipts = make_product("receipts")
    stored_version(receipts, "1.0")
    ci = world.add_ci("bare", receipts="1.0")
    release = world.ready(world.new, policy=BIG_BANG, targets={"fresh": {str(ci.pk): [world.billing.pk]}})
    sign(world, holder, services.signing_request(release, now=world.now))
    services.approve_release(release, actor=world.mona, now=world.now)
    rollout = services.start_rollout(release, actor=world.sven, now=world.now)
    world.tick()
    world.now += timedelta(seconds=1)
    world.pass_time(3)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.tick()
    entries = metadata(Deployment.objects.latest("pk"))
    assert set(entries) == {"action", "itsm.keys", "itsm.rollback"}
    assert read(Envelope.from_json(entries["itsm.rollback"])).to is None
    world.pass_time(2)
    assert state(rollout) == "rolled_back"


def test_unsigned_deployments_carry_nothing(world: World) -> None:
    world.add_cis(1)
    world.started(world.new, policy=BIG_BANG)
    world.tick()
    assert metadata(Deployment.objects.get()) == {}
    world.pass_time(3)
