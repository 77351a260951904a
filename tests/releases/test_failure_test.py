"""When a wave has failed: by share or by number, among enough that have an outcome, in every state of its rollout."""

import pytest

from distribution.models import Deployment
from incidents.models import Incident
from releases import services
from releases.models import Rollout, Verdict
from tests.releases.world import BIG_BANG, POLICY, Device, World, deployments, state, waves

pytestmark = pytest.mark.django_db


def test_one_more_failure_than_the_count_allows_is_a_breach_however_small_the_share(world: World) -> None:
    one, two, *_ = world.add_cis(6)
    world.mood("fails", one)
    rollout = world.started(policy={**BIG_BANG, "error_threshold": 90, "error_count": 1, "success_threshold": 50})
    world.tick()
    world.work(one)
    world.tick()
    assert state(rollout) == "running", "one may fail"
    world.mood("fails", two)
    world.work(two)
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "breach")
    assert "2 of 6 CIs failed; at most 1 may" in rollout.pause_reason
    assert "At most so many failed CIs: 1" in Incident.objects.get().description


def test_a_breach_waits_for_a_sample_that_is_large_enough(world: World) -> None:
    one, two, three, *_ = world.add_cis(6)
    world.mood("fails", one, two)
    rollout = world.started(policy={**BIG_BANG, "error_threshold": 0, "min_sample": 3})
    world.tick()
    world.work(one, two)
    world.tick()
    assert state(rollout) == "running", "two have an outcome"
    world.work(three)
    world.tick()
    assert state(rollout) == "paused", "three have one"
    assert Verdict.objects.get().numbers["failed"] == 2


def test_a_wave_at_rest_is_sample_enough_for_itself(world: World) -> None:
    one, *_ = world.add_cis(3)
    world.mood("fails", one)
    rollout = world.started(policy={**POLICY, "min_sample": 50})
    world.tick()
    world.work()
    world.tick()
    assert (state(rollout), waves(rollout)) == ("paused", ["failed", "waiting"])


def two_waves_under_way(world: World, **policy: object) -> Rollout:
    """The first wave has passed with a straggler, the second is under way; srv-2 and srv-4 hang."""
    one, two, three, four, _five = world.add_cis(5)
    world.mood("hangs", two, four)
    rollout = world.started(
        policy={**POLICY, "waves": [{"count": 2}, {"count": 2}, {"rest": True}], "success_threshold": 50, **policy}
    )
    world.tick()
    world.work(one, two)
    world.tick()
    world.tick(10)
    world.work(three, four)
    assert waves(rollout) == ["passed", "deploying", "waiting"]
    return rollout


def fail(world: World, *names: str) -> None:
    cis = [agent.ci for agent in world.devices if agent.ci.name in names]
    world.mood("fails", *cis)
    world.work(*cis)


def two_waves_that_fail(world: World, **policy: object) -> Rollout:
    """A failure in each of two waves, before the next tick."""
    rollout = two_waves_under_way(world, **policy)
    fail(world, "srv-2", "srv-4")
    return rollout


def test_two_waves_that_breach_in_one_tick_are_both_judged_and_told_together(world: World) -> None:
    rollout = two_waves_that_fail(world)
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "breach")
    assert waves(rollout) == ["failed", "failed", "waiting"]
    for number in (1, 2):
        assert f"Wave {number}: 1 of 2 CIs failed" in rollout.pause_reason
    assert rollout.events.filter(kind="paused").count() == 1
    assert rollout.events.filter(kind="wave_failed").count() == 2
    assert Verdict.objects.filter(kind="error", outcome="breached").count() == 2
    assert Incident.objects.count() == 1
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="both are known")
    world.pass_time()
    assert state(rollout) == "completed"


def test_two_waves_that_breach_in_one_tick_are_both_taken_back(world: World) -> None:
    rollout = two_waves_that_fail(world, on_error="rollback_wave")
    for _ in range(3):
        world.tick()
        world.work()
    assert (state(rollout), waves(rollout)) == ("paused", ["rolled_back", "rolled_back", "waiting"])
    assert set(world.runs().values()) == {"1.0"}
    assert deployments(rollout, "rollback") == {"srv-1": "succeeded", "srv-3": "succeeded"}


def test_two_waves_that_breach_in_one_tick_order_one_way_back_for_all(world: World) -> None:
    rollout = two_waves_that_fail(world, on_error="rollback_all")
    world.tick()
    assert state(rollout) == "rolling_back"
    assert rollout.events.filter(kind="rollback_ordered").count() == 1
    for _ in range(3):
        world.work()
        world.tick()
    assert state(rollout) == "rolled_back"
    assert Verdict.objects.filter(kind="error").count() == 2


def test_a_second_breach_while_paused_keeps_the_reason_of_the_first(world: World) -> None:
    rollout = two_waves_under_way(world)
    for name, reasons in (("srv-4", 1), ("srv-2", 2)):
        fail(world, name)
        world.tick()
        rollout.refresh_from_db()
        assert (rollout.pause_kind, rollout.pause_reason.count("CIs failed")) == ("breach", reasons)


def test_a_failure_while_it_is_aborted_is_judged_without_another_reaction(world: World) -> None:
    one, _ = world.add_cis(2)
    world.mood("hangs", one)
    rollout = world.started(policy={**BIG_BANG, "on_error": "rollback_all"})
    world.tick()
    world.work(one)
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="stop")
    world.mood("fails", one)
    agent = world.devices[0]
    agent._answer_cancel = lambda action, now: agent._install(_deployment(agent), now)  # it fails instead of cancelling
    world.work(one)
    world.tick()
    assert Verdict.objects.get().outcome == "breached"
    world.tick()
    assert (state(rollout), waves(rollout)) == ("aborted", ["failed"])


def _deployment(agent: Device) -> Deployment:
    return Deployment.objects.select_related("batch").get(ci=agent.ci)
