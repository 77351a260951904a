"""What failed on a CI is not offered there again by itself: not by the next rollout, not by one that waits already."""

from datetime import timedelta
from typing import Any

import pytest

from distribution.models import Deployment
from releases import services
from releases.models import Release, Rollout
from releases.targets import failed_before
from tests.distribution.fleet import stored_version
from tests.factories import make_product
from tests.releases.world import BIG_BANG, World, deployments, state
from tickets.exceptions import ConditionRefused

pytestmark = pytest.mark.django_db
PATIENT: dict[str, Any] = {**BIG_BANG, "error_threshold": 100, "success_threshold": 1}


def failed_on_the_first(world: World, **values: object) -> Rollout:
    """A rollout to two CIs that failed on the first one and has completed."""
    one, _two = world.add_cis(2)
    world.mood("fails", one)
    values.setdefault("policy", PATIENT)
    rollout = world.started(**values)
    world.tick()
    world.pass_time(3)
    assert (state(rollout), deployments(rollout)) == ("completed", {"srv-1": "failed", "srv-2": "succeeded"})
    world.mood("ok", one)
    return rollout


def next_release(world: World, **values: object) -> Release:
    """Another release with the same version, to the CIs that do not run it yet."""
    world.now += timedelta(hours=1)
    return world.approved(policy=PATIENT, **values)


def test_the_next_rollout_leaves_the_ci_out_and_says_why(world: World) -> None:
    first = failed_on_the_first(world)
    world.add_ci("srv-3")
    release = next_release(world)
    assert [ci.name for ci in failed_before(release)] == ["srv-1"]
    second = services.start_rollout(release, actor=world.sven, now=world.now)
    world.tick()
    world.pass_time(3)
    assert deployments(second) == {"srv-1": "excluded", "srv-2": "skipped", "srv-3": "succeeded"}
    assert (state(second), world.runs()["srv-1"]) == ("completed", "1.0")
    left_out = Deployment.objects.get(batch__wave__rollout=second, ci__name="srv-1")
    assert left_out.error_code == "failed_before"
    assert left_out.reason.startswith(f"It failed on this CI before, in {first.number}: health_check_failed")


def test_the_plan_may_order_another_try(world: World) -> None:
    failed_on_the_first(world)
    one = world.devices[0].ci
    release = next_release(world, targets={"again": [one.pk]})
    assert not failed_before(release).exists()
    second = services.start_rollout(release, actor=world.sven, now=world.now)
    world.tick()
    world.pass_time(3)
    assert (deployments(second)["srv-1"], world.runs()["srv-1"]) == ("succeeded", "2.0")


def test_a_person_may_order_the_retry_in_the_rollout(world: World) -> None:
    failed_on_the_first(world)
    world.add_ci("srv-3")
    second = services.start_rollout(next_release(world), actor=world.sven, now=world.now)
    world.tick()
    services.pause_rollout(second, actor=world.olga, now=world.now, reason="the disk was full")
    assert services.retry_failed_cis(second, actor=world.mona, now=world.now) == 1
    services.resume_rollout(second, actor=world.mona, now=world.now)
    world.pass_time(3)
    assert (deployments(second)["srv-1"], world.runs()["srv-1"]) == ("succeeded", "2.0")


def test_a_rollout_that_would_reach_nobody_does_not_start(world: World) -> None:
    failed_on_the_first(world)
    release = next_release(world, targets={"cis": [world.devices[0].ci.pk]})
    with pytest.raises(ConditionRefused, match="failed before on every target") as refused:
        services.start_rollout(release, actor=world.sven, now=world.now)
    assert refused.value.code == "failed_before"


def test_another_version_is_another_matter(world: World) -> None:
    failed_on_the_first(world)
    release = next_release(world)
    services.edit_release(release, actor=world.erik, now=world.now, versions=[world.newer])
    assert not failed_before(release).exists()


def test_of_several_products_one_new_version_makes_it_another_content(world: World) -> None:
    shop = make_product("shop")
    stored_version(shop, "1.0")
    shop_new, shop_newer = stored_version(shop, "1.1"), stored_version(shop, "1.2")
    both = world.add_ci("both", billing="1.0", shop="1.0")
    world.mood("fails", both)
    first = world.started(world.new, shop_new, policy=PATIENT)
    world.tick()
    world.work()
    services.pause_rollout(first, actor=world.olga, now=world.now, reason="stop")
    services.abort_rollout(first, actor=world.olga, now=world.now, reason="it fails")
    world.tick()
    world.now += timedelta(hours=1)
    assert [ci.name for ci in failed_before(world.draft(world.new, shop_new))] == ["both"]
    assert not failed_before(world.draft(world.new, shop_newer)).exists(), "nobody knows which of them it was"
    assert not failed_before(world.draft(world.new)).exists()


def test_what_waits_already_is_left_out_when_it_fails_meanwhile(world: World) -> None:
    one, two = world.add_cis(2)
    world.mood("fails", one)
    first = world.started(policy=PATIENT)
    world.tick()
    second = world.started(policy={**PATIENT, "soak_seconds": 1000})
    world.tick()
    assert deployments(second) == {"srv-1": "queued", "srv-2": "queued"}
    world.now += timedelta(seconds=1)
    for _step in range(4):
        world.devices[0].step(world.now)
    assert deployments(first)["srv-1"] == "failed"
    world.mood("ok", one)
    world.now += timedelta(seconds=1)
    # Before any tick: the device may ask, and does not get it.
    assert world.devices[0].step(world.now) is False or deployments(second)["srv-1"] == "queued"
    world.tick()
    world.work()
    assert deployments(second)["srv-1"] == "excluded"
    assert world.runs()["srv-1"] == "1.0"
    left_out = Deployment.objects.get(batch__wave__rollout=second, ci=one)
    assert left_out.reason == "It failed on this CI meanwhile, by another rollout."
    assert two.name in world.runs()


def test_a_device_that_falls_back_after_its_success_counts_as_failed(world: World) -> None:
    world.add_cis(2)
    rollout = world.started(policy={**BIG_BANG, "soak_seconds": 1000})
    world.tick()
    world.work()
    world.tick(10)
    assert deployments(rollout) == {"srv-1": "succeeded", "srv-2": "succeeded"}
    world.devices[0].runs["billing"] = "1.0"
    world.work()
    assert deployments(rollout)["srv-1"] == "failed"
    fell = Deployment.objects.get(attempt=2)
    assert (fell.error_code, fell.message, fell.offered_at) == ("reverted", "It went back to billing 1.0", None)
    world.work()
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "breach"), "1 of 2 failed, at most 20 % may"
    assert Deployment.objects.count() == 3, "said once"
    assert [ci.name for ci in failed_before(world.draft())] == ["srv-1"]
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.pass_time(2)
    assert state(rollout) == "rolled_back"
    assert set(world.runs().values()) == {"1.0"}


def test_going_back_by_order_is_no_failure_of_the_rollout(world: World) -> None:
    world.add_cis(1)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.pass_time(3)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="not wanted")
    world.pass_time(2)
    assert (state(rollout), deployments(rollout)) == ("rolled_back", {"srv-1": "succeeded"})
    assert not failed_before(world.draft()).exists()


def test_a_version_set_by_hand_that_is_not_the_one_of_before_is_drift_and_no_fall_back(world: World) -> None:
    world.add_cis(1)
    assert world.newer
    rollout = world.started(policy={**BIG_BANG, "soak_seconds": 1000})
    world.tick()
    world.work()
    world.devices[0].runs["billing"] = "3.0"
    world.work()
    assert deployments(rollout) == {"srv-1": "succeeded"}
