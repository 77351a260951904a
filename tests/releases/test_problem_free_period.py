"""The problem-free period accrues only while the copy runs, is heard and is well, and begins anew when it must."""

from datetime import timedelta

import pytest

from cmdb.models import ConfigurationItem, InstalledVersion
from distribution import health
from distribution.models import Deployment, HealthCheck
from releases import services
from releases.models import TestRun
from test_environments.models import TestEnvironment
from tests.releases.copies import SOAK, soaking
from tests.releases.world import Device, World, state
from tickets.exceptions import ConditionRefused, PermissionRefused, TransitionRefused

pytestmark = pytest.mark.django_db


def test_the_period_stands_still_while_the_copy_does_not_run(world: World, run: TestRun) -> None:
    agent = soaking(world, run)
    world.tick(SOAK // 2)
    TestEnvironment.objects.update(observed_power="crashed", observed_at=world.now)
    world.tick()
    world.tick(10 * SOAK)
    run.refresh_from_db()
    assert (run.state, run.soaked(world.now).seconds) == ("soaking", SOAK // 2)
    TestEnvironment.objects.update(observed_power="running", observed_at=world.now)
    world.tick(10 * SOAK)
    run.refresh_from_db()
    assert run.soaked(world.now).seconds == SOAK // 2, "it runs, but nobody has heard of it since"
    heard(world, agent)
    world.tick()
    world.tick(SOAK // 2 - 1)
    assert state(run) == "soaking"
    world.tick(1)
    assert state(run) == "passed"


def heard(world: World, agent: Device) -> None:
    ConfigurationItem.objects.filter(pk=agent.ci.pk).update(last_seen_at=world.now)


def test_time_in_which_nobody_heard_of_the_copy_does_not_count(world: World, run: TestRun) -> None:
    agent = soaking(world, run)
    TestRun.objects.update(soak_seconds=1000)
    heard(world, agent)
    world.tick(400)
    run.refresh_from_db()
    assert "not been heard" in run.soak_pause_reason
    assert run.soaked_seconds == 0
    world.tick(5000)
    assert state(run) == "soaking"
    world.tick(1)
    heard(world, agent)
    world.tick()
    run.refresh_from_db()
    assert (run.soak_paused_at, run.soaked(world.now).seconds) == (None, 0)


def answer(world: World, agent: Device, word: str) -> None:
    """The copy's agent answers the question about its health."""
    check = HealthCheck.objects.get(ci=agent.ci, outcome="")
    assert health.take_answer(agent.ci, {"health.request": str(check.pk), "health.billing": word}, now=world.now)


def test_the_copy_is_asked_for_its_health_and_what_is_not_well_does_not_count(world: World, run: TestRun) -> None:
    agent = soaking(world, run)
    world.tick(5)
    answer(world, agent, "pass")
    world.tick(5)
    answer(world, agent, "fail: the till does not open")
    world.tick(1)
    run.refresh_from_db()
    assert "the till does not open" in run.soak_pause_reason
    assert run.soaked_seconds == 5, "until it was last known to be well"
    world.tick(SOAK)
    answer(world, agent, "fail: still")
    world.tick(SOAK)
    answer(world, agent, "pass")
    world.tick(1)
    run.refresh_from_db()
    assert (run.soak_paused_at, run.soaked(world.now).seconds) == (None, 5)
    world.tick(SOAK - 6)
    assert state(run) == "soaking"
    world.tick(1)
    assert state(run) == "passed"


def test_a_copy_that_runs_again_and_says_that_it_is_well_goes_on_at_once(world: World, run: TestRun) -> None:
    agent = soaking(world, run)
    world.tick(5)
    TestEnvironment.objects.update(observed_power="off", observed_at=world.now)
    world.tick(1)
    answer(world, agent, "pass")
    TestEnvironment.objects.update(observed_power="running", observed_at=world.now + timedelta(seconds=1))
    world.tick(10)
    assert TestRun.objects.get().soak_paused_at, "that answer is from before it was started"
    answer(world, agent, "pass")
    world.tick(1)
    assert TestRun.objects.get().soak_paused_at is None


def test_a_package_that_is_applied_again_begins_from_nothing_and_keeps_what_was(world: World, run: TestRun) -> None:
    agent = soaking(world, run)
    world.tick(SOAK // 2)
    first = Deployment.objects.get()
    services.apply_again(run.release, actor=world.erik, now=world.now, reason="with another setting")
    run.refresh_from_db()
    assert (run.state, run.restarts, run.batch, state(run.environment)) == ("preparing", 1, None, "reverting")
    world.tick(SOAK)
    assert state(run) == "preparing"
    InstalledVersion.objects.filter(ci=agent.ci, valid_to=None).update(valid_to=world.now)
    agent.runs["billing"] = "1.0"
    agent._tell(world.now)
    TestEnvironment.objects.update(state="ready", is_wanted_running=True)
    world.tick()
    agent.run(world.now)
    world.tick()
    run.refresh_from_db()
    assert (run.state, run.soak_started_at, run.soaked(world.now).seconds) == ("soaking", world.now, 0)
    assert run.batch_id != first.batch_id
    world.tick(SOAK - 1)
    assert state(run) == "soaking"
    world.tick(1)
    assert state(run) == "passed"
    period = run.earlier_periods.get()
    assert (period.seconds, period.batch) == (SOAK // 2, first.batch)
    assert "with another setting" in period.why


def test_what_does_not_soak_is_not_applied_again(world: World, run: TestRun) -> None:
    with pytest.raises(ConditionRefused, match="problem-free period"):
        services.apply_again(run.release, actor=world.erik, now=world.now, reason="why not")
    soaking(world, run)
    with pytest.raises(PermissionRefused):
        services.apply_again(run.release, actor=world.olga, now=world.now, reason="why not")
    TestEnvironment.objects.update(state="snapshotting")
    with pytest.raises(TransitionRefused):
        services.apply_again(run.release, actor=world.erik, now=world.now, reason="why not")
    assert (state(run), run.earlier_periods.count()) == ("soaking", 0)
