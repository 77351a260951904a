"""One CI whose deployment did not succeed: what is known about it, and what somebody decides."""

import pytest

from distribution.models import Deployment
from releases import services
from releases.models import FailureDecision, Rollout
from releases.services.failure_report import failure_report
from releases.services.failures import accepted_of
from tests.releases.test_verbs_of_a_rollout import TWO_WAVES, breached, kinds, running
from tests.releases.world import BIG_BANG, World, deployments, state, waves
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused, SeparationOfDuties, TransitionRefused

pytestmark = pytest.mark.django_db


def decide(world: World, rollout: Rollout, number: int, decision: str, person: str = "mona", reason: str = "seen"):
    services.decide_failure(
        rollout, ci=world.devices[number].ci, decision=decision, actor=getattr(world, person), now=world.now,
        reason=reason,
    )  # fmt: skip


def test_what_is_known_about_a_failure(world: World) -> None:
    rollout = breached(world)
    report = failure_report(rollout, world.devices[0].ci, actor=world.mona)
    assert [(a.attempt, a.error_code, a.message) for a in report.attempts] == [
        (1, "health_check_failed", "it does not start")
    ]
    assert "it does not start" in report.log[-1][1]
    assert (report.others, [d.ci.name for d in report.named]) == (1, ["srv-2"])
    assert {option.name: option.refusal for option in report.options} == dict.fromkeys(
        ["fail", "retry", "ignore", "exclude"], ""
    )
    starters = failure_report(rollout, world.devices[0].ci, actor=world.sven).options
    assert [option.name for option in starters if option.refusal] == ["ignore", "exclude"]
    with pytest.raises(ConditionRefused, match="not a target"):
        failure_report(rollout, world.add_ci("other"), actor=world.mona)


def test_an_ignored_failure_counts_against_its_wave_no_longer_and_has_a_name(world: World) -> None:
    rollout = running(world, policy={**TWO_WAVES, "error_threshold": 50})
    world.mood("fails", world.devices[0].ci)
    world.work()
    world.tick()
    rollout.refresh_from_db()
    assert rollout.pause_kind == "stragglers"
    with pytest.raises(SeparationOfDuties):
        decide(world, rollout, 0, "ignore", person="sven")
    for _ in range(2):
        decide(world, rollout, 0, "ignore", reason="is replaced next week")
    decision = FailureDecision.objects.get()
    assert (decision.kind, decision.reason, decision.deployment.ci.name) == (
        "ignored",
        "is replaced next week",
        "srv-1",
    )
    wave = rollout.waves.get(kind="forward", number=1)
    assert accepted_of([wave.pk])[wave.pk].failed == 1
    assert kinds(rollout).count("decided") == 1
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="one is known")
    world.pass_time()
    assert (state(rollout), deployments(rollout)["srv-1"]) == ("completed", "failed")


def test_an_ignored_failure_does_not_excuse_the_next_one(world: World) -> None:
    rollout = running(world, policy={**TWO_WAVES, "error_threshold": 0})
    world.mood("fails", world.devices[0].ci)
    world.mood("hangs", world.devices[1].ci)
    world.work()
    world.tick()
    decide(world, rollout, 0, "ignore")
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="go on")
    world.tick()
    assert state(rollout) == "running"
    world.mood("fails", world.devices[1].ci)
    world.work()
    world.tick()
    assert state(rollout) == "paused"


def test_one_failure_is_tried_again(world: World) -> None:
    rollout = breached(world)
    world.mood("ok", *(agent.ci for agent in world.devices))
    for _ in range(2):
        decide(world, rollout, 0, "retry")
    assert Deployment.objects.filter(ci=world.devices[0].ci).count() == 2
    assert deployments(rollout)["srv-1"] == "queued"
    world.tick()
    assert waves(rollout)[0] == "failed", "the other failure still stands"
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="the other one is known")
    world.pass_time()
    assert (state(rollout), world.runs()["srv-1"], world.runs()["srv-2"]) == ("completed", "2.0", "1.0")
    ignored = FailureDecision.objects.get(kind="ignored")
    assert ignored.deployment.ci == world.devices[1].ci


def test_a_failed_ci_is_taken_out_and_never_tried_again(world: World) -> None:
    rollout = breached(world)
    with pytest.raises(SeparationOfDuties):
        services.exclude_ci(rollout, ci=world.devices[0].ci, actor=world.sven, now=world.now, reason="it only disturbs")
    for _ in range(2):
        decide(world, rollout, 0, "exclude")
    services.exclude_ci(rollout, ci=world.devices[1].ci, actor=world.mona, now=world.now, reason="this one, too")
    assert deployments(rollout) == {"srv-1": "excluded", "srv-2": "excluded", "srv-3": "queued", "srv-4": "queued"}
    with pytest.raises(ConditionRefused, match="No CI"):
        services.retry_failed_cis(rollout, actor=world.mona, now=world.now)
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="without them")
    world.pass_time()
    assert (state(rollout), Deployment.objects.filter(offered_at__isnull=False).count()) == ("completed", 4)


def test_a_failure_is_left_as_it_is(world: World) -> None:
    rollout = breached(world)
    decide(world, rollout, 0, "fail")
    assert deployments(rollout)["srv-1"] == "failed"
    assert FailureDecision.objects.get().kind == "failed"


def test_who_may_not_decide_and_what_does_not_fit_is_refused(world: World) -> None:
    rollout = breached(world)
    with pytest.raises(PermissionRefused):
        decide(world, rollout, 0, "retry", person="olga")
    with pytest.raises(InvalidInput):
        decide(world, rollout, 0, "forget")
    with pytest.raises(InvalidInput):
        decide(world, rollout, 0, "retry", reason=" ")
    with pytest.raises(TransitionRefused, match="waiting"):
        decide(world, rollout, 2, "ignore")
    assert not FailureDecision.objects.exists()


RETRY = {"codes": ["health_check_failed"], "attempts": 3, "backoff_seconds": 60}


def test_a_listed_error_is_tried_again_by_itself_after_a_while(world: World) -> None:
    policy = {**BIG_BANG, "error_threshold": 0, "offer_deadline": 10_000, "retry": RETRY}
    rollout = running(world, 2, policy=policy)
    world.mood("fails", world.devices[0].ci)
    world.work()
    world.tick()
    assert (state(rollout), deployments(rollout)["srv-1"]) == ("running", "queued"), "not a failure yet"
    again = Deployment.objects.get(attempt=2)
    assert again.not_before is not None
    assert 60 <= (again.not_before - world.now).total_seconds() <= 72
    world.work()
    assert Deployment.objects.get(attempt=2).state == "queued", "too early"
    world.mood("ok", world.devices[0].ci)
    world.now += (again.not_before - world.now) * 1
    world.pass_time(3)
    assert (state(rollout), world.runs()["srv-1"]) == ("completed", "2.0")
    assert rollout.events.get(kind="retry").actor is None


def test_after_the_last_attempt_it_has_failed(world: World) -> None:
    policy = {**BIG_BANG, "error_threshold": 0, "offer_deadline": 10_000, "retry": RETRY}
    rollout = running(world, 1, policy=policy)
    world.mood("fails", world.devices[0].ci)
    pauses = []
    for _ in range(4):
        world.work()
        world.tick()
        newest = Deployment.objects.order_by("attempt").last()
        assert newest is not None
        if newest.not_before and newest.state == "queued":
            pauses.append((newest.not_before - world.now).total_seconds())
            world.tick(pauses[-1])
    assert Deployment.objects.count() == 3
    assert len(pauses) == 2
    assert pauses[1] == pytest.approx(2 * pauses[0])
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "breach")


def test_another_error_is_not_tried_again_by_itself(world: World) -> None:
    policy = {**BIG_BANG, "error_threshold": 0, "retry": {**RETRY, "codes": ["no_space"]}}
    rollout = running(world, 1, policy=policy)
    world.mood("fails", world.devices[0].ci)
    world.work()
    world.tick()
    assert (state(rollout), Deployment.objects.count()) == ("paused", 1)


def test_somebody_calls_the_next_attempt_off(world: World) -> None:
    policy = {**BIG_BANG, "error_threshold": 0, "offer_deadline": 10_000, "retry": RETRY}
    rollout = running(world, 1, policy=policy)
    world.mood("fails", world.devices[0].ci)
    world.work()
    world.tick()
    decide(world, rollout, 0, "fail", reason="its disk is broken")
    world.tick()
    assert (state(rollout), Deployment.objects.count()) == ("paused", 2)
    assert Deployment.objects.get(attempt=2).error_code == "given_up"
