"""The problem-free period: it begins with the threshold, begins anew with each problem, and a pause stops its clock."""

from datetime import timedelta

import pytest

from releases import services
from releases.models import Rollout, Wave
from tests.releases.world import BIG_BANG, World, state, waves

pytestmark = pytest.mark.django_db


def soaking(world: World, number: int = 2, **policy: object) -> Rollout:
    """All devices are done and the ten seconds have begun at this moment."""
    world.add_cis(number)
    rollout = world.started(policy={**BIG_BANG, **policy})
    world.tick()
    world.work()
    world.tick()
    assert waves(rollout) == ["soaking"]
    return rollout


def test_a_pause_stops_the_clock_and_what_elapsed_counts(world: World) -> None:
    rollout = soaking(world)
    world.tick(6)
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look")
    assert Wave.objects.values_list("soaked_seconds", "soak_started_at").get() == (6, None)
    for _ in range(5):
        world.tick(1000)
    services.resume_rollout(rollout, actor=world.sven, now=world.now)
    world.tick(3)
    assert state(rollout) == "running", "nine of ten seconds"
    world.tick(1)
    assert state(rollout) == "completed"


def test_two_pauses_add_up(world: World) -> None:
    rollout = soaking(world)
    for _ in range(2):
        world.tick(4)
        services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look")
        world.tick(100)
        services.resume_rollout(rollout, actor=world.sven, now=world.now)
    world.tick(1)
    assert state(rollout) == "running"
    world.tick(1)
    assert state(rollout) == "completed"


def test_a_failure_below_the_threshold_begins_it_anew(world: World) -> None:
    _one, late = world.add_cis(2)
    world.mood("hangs", late)
    rollout = world.started(policy={**BIG_BANG, "success_threshold": 50, "error_threshold": 60})
    world.tick()
    world.work()
    world.tick()
    assert waves(rollout) == ["soaking"]
    world.tick(9)
    world.mood("fails", late)
    world.work(late)
    world.tick()
    wave = Wave.objects.get()
    assert (wave.state, wave.soak_started_at, wave.soaked_seconds) == ("soaking", world.now, 0)
    world.tick(9)
    assert state(rollout) == "running"
    world.tick(1)
    assert state(rollout) == "completed"
    assert rollout.events.filter(kind="wave_soaking").count() == 2


def test_an_incident_during_the_pause_begins_it_anew_when_it_goes_on(world: World) -> None:
    rollout = soaking(world)
    world.tick(9)
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look")
    world.now += timedelta(seconds=50)
    world.incident(world.devices[0].ci, state="new")
    world.tick(50)
    services.resume_rollout(rollout, actor=world.sven, now=world.now)
    world.tick(9)
    assert state(rollout) == "running"
    world.tick(1)
    assert state(rollout) == "completed"


def test_an_incident_from_before_the_installation_or_one_that_is_cancelled_does_not_count(world: World) -> None:
    one, two = world.add_cis(2)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.now += timedelta(seconds=1)
    world.incident(one, state="new")
    world.now += timedelta(seconds=1)
    world.work()
    world.tick()
    world.now += timedelta(seconds=5)
    world.incident(two, state="cancelled")
    world.tick(4)
    assert state(rollout) == "running"
    world.tick(1)
    assert state(rollout) == "completed"


def test_a_tick_while_soaking_writes_nothing(world: World, writes) -> None:
    soaking(world)
    world.tick(1)
    with writes(allowed=0):
        world.tick(1)
