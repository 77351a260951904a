"""A version that must not be skipped: CIs get it before any later one, by no door around it."""

from datetime import timedelta

import pytest

from distribution import device
from releases import services
from releases.plan_findings import findings
from software.models import Version
from tests.releases.test_going_back import completed
from tests.releases.world import BIG_BANG, World, deployments, state
from tickets.exceptions import ConditionRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def step(world: World) -> Version:
    """2.0 must not be skipped on the way from 1.0 to 3.0."""
    Version.objects.filter(pk=world.new.pk).update(must_not_skip=True)
    world.new.refresh_from_db()
    return world.new


def errors(world: World, release: object) -> list[str]:
    return [f.code for f in findings(release, now=world.now) if f.level == "error"]  # type: ignore[arg-type]


def test_a_rollout_that_would_skip_it_does_not_start(world: World, step: Version) -> None:
    one, two = world.add_cis(2)
    world.add_ci("srv-9", billing="2.0")
    release = world.approved(world.newer, policy=BIG_BANG)
    assert errors(world, release) == ["step_skipped"]
    with pytest.raises(ConditionRefused, match="2 CIs would skip") as refused:
        services.start_rollout(release, actor=world.sven, now=world.now)
    assert refused.value.code == "step_skipped"
    services.edit_release(release, actor=world.erik, now=world.now, targets={"exclude": [one.pk, two.pk]})
    assert errors(world, release) == []


def test_with_the_step_done_it_goes_on(world: World, step: Version) -> None:
    completed(world, policy=BIG_BANG)
    rollout = world.started(world.newer, policy=BIG_BANG)
    world.pass_time(4)
    assert (state(rollout), world.runs()) == ("completed", {"srv-1": "3.0", "srv-2": "3.0"})


def test_a_step_that_is_withdrawn_binds_nobody(world: World, step: Version) -> None:
    world.add_cis(1)
    release = world.approved(world.newer, policy=BIG_BANG)
    Version.objects.filter(pk=step.pk).update(state=Version.State.WITHDRAWN)
    assert errors(world, release) == []


def test_a_ci_that_fell_behind_the_step_meanwhile_is_not_offered_the_later_one(world: World, step: Version) -> None:
    """The step's rollback reaches the CI while the later version waits for it."""
    world.add_cis(1)
    first = completed(world, policy=BIG_BANG)
    later = world.started(world.newer, policy=BIG_BANG)
    world.tick()
    services.pause_rollout(later, actor=world.olga, now=world.now, reason="wait")
    services.roll_back_rollout(first, actor=world.sven, now=world.now, reason="the step is broken")
    world.tick()
    world.work()
    world.tick()
    assert world.runs() == {"srv-1": "1.0"}
    services.resume_rollout(later, actor=world.mona, now=world.now)
    world.tick()
    ci = world.devices[0].ci
    ci.refresh_from_db()
    assert device.current_action(ci, now=world.now).is_idle
    assert deployments(later) == {"srv-1": "queued"}


def test_a_waiting_step_is_never_superseded(world: World, step: Version) -> None:
    world.add_cis(1)
    first = world.started(policy=BIG_BANG)
    world.tick()
    Version.objects.filter(pk=step.pk).update(must_not_skip=False)  # so that the later one can start
    later = world.started(world.newer, policy={**BIG_BANG, "supersede": True})
    Version.objects.filter(pk=step.pk).update(must_not_skip=True)
    world.tick()
    world.now += timedelta(seconds=1)
    assert (deployments(first), deployments(later)) == ({"srv-1": "queued"}, {"srv-1": "queued"})
    world.pass_time(6)
    assert (deployments(first), deployments(later)) == ({"srv-1": "succeeded"}, {"srv-1": "succeeded"})
    assert world.runs() == {"srv-1": "3.0"}


@pytest.mark.parametrize(
    ("policy", "days", "code"),
    [
        ({"error_threshold": 100, "on_error": "rollback_all"}, 3, "never_stops"),
        ({}, -1, "planned_end_passed"),
    ],
)
def test_a_plan_with_an_error_does_not_start(world: World, policy: dict, days: int, code: str) -> None:
    world.add_cis(1)
    change = world.change(planned_start=world.now - timedelta(days=9), planned_end=world.now + timedelta(days=days))
    release = world.approved(policy={**BIG_BANG, **policy}, changes=[change])
    with pytest.raises(ConditionRefused) as refused:
        services.start_rollout(release, actor=world.sven, now=world.now)
    assert refused.value.code == code
    assert refused.value.message in [f.text for f in findings(release, now=world.now)]
