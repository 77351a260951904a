"""An abort: what waits is cancelled, what was begun is stopped or awaited, what is installed stays."""

import pytest

from releases import services
from releases.executor import advance_rollouts
from tests.releases.world import BIG_BANG, World, deployments, state
from tickets.exceptions import ConditionRefused, TransitionRefused

pytestmark = pytest.mark.django_db


def test_abort_with_nothing_installed_gives_everything_back(world: World) -> None:
    world.add_cis(2)
    change = world.change()
    rollout = world.started(changes=[change], policy=BIG_BANG)
    world.tick()
    assert (state(change), state(rollout.release)) == ("implementing", "deploying")
    world.devices[0].step(world.now)
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="wrong day")
    world.tick()
    assert state(rollout) == "aborting", "the device has not confirmed the cancel"
    world.work()
    world.tick()
    assert (state(rollout), state(rollout.release), state(change)) == ("aborted", "ready", "scheduled")
    assert set(deployments(rollout).values()) == {"cancelled"}
    with pytest.raises(ConditionRefused, match="installed nothing"):
        services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="back")
    again = services.start_rollout(rollout.release, actor=world.sven, now=world.now)
    world.tick()
    world.pass_time(3)
    assert (state(again), state(change)) == ("completed", "implemented")


def test_abort_while_the_targets_are_frozen(world: World, monkeypatch) -> None:
    world.add_cis(3)
    monkeypatch.setattr("distribution.steps.CHUNK", 1)
    monkeypatch.setattr("releases.executor.time.monotonic", iter(range(0, 10**6, 100)).__next__)
    rollout = world.started(policy=BIG_BANG)
    advance_rollouts(now=world.now)
    assert state(rollout) == "preparing"
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="stop")
    monkeypatch.undo()
    world.tick()
    assert (state(rollout), state(rollout.release)) == ("aborted", "ready")


def test_abort_with_something_installed_keeps_it_and_can_go_on_or_back(world: World) -> None:
    world.add_cis(2)
    change = world.change()
    rollout = world.started(changes=[change])
    release = rollout.release
    world.tick()
    world.work()
    world.tick()
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="stop")
    world.tick()
    assert (state(rollout), state(release), state(change)) == ("aborted", "ready", "implementing")
    assert world.runs() == {"srv-1": "2.0", "srv-2": "1.0"}
    with pytest.raises(ConditionRefused, match="installed it on some CIs"):
        services.cancel_release(release, actor=world.erik, now=world.now, reason="no")
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="back")
    with pytest.raises(TransitionRefused):
        services.edit_release(release, actor=world.erik, now=world.now, title="while it goes back")
    world.tick()
    world.work()
    world.tick()
    assert (state(rollout), state(release), state(change)) == ("rolled_back", "rolled_back", "authorised")
    assert set(world.runs().values()) == {"1.0"}


def test_a_stubborn_device_ends_what_it_began_and_the_abort_waits_for_it(world: World) -> None:
    (one,) = world.add_cis(1)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    for _ in range(3):
        world.devices[0].step(world.now)
    assert deployments(rollout) == {"srv-1": "installing"}
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="stop")
    world.mood("stubborn", one)
    world.work()
    world.tick()
    assert (state(rollout), deployments(rollout)) == ("aborted", {"srv-1": "succeeded"})


def test_an_abort_does_not_wait_for_ever_for_a_device_that_is_gone(world: World) -> None:
    (one,) = world.add_cis(1)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.devices[0].step(world.now)
    world.mood("offline", one)
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="stop")
    world.tick(99)
    assert state(rollout) == "aborting"
    world.tick(1)
    assert (state(rollout), deployments(rollout)) == ("aborted", {"srv-1": "cancelling"})
    rollout.refresh_from_db()
    assert rollout.waits_for == "CIs that may still catch up"
    world.mood("ok", one)
    world.work()
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.settled_at, deployments(rollout)) == (world.now, {"srv-1": "cancelled"})
