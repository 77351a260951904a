"""The tickets are told by steps: what comes between two of them, or ends one, loses and repeats nothing."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from incidents.models import Incident
from notifications.models import Outbox
from releases import services
from releases.executor import advance_rollouts
from releases.models import Rollout
from releases.services import cascade
from tests.releases.tickets_told import roll_back
from tests.releases.world import BIG_BANG, World, state

pytestmark = pytest.mark.django_db


@pytest.mark.slow
def test_a_rollback_in_the_middle_of_the_completion_ends_with_everything_taken_back(world: World, monkeypatch) -> None:
    cis = world.add_cis(3)
    monkeypatch.setattr("releases.services.cascade.CHUNK", 1)
    incidents = [world.incident(ci) for ci in cis]
    problem = world.problem(*incidents)
    change = world.change(problem)
    rollout = world.started(changes=[change], policy=BIG_BANG)
    world.tick()
    world.now += timedelta(seconds=1)
    world.work()
    world.tick()
    world.now += timedelta(seconds=10)
    one_step(world, until=lambda: state(incidents[0]) == "resolved")
    assert state(incidents[2]) == "on_hold"
    roll_back(world, rollout)
    assert [state(t) for t in (rollout, change, problem, *incidents)] == [
        "rolled_back",
        "authorised",
        "fix_in_progress",
        *["on_hold"] * 3,
    ]


def one_step(world: World, until: Callable[[], bool]) -> None:
    """Ticks that have no time for more than one step, as often as it takes."""
    for _ in range(50):
        if until():
            return
        advance_rollouts(now=world.now, budget_seconds=0)
    raise AssertionError("never")


def test_the_completion_is_not_lost_when_a_part_goes_back_meanwhile(world: World, monkeypatch) -> None:
    cis = world.add_cis(3)
    incidents = [world.incident(ci) for ci in cis]
    change = world.change(incidents=incidents)
    rollout = world.started(changes=[change], policy=BIG_BANG)
    world.tick()
    world.now += timedelta(seconds=1)
    world.work()
    world.tick()
    world.now += timedelta(seconds=10)
    one_step(world, until=lambda: state(rollout) == "completed")
    assert state(change) == "implementing"
    services.roll_back_ci(rollout, ci=cis[0], actor=world.sven, now=world.now, reason="broken here")
    world.work()
    world.tick()
    assert state(change) == "implemented"
    assert [state(i) for i in incidents] == ["on_hold", "resolved", "resolved"]


def test_many_tickets_are_told_in_chunks_and_a_crash_between_them_loses_and_repeats_nothing(
    world: World, monkeypatch
) -> None:
    (ci,) = world.add_cis(1)
    monkeypatch.setattr("releases.services.cascade.CHUNK", 3)
    incidents = [world.incident(ci) for _ in range(7)]
    rollout = world.started(changes=[world.change(incidents=incidents)], policy=BIG_BANG)
    world.tick()
    world.work()
    world.tick()
    world.now += timedelta(seconds=10)
    one_step(world, until=lambda: Incident.objects.filter(state="resolved").count() == 3)
    rollout.refresh_from_db()
    assert rollout.cascade_mark.startswith("incidents:")

    def dies(*args: object, **kwargs: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as broken:
        broken.setattr("releases.services.cascade._last", dies)
        world.tick()
    assert Incident.objects.filter(state="resolved").count() == 3, "what was not committed did not happen"
    world.tick()
    assert Incident.objects.filter(state="resolved").count() == 7
    assert Outbox.objects.filter(event=cascade.completion_event(rollout), thread__startswith="INC").count() == 7
    assert {i.entries.count() for i in incidents} == {2}
    rollout.refresh_from_db()
    assert (rollout.cascade, rollout.settled_at) == ("", world.now)


def test_one_rollout_that_cannot_go_on_does_not_hold_up_the_others(world: World, monkeypatch) -> None:
    one, two = world.add_cis(2)
    bad = world.started(policy=BIG_BANG, targets={"cis": [one.pk]})
    good = world.started(policy=BIG_BANG, targets={"cis": [two.pk]})
    real = cascade.ended_of

    def broken(rollout: Rollout) -> int:
        if rollout.pk == bad.pk:
            raise ValueError("broken data")
        return real(rollout)

    monkeypatch.setattr("releases.services.cascade.ended_of", broken)
    world.tick()
    world.pass_time(3)
    assert (state(good), Rollout.objects.get(pk=good.pk).cascade) == ("completed", "")
    monkeypatch.undo()
    world.tick()
    assert Rollout.objects.get(pk=bad.pk).cascade == ""
