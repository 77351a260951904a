"""What stops a rollout: too many failures, too little success, silence, people. And how it goes on."""

import pytest
from django.test import Client

from distribution.models import Deployment
from incidents.models import Incident
from notifications.models import Outbox
from releases import services
from releases.models import FailureDecision, Rollout, Verdict, Wave
from releases.services.failures import accepted_of
from software.services import withdraw_version
from tests.releases.world import BIG_BANG, POLICY, World, deployments, state, waves
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused, SeparationOfDuties

pytestmark = pytest.mark.django_db


def accepted(wave: Wave) -> int:
    return accepted_of([wave.pk])[wave.pk].total


def fail_first_wave(world: World, **policy: object) -> Rollout:
    """Four CIs, the two of the first wave fail; the tick has seen it."""
    one, two, *_ = world.add_cis(4)
    world.mood("fails", one, two)
    rollout = world.started(policy={**POLICY, "waves": [{"count": 2}, {"rest": True}], **policy})
    world.tick()
    world.work()
    world.tick()
    rollout.refresh_from_db()
    return rollout


def test_a_breach_pauses_and_opens_one_incident_with_the_evidence(world: World) -> None:
    rollout = fail_first_wave(world)
    assert (rollout.state, rollout.pause_kind, waves(rollout)) == ("paused", "breach", ["failed", "waiting"])
    assert "2 of 2 CIs failed" in rollout.pause_reason
    incident = Incident.objects.get()
    assert rollout.breach_incident == incident
    assert list(rollout.release.caused_incidents.all()) == [incident]
    assert list(incident.caused_by_releases.all()) == [rollout.release]
    for text in ("srv-1", "srv-2", "health_check_failed", "it does not start", rollout.number):
        assert text in incident.description
    verdict = Verdict.objects.get()
    assert (verdict.kind, verdict.outcome, verdict.numbers["failed"]) == ("error", "breached", 2)
    assert set(Outbox.objects.filter(thread=incident.number).values_list("recipient__username", flat=True)) == {
        "sven",
        "erik",
    }
    world.tick(100)
    world.tick()
    assert (Incident.objects.count(), rollout.events.filter(kind="wave_failed").count()) == (1, 1)
    assert deployments(rollout) == {"srv-1": "failed", "srv-2": "failed", "srv-3": "queued", "srv-4": "queued"}


def test_only_somebody_else_resumes_after_an_automatic_stop_and_says_why(world: World) -> None:
    rollout = fail_first_wave(world)
    with pytest.raises(SeparationOfDuties):
        services.resume_rollout(rollout, actor=world.sven, now=world.now, reason="it is fine")
    with pytest.raises(InvalidInput):
        services.resume_rollout(rollout, actor=world.mona, now=world.now)
    with pytest.raises(PermissionRefused):
        services.resume_rollout(rollout, actor=world.olga, now=world.now, reason="it is fine")
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="known, will be replaced")
    assert rollout.round == 2
    world.pass_time()
    assert state(rollout) == "completed", "the failures so far are accepted"
    assert accepted(rollout.waves.get(number=1)) == 2
    assert {(d.reason, d.decided_by) for d in FailureDecision.objects.all()} == {
        ("known, will be replaced", world.mona)
    }
    assert sorted(world.runs().values()) == ["1.0", "1.0", "2.0", "2.0"]
    assert not rollout.release.caused_incidents.exclude(pk=rollout.breach_incident_id).exists()


@pytest.mark.slow
def test_a_failure_after_the_accepted_ones_stops_it_again(world: World) -> None:
    one, two, three = world.add_cis(3)
    world.mood("fails", one)
    world.mood("hangs", two, three)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.work()
    world.tick()
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="known")
    world.tick()
    assert state(rollout) == "running"
    world.mood("fails", two, three)
    world.work()
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "breach")
    assert rollout.waves.get().verdicts.filter(kind="error").count() == 2, "one for each round"


def test_an_accepted_straggler_that_catches_up_does_not_excuse_another_failure(world: World) -> None:
    one, two, _ = world.add_cis(3)
    world.mood("offline", one)
    world.mood("hangs", two)
    rollout = world.started(policy={**BIG_BANG, "progress_deadline": 10_000, "error_threshold": 0})
    world.tick()
    world.work()
    world.tick(100)
    assert state(rollout) == "paused"
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="it will come back")
    world.mood("ok", one)
    world.work(one)
    world.tick()
    assert accepted(rollout.waves.get()) == 0
    world.mood("fails", two)
    world.work(two)
    world.tick()
    assert state(rollout) == "paused"


def test_a_version_withdrawn_on_the_way_is_told_on_the_rollout_and_to_its_people_once(world: World, writes) -> None:
    world.add_cis(3)
    rollout = world.started()
    world.tick()
    world.work()
    withdraw_version(world.new, actor=world.erik, now=world.now, reason="it eats disks")
    world.pass_time(3)
    assert (state(rollout), waves(rollout)) == ("running", ["passed", "deploying"])
    event = rollout.events.get(kind="withdrawn")
    assert "Billing 2.0" in event.text
    rollout.refresh_from_db()
    assert rollout.waits_for == event.text
    told = Outbox.objects.filter(event__contains=":withdrawn:")
    assert set(told.values_list("recipient__username", flat=True)) == {"erik", "sven"}
    with writes(allowed=0):
        world.tick(1)
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="no more of it")
    world.pass_time(1)
    assert (state(rollout), rollout.events.filter(kind="withdrawn").count()) == ("aborted", 1)


def test_breach_with_rollback_wave_takes_that_wave_back_and_stays_paused(world: World, client: Client) -> None:
    one, two, three, _ = world.add_cis(4)
    world.mood("fails", two)
    policy = {**POLICY, "waves": [{"count": 3}, {"rest": True}], "on_error": "rollback_wave"}
    rollout = world.started(policy=policy)
    world.tick()
    world.work(one, two)
    world.mood("hangs", three)
    world.work(three)
    world.tick()
    assert (state(rollout), waves(rollout)) == ("paused", ["failed", "waiting"])
    world.mood("ok", three)
    world.work()
    world.tick()
    world.work()
    world.tick()
    assert (state(rollout), waves(rollout)) == ("paused", ["rolled_back", "waiting"])
    assert set(world.runs().values()) == {"1.0"}
    assert deployments(rollout)["srv-3"] == "cancelled"
    assert deployments(rollout, "rollback") == {"srv-1": "succeeded"}
    client.force_login(world.mona)
    events = client.get(f"/api/v1/rollouts/{rollout.number}/events/").json()["results"]
    kinds = {(event["kind"], event["wave"], event["wave_kind"]) for event in events}
    assert {("wave_failed", 1, "forward"), ("paused", None, None)} <= kinds
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="the others are of another kind")
    world.pass_time(3)
    assert (state(rollout), world.runs()["srv-4"], world.runs()["srv-1"]) == ("completed", "2.0", "1.0")


def test_nothing_is_completed_when_every_wave_was_taken_back(world: World) -> None:
    (one,) = world.add_cis(1)
    world.mood("fails", one)
    rollout = world.started(policy={**BIG_BANG, "on_error": "rollback_wave"})
    for _ in range(3):
        world.tick()
        world.work()
    assert (state(rollout), waves(rollout)) == ("paused", ["rolled_back"])
    with pytest.raises(ConditionRefused, match="nothing is left"):
        services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="go on")
    with pytest.raises(ConditionRefused, match="No CI"):
        services.retry_failed_cis(rollout, actor=world.mona, now=world.now)
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="give up")
    world.tick()
    assert (state(rollout), state(rollout.release)) == ("aborted", "ready")


def test_resuming_while_a_wave_goes_back_leaves_that_wave_alone(world: World) -> None:
    one, two, _ = world.add_cis(3)
    world.mood("fails", one)
    policy = {**POLICY, "waves": [{"count": 2}, {"rest": True}], "on_error": "rollback_wave"}
    rollout = world.started(policy=policy)
    world.tick()
    world.work()
    world.tick()
    world.mood("offline", two)
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="go on with the others")
    world.pass_time(3)
    assert (state(rollout), waves(rollout)) == ("running", ["failed", "passed"])
    rollout.refresh_from_db()
    assert rollout.waits_for
    world.mood("ok", two)
    world.pass_time(2)
    assert (state(rollout), waves(rollout)) == ("completed", ["rolled_back", "passed"])
    assert world.runs() == {"srv-1": "1.0", "srv-2": "1.0", "srv-3": "2.0"}


def test_breach_with_rollback_all_takes_everything_back(world: World) -> None:
    _, two, *_ = world.add_cis(4)
    policy = {**POLICY, "waves": [{"count": 1}, {"count": 2}, {"rest": True}], "on_error": "rollback_all"}
    rollout = world.started(policy=policy)
    world.tick()
    world.work()
    world.tick()
    world.tick(10)
    world.mood("fails", two)
    world.work()
    assert world.runs() == {"srv-1": "2.0", "srv-2": "1.0", "srv-3": "2.0", "srv-4": "1.0"}
    world.tick()
    assert state(rollout) == "rolling_back"
    world.mood("ok", two)
    world.work()
    world.tick()
    assert (state(rollout), state(rollout.release)) == ("rolled_back", "rolled_back")
    assert set(world.runs().values()) == {"1.0"}
    assert waves(rollout) == ["rolled_back", "rolled_back", "waiting"]
    assert deployments(rollout)["srv-4"] == "cancelled"
    assert deployments(rollout, "rollback") == {"srv-1": "succeeded", "srv-3": "succeeded"}
    assert Incident.objects.count() == 1


def test_a_wave_that_has_passed_can_still_breach_and_is_judged_once(world: World) -> None:
    one, two, _ = world.add_cis(3)
    world.mood("hangs", two)
    policy = {**POLICY, "waves": [{"count": 2}, {"rest": True}], "success_threshold": 50}
    rollout = world.started(policy=policy)
    world.tick()
    world.work(one, two)
    world.tick()
    world.tick(10)
    assert waves(rollout) == ["passed", "deploying"]
    world.mood("fails", two)
    world.work(two)
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.pause_kind, waves(rollout)) == ("breach", ["failed", "deploying"])
    assert rollout.events.filter(kind="wave_failed").count() == 1
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="known")
    world.pass_time()
    assert state(rollout) == "completed"


def test_a_breach_is_seen_while_paused_and_outranks_the_persons_pause(world: World) -> None:
    one, _ = world.add_cis(2)
    world.mood("hangs", one)
    rollout = world.started()
    world.tick()
    world.work(one)
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look")
    world.mood("fails", one)
    world.work(one)
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "breach")
    with pytest.raises(SeparationOfDuties):
        services.resume_rollout(rollout, actor=world.sven, now=world.now, reason="mine")


def test_too_few_successes_without_a_breach_pause_it_as_stragglers(world: World) -> None:
    one, *_ = world.add_cis(6)
    world.mood("fails", one)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.work()
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "stragglers")
    assert Verdict.objects.get().outcome == "insufficient"
    assert not Incident.objects.exists()
    with pytest.raises(SeparationOfDuties):
        services.resume_rollout(rollout, actor=world.sven, now=world.now, reason="mine")
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="one of six")
    world.pass_time(3)
    assert state(rollout) == "completed"


@pytest.mark.parametrize(("counts_as", "ends"), [("failure", "paused"), ("skipped", "completed")])
def test_silent_agents_are_overdue_and_count_as_the_policy_says(world: World, counts_as: str, ends: str) -> None:
    one, two, _ = world.add_cis(3)
    world.mood("offline", one)
    world.mood("hangs", two)
    rollout = world.started(policy={**BIG_BANG, "overdue_counts_as": counts_as})
    world.tick()
    world.work()
    world.tick(99)
    assert state(rollout) == "running"
    world.tick(1)
    world.tick(10)
    assert (state(rollout), world.runs()["srv-3"]) == (ends, "2.0")
    assert deployments(rollout) == {"srv-1": "queued", "srv-2": "installing", "srv-3": "succeeded"}
    assert Deployment.objects.filter(overdue_at__isnull=False).count() == 2


@pytest.mark.slow
def test_stragglers_of_a_passed_wave_come_later_even_after_a_pause(world: World) -> None:
    _, two, _ = world.add_cis(3)
    world.mood("offline", two)
    policy = {**POLICY, "waves": [{"count": 2}, {"rest": True}], "success_threshold": 50}
    rollout = world.started(policy=policy)
    world.tick()
    world.work()
    world.tick()
    world.tick(10)
    assert waves(rollout) == ["passed", "deploying"]
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look")
    services.resume_rollout(rollout, actor=world.sven, now=world.now)
    world.mood("ok", two)
    world.pass_time(3)
    assert (state(rollout), set(world.runs().values())) == ("completed", {"2.0"})


def test_a_pause_lets_what_is_under_way_end_and_offers_nothing_new(world: World) -> None:
    world.add_cis(2)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.devices[0].step(world.now)
    with pytest.raises(InvalidInput):
        services.pause_rollout(rollout, actor=world.olga, now=world.now, reason=" ")
    with pytest.raises(PermissionRefused):
        services.pause_rollout(rollout, actor=world.rita, now=world.now, reason="no")
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look")
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="again")
    assert rollout.pause_reason == "a look", "it is paused already"
    world.pass_time(2)
    assert deployments(rollout) == {"srv-1": "succeeded", "srv-2": "queued"}
    assert state(rollout) == "paused"
    services.resume_rollout(rollout, actor=world.sven, now=world.now)
    world.pass_time(3)
    assert state(rollout) == "completed"
