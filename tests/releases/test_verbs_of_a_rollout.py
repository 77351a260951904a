"""The orders that people give to a rollout: twice, in the wrong state, without the right, and what they come to."""

from typing import Any

import pytest

from distribution.models import Deployment
from releases import services
from releases.models import FailureDecision, Rollout, Verdict
from tests.releases.world import BIG_BANG, POLICY, World, deployments, state, waves
from tickets.exceptions import (
    ConditionRefused,
    DomainError,
    InvalidInput,
    PermissionRefused,
    SeparationOfDuties,
    TransitionRefused,
)

pytestmark = pytest.mark.django_db
TWO_WAVES = {**POLICY, "waves": [{"count": 2}, {"rest": True}]}


def running(world: World, number: int = 4, policy: dict[str, Any] = TWO_WAVES) -> Rollout:
    world.add_cis(number)
    rollout = world.started(policy=policy)
    world.tick()
    rollout.refresh_from_db()
    return rollout


def breached(world: World, *fail: int, policy: dict[str, Any] = TWO_WAVES) -> Rollout:
    """Both CIs of the first wave fail (or those named); the tick has seen it."""
    rollout = running(world, policy=policy)
    failing = [world.devices[n].ci for n in fail or (0, 1)]
    world.mood("fails", *failing)
    world.work(*failing)
    world.tick()
    rollout.refresh_from_db()
    return rollout


def kinds(rollout: Rollout) -> list[str]:
    return list(rollout.events.order_by("pk").values_list("kind", flat=True))


def test_the_same_order_twice_is_done_once(world: World) -> None:
    rollout = running(world)
    order = {"now": world.now, "reason": "a look"}
    for who in (world.olga, world.sven):
        services.pause_rollout(rollout, actor=who, **order)
    assert (rollout.pause_reason, kinds(rollout).count("paused")) == ("a look", 1)
    for who in (world.sven, world.mona):
        services.resume_rollout(rollout, actor=who, **order)
    assert (rollout.round, kinds(rollout).count("resumed")) == (2, 1)
    ci = world.devices[3].ci
    for who in (world.olga, world.sven):
        services.exclude_ci(rollout, ci=ci, actor=who, **order)
    assert kinds(rollout).count("excluded") == 1
    for who in (world.olga, world.mona):
        services.abort_rollout(rollout, actor=who, **order)
    world.tick()
    assert state(rollout) == "aborted"
    services.abort_rollout(Rollout.objects.get(), actor=world.olga, **order)
    assert kinds(rollout).count("aborting") == 1


def test_an_order_that_was_given_is_still_refused_to_whom_it_is_not_for(world: World) -> None:
    rollout = running(world)
    order = {"now": world.now, "reason": "a look"}
    services.pause_rollout(rollout, actor=world.olga, **order)
    with pytest.raises(PermissionRefused):
        services.pause_rollout(rollout, actor=world.rita, **order)
    with pytest.raises(PermissionRefused):
        services.resume_rollout(rollout, actor=world.olga, **order)
    services.resume_rollout(rollout, actor=world.sven, **order)
    with pytest.raises(PermissionRefused):
        services.resume_rollout(rollout, actor=world.olga, **order)


def test_a_hold_lets_the_open_wave_end_and_opens_no_other_one(world: World) -> None:
    rollout = running(world)
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="only these", mode="let_run")
    assert (rollout.state, rollout.pause_kind) == ("paused", "held")
    world.pass_time(4)
    assert deployments(rollout) == {"srv-1": "succeeded", "srv-2": "succeeded", "srv-3": "queued", "srv-4": "queued"}
    assert waves(rollout) == ["deploying", "waiting"]
    services.resume_rollout(rollout, actor=world.sven, now=world.now)
    world.pass_time()
    assert state(rollout) == "completed"


def test_a_hold_can_become_a_freeze_and_a_breach_freezes_it_by_itself(world: World) -> None:
    rollout = running(world)
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="only these", mode="let_run")
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="nothing at all")
    assert (rollout.pause_kind, rollout.pause_reason) == ("manual", "nothing at all")
    assert kinds(rollout)[-2:] == ["held", "paused"]
    world.pass_time(1)
    assert set(deployments(rollout).values()) == {"queued"}
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a little", mode="let_run")
    assert rollout.pause_kind == "manual", "a frozen rollout is not thawed by a pause"
    services.resume_rollout(rollout, actor=world.sven, now=world.now)
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="only these", mode="let_run")
    world.mood("fails", world.devices[0].ci)
    world.work(world.devices[0].ci)
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.pause_kind, kinds(rollout)[-1]) == ("breach", "paused")
    world.work()
    assert deployments(rollout)["srv-2"] == "queued", "the breach closed the wave"


def test_after_a_breach_the_failed_ones_are_tried_again(world: World) -> None:
    rollout = breached(world)
    world.mood("ok", *(agent.ci for agent in world.devices))
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="the disk was full", mode="retry")
    assert not FailureDecision.objects.exists(), "nothing is accepted"
    world.pass_time()
    assert (state(rollout), set(world.runs().values())) == ("completed", {"2.0"})


def test_nothing_is_resumed_by_trying_again_what_has_not_failed(world: World) -> None:
    rollout = running(world)
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look")
    with pytest.raises(ConditionRefused, match="No CI"):
        services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="again", mode="retry")
    assert state(rollout) == "paused"


def test_after_a_breach_the_rest_of_the_wave_is_skipped_by_a_recorded_decision(world: World) -> None:
    policy = {**POLICY, "waves": [{"count": 3}, {"rest": True}], "max_in_flight": 2}
    rollout = breached(world, policy=policy)
    with pytest.raises(InvalidInput):
        services.resume_rollout(rollout, actor=world.mona, now=world.now, mode="skip")
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="old hardware", mode="skip")
    assert (waves(rollout), rollout.state) == (["passed", "waiting"], "running")
    verdict = Verdict.objects.get(kind="override")
    assert (verdict.outcome, verdict.round, verdict.numbers["accepted"]) == ("overridden", 2, 2)
    assert {d.reason for d in FailureDecision.objects.all()} == {"old hardware"}
    world.pass_time()
    assert state(rollout) == "completed"
    assert deployments(rollout) == {"srv-1": "failed", "srv-2": "failed", "srv-3": "excluded", "srv-4": "succeeded"}


def test_the_starter_does_not_skip_even_his_own_pause(world: World) -> None:
    rollout = running(world)
    services.pause_rollout(rollout, actor=world.sven, now=world.now, reason="a look")
    with pytest.raises(SeparationOfDuties):
        services.resume_rollout(rollout, actor=world.sven, now=world.now, reason="faster", mode="skip")
    assert state(rollout) == "paused"


def test_who_resumes_what_he_has_not_seen_is_refused(world: World) -> None:
    rollout = breached(world)
    seen = rollout.round
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="once", mode="retry", seen_round=seen)
    world.pass_time(1)
    assert state(rollout) == "paused", "it stopped again"
    with pytest.raises(TransitionRefused) as refused:
        services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="two", seen_round=seen)
    assert refused.value.code == "edit_conflict"
    assert state(rollout) == "paused"


def test_the_next_wave_opens_now_by_a_second_persons_decision(world: World) -> None:
    rollout = running(world, policy={**TWO_WAVES, "soak_seconds": 10_000})
    order = {"wave": 1, "now": world.now, "reason": "the fix is urgent"}
    with pytest.raises(ConditionRefused, match="problem-free"):
        services.next_wave(rollout, actor=world.mona, **order)
    world.work()
    world.tick()
    rollout.refresh_from_db()
    assert "problem-free period of wave 1" in rollout.waits_for
    with pytest.raises(SeparationOfDuties):
        services.next_wave(rollout, actor=world.sven, **order)
    with pytest.raises(PermissionRefused):
        services.next_wave(rollout, actor=world.olga, **order)
    services.next_wave(rollout, actor=world.mona, **order)
    services.next_wave(rollout, actor=world.mona, **order)
    assert [(v.kind, v.outcome) for v in Verdict.objects.all()] == [
        ("success", "passed"),
        ("override", "overridden"),
    ]
    world.tick()
    assert waves(rollout) == ["passed", "deploying"]
    services.next_wave(rollout, actor=world.mona, **order)
    assert waves(rollout) == ["passed", "deploying"], "the order was about wave 1"
    assert kinds(rollout).count("overridden") == 1


def test_next_wave_at_a_gate_is_the_answer_that_the_gate_waits_for(world: World) -> None:
    rollout = running(world, policy={**TWO_WAVES, "manual_gate": True})
    world.pass_time(2)
    rollout.refresh_from_db()
    assert rollout.pause_kind == "gate"
    services.next_wave(rollout, actor=world.sven, wave=1, now=world.now, reason="looks good")
    assert not Verdict.objects.filter(kind="override").exists()
    world.pass_time()
    assert state(rollout) == "completed"


def test_an_older_rollout_makes_way_when_somebody_says_so(world: World) -> None:
    older = running(world, 2, policy=BIG_BANG)
    world.devices[0].step(world.now)
    newer = world.started(world.newer, policy=BIG_BANG)
    with pytest.raises(TransitionRefused):
        services.supersede_older(newer, actor=world.mona, now=world.now, reason="3.0 is better")
    world.tick()
    for _ in range(2):
        services.supersede_older(newer, actor=world.mona, now=world.now, reason="3.0 is better")
    assert kinds(newer).count("superseded") == 1
    assert deployments(older) == {"srv-1": "cancelling", "srv-2": "superseded"}
    with pytest.raises(PermissionRefused):
        services.supersede_older(newer, actor=world.olga, now=world.now, reason="mine")


@pytest.mark.parametrize("order", ["pause", "abort", "resume"])
def test_nobody_orders_anything_from_a_rollout_that_has_ended(world: World, order: str) -> None:
    rollout = running(world, 1, policy=BIG_BANG)
    world.pass_time(3)
    rollout.refresh_from_db()
    assert rollout.state == "completed"
    with pytest.raises(DomainError):
        getattr(services, f"{order}_rollout")(rollout, actor=world.mona, now=world.now, reason="late")
    assert not Deployment.objects.exclude(state="succeeded").exists()
