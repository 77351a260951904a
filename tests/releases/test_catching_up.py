"""Devices that come back after the rollout has closed, and the three clocks that say when one is late."""

from datetime import timedelta
from typing import Any

import pytest

from distribution.models import Deployment
from releases import services
from releases.models import Rollout
from tests.releases.world import BIG_BANG, World, deployments, state
from tickets.exceptions import ConditionRefused

pytestmark = pytest.mark.django_db
LEAVES_ASIDE: dict[str, Any] = {**BIG_BANG, "overdue_counts_as": "skipped"}


def completed_without_the_first(world: World, **values: object) -> Rollout:
    """A rollout to two CIs, one of which was away all the time."""
    one, _two = world.add_cis(2)
    world.mood("offline", one)
    values.setdefault("policy", LEAVES_ASIDE)
    rollout = world.started(**values)
    world.tick()
    world.work()
    world.tick(101)
    world.tick(11)
    assert (state(rollout), deployments(rollout)["srv-1"]) == ("completed", "queued")
    return rollout


def come_back(world: World) -> None:
    world.mood("ok", world.devices[0].ci)
    world.work()
    world.tick()


def test_who_comes_back_weeks_later_still_gets_it(world: World) -> None:
    rollout = completed_without_the_first(world)
    world.tick(30 * 86400)
    rollout.refresh_from_db()
    assert rollout.waits_for == "CIs that may still catch up"
    come_back(world)
    rollout.refresh_from_db()
    assert (deployments(rollout)["srv-1"], world.runs()["srv-1"]) == ("succeeded", "2.0")
    assert rollout.settled_at == world.now


def test_not_after_a_newer_rollout_has_reached_it(world: World) -> None:
    rollout = completed_without_the_first(world)
    newer = world.started(world.newer, policy=LEAVES_ASIDE)
    world.tick(5 * 86400)
    old = Deployment.objects.get(batch__wave__rollout=rollout, ci__name="srv-1")
    assert (old.state, old.reason) == ("superseded", "A newer rollout has reached the CI.")
    come_back(world)
    assert (deployments(newer)["srv-1"], world.runs()["srv-1"]) == ("succeeded", "3.0")
    rollout.refresh_from_db()
    assert rollout.settled_at is not None


def test_a_newer_rollout_that_leaves_it_out_changes_nothing(world: World) -> None:
    rollout = completed_without_the_first(world)
    world.started(world.newer, policy=LEAVES_ASIDE, targets={"cis": [world.devices[1].ci.pk]})
    world.tick(5 * 86400)
    come_back(world)
    assert (deployments(rollout)["srv-1"], world.runs()["srv-1"]) == ("succeeded", "2.0")


def test_not_when_something_newer_was_installed_by_hand(world: World) -> None:
    rollout = completed_without_the_first(world)
    assert world.newer
    world.devices[0].runs["billing"] = "3.0"
    world.devices[0]._tell(world.now)
    come_back(world)
    assert deployments(rollout)["srv-1"] == "superseded"
    assert world.runs()["srv-1"] == "3.0"


def test_not_after_a_rollback_and_not_after_an_abort(world: World) -> None:
    rollout = completed_without_the_first(world)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    come_back(world)
    assert (deployments(rollout)["srv-1"], world.runs()["srv-1"]) == ("cancelled", "1.0")
    world.work()
    world.tick()
    assert state(rollout) == "rolled_back"
    assert "srv-1" not in deployments(rollout, "rollback")
    world.now += timedelta(hours=1)
    world.mood("offline", world.devices[0].ci)
    second = world.started(policy=LEAVES_ASIDE)
    world.tick()
    services.abort_rollout(second, actor=world.olga, now=world.now, reason="no")
    come_back(world)
    assert (state(second), deployments(second)["srv-1"], world.runs()["srv-1"]) == ("aborted", "cancelled", "1.0")
    with pytest.raises(ConditionRefused, match="installed nothing"):
        services.roll_back_rollout(second, actor=world.sven, now=world.now, reason="back")


def test_in_all_a_ci_has_so_long_whatever_it_waits_for(world: World) -> None:
    one, two, three = world.add_cis(3)
    patient = {"offer_deadline": 10_000, "progress_deadline": 10_000, "confirm_deadline": 10_000, "max_in_flight": 1}
    rollout = world.started(policy={**LEAVES_ASIDE, **patient, "total_deadline": 500})
    world.tick()
    world.mood("hangs", one)
    world.work(one)
    world.tick(499)
    assert set(Deployment.objects.values_list("overdue_at", flat=True)) == {None}
    world.tick(1)
    assert set(Deployment.objects.values_list("overdue_at", flat=True)) == {world.now}
    assert {ci.name for ci in (one, two, three)} == set(deployments(rollout))
    assert state(rollout) == "running", "left aside, so that the wave soaks"
    world.tick(10)
    assert state(rollout) == "completed"
    world.mood("ok", one)
    world.work()
    assert set(deployments(rollout).values()) == {"succeeded"}, "late, and done all the same"


def test_the_clock_in_all_begins_anew_for_a_retry_and_stands_while_paused(world: World) -> None:
    (one,) = world.add_cis(1)
    world.mood("fails", one)
    rollout = world.started(policy={**BIG_BANG, "error_threshold": 100, "success_threshold": 100, "total_deadline": 50})
    world.tick()
    world.work()
    world.tick(40)
    assert state(rollout) == "paused", "nothing is under way"
    services.retry_failed_cis(rollout, actor=world.mona, now=world.now)
    world.tick(60)
    assert Deployment.objects.get(attempt=2).overdue_at is None, "nobody can get it now"
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="again")
    world.tick(49)
    assert Deployment.objects.get(attempt=2).overdue_at is None
    world.tick(1)
    assert Deployment.objects.get(attempt=2).overdue_at == world.now
