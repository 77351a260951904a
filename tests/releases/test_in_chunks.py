"""Large fleets move in chunks: a step moves some, the next one goes on, whatever happens in between."""

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from distribution import device
from distribution.models import Batch, Deployment
from failpoints import armed
from releases import executor, services
from releases.invariants import check_invariants
from releases.models import Rollout
from tests.releases.world import BIG_BANG, World, deployments, state, waves

pytestmark = pytest.mark.django_db
FLEET = 7


class Killed(BaseException):
    """Not an Exception: nothing may catch it and go on."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two deployments in a step: seven need several."""
    monkeypatch.setattr("distribution.steps.CHUNK", 2)


def step(world: World) -> int:
    """A tick without time: one step."""
    return executor.advance_rollouts(now=world.now, budget_seconds=0)


def killed_at_commit(world: World) -> None:
    """A step whose process dies before its commit."""

    def act(point: str) -> None:
        if point == "tick.before_commit":
            raise Killed

    with armed(act), pytest.raises(Killed):
        step(world)


def nothing_is_offered(world: World) -> bool:
    """Whether no device that waits gets its deployment, though it knows the address."""
    waiting = Deployment.objects.filter(state="queued").select_related("batch", "ci")
    return not any(device.offer(deployment, deployment.ci, now=world.now) for deployment in waiting)


def number(rollout: Rollout, *states: str, purpose: str = "forward") -> int:
    return sum(found in states for found in deployments(rollout, purpose).values())


def begun(world: World, *, install: int = 0, begin: int = 0) -> Rollout:
    """A big bang: some of the devices have installed, some have begun to."""
    world.add_cis(FLEET)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    for agent in world.devices[:install]:
        agent.run(world.now)
    for agent in world.devices[install : install + begin]:
        for _ in range(3):
            agent.step(world.now)
    return rollout


def test_an_abort_forbids_offers_at_once_and_cancels_step_by_step(world: World) -> None:
    rollout = begun(world, begin=2)
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="wrong day")
    left = [number(rollout, "queued", "installing")]
    while left[-1]:
        assert nothing_is_offered(world)
        assert check_invariants(files=False) == []
        killed_at_commit(world)
        assert number(rollout, "queued", "installing") == left[-1], "the step that died moved nobody"
        step(world)
        left.append(number(rollout, "queued", "installing"))
    assert left == [5, 3, 1, 0], "the order itself has moved the first"
    reasons = set(Deployment.objects.values_list("reason", flat=True))
    assert reasons == {"wrong day"}
    world.work()
    world.tick()
    assert (state(rollout), set(deployments(rollout).values())) == ("aborted", {"cancelled"})
    assert list(Batch.objects.values_list("cancel_mark", flat=True)) == [None]


def test_whose_device_refuses_to_stop_is_asked_once_however_many_steps_it_takes(world: World) -> None:
    rollout = begun(world, begin=1)
    stubborn = world.devices[0]
    world.mood("stubborn", stubborn.ci)
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="wrong day")
    assert deployments(rollout)["srv-1"] == "cancelling"
    stubborn.step(world.now)
    assert deployments(rollout)["srv-1"] == "installing"
    world.tick()
    assert deployments(rollout)["srv-1"] == "installing"
    assert number(rollout, "cancelled") == FLEET - 1
    stubborn.run(world.now)
    world.tick()
    assert (state(rollout), deployments(rollout)["srv-1"]) == ("aborted", "succeeded")


def test_a_rollback_cancels_and_queues_step_by_step_and_brings_everybody_back(world: World) -> None:
    rollout = begun(world, install=5, begin=1)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    queued = []
    while number(rollout, "succeeded") > len(deployments(rollout, "rollback")):
        killed_at_commit(world)
        step(world)
        assert check_invariants(files=False) == []
        queued.append(len(deployments(rollout, "rollback")))
        assert number(rollout, "queued") == 0 or not queued[-1], "what goes forward is stopped before"
        assert len(queued) < 20
    assert queued[-3:] == [2, 4, 5]
    assert rollout.waves.get(kind="rollback").size == 5
    for _ in range(3):
        world.work()
        world.tick(1)
    assert state(rollout) == "rolled_back"
    assert set(world.runs().values()) == {"1.0"}


def test_who_is_not_back_is_listed_step_by_step_before_the_rollback_ends(world: World) -> None:
    rollout = begun(world, install=FLEET)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.tick()
    world.mood("fails", *[agent.ci for agent in world.devices])
    world.work()
    listed = [0]
    while state(rollout) == "rolling_back":
        killed_at_commit(world)
        step(world)
        listed.append(rollout.exceptions.count())
        assert len(listed) < 30
    assert max(later - earlier for earlier, later in pairwise(listed)) == 2
    assert (state(rollout), listed[-1]) == ("rolled_back_with_exceptions", FLEET)
    assert check_invariants(files=False) == []


def test_all_who_are_silent_become_overdue_before_the_verdict(world: World) -> None:
    rollout = begun(world)
    world.now += timedelta(seconds=101)
    overdue = Deployment.objects.filter(overdue_at__isnull=False)
    seen = []
    while state(rollout) == "running":
        killed_at_commit(world)
        step(world)
        seen.append(overdue.count())
    assert seen == [2, 4, 6, 7]
    assert (state(rollout), Rollout.objects.get().pause_kind) == ("paused", "breach")
    verdict = rollout.waves.get().verdicts.get()
    assert verdict.numbers["overdue"] == FLEET
    assert check_invariants(files=False) == []


def test_the_older_rollout_makes_way_before_the_wave_opens(world: World) -> None:
    older = begun(world)
    policy = {**BIG_BANG, "supersede": True}
    newer = world.started(world.newer, policy=policy)
    left = []
    while not Batch.objects.get(wave__rollout=newer).is_open:
        step(world)
        left.append(number(older, "queued"))
        assert len(left) < 40
    assert left[-1] == 0
    assert sorted(set(left), reverse=True) == [7, 5, 3, 1, 0]
    world.work()
    assert set(world.runs().values()) == {"3.0"}


def most_statements(call: Callable[[], int]) -> int:
    """The most that one step takes, until nothing moves any more."""
    most = 0
    while True:
        with CaptureQueriesContext(connection) as queries:
            moved = call()
        most = max(most, len(queries))
        if not moved:
            return most


@pytest.mark.parametrize("scene", ["freeze", "abort", "roll_back", "overdue"])
@pytest.mark.slow
def test_a_step_takes_as_many_statements_in_a_large_fleet_as_in_a_small_one(world: World, scene: str) -> None:
    counted = []
    for fleet in (3, 9, 33):  # the first ones stay, and never answer again
        for n in range(fleet):
            world.add_ci(f"ci-{fleet}-{n}")
        rollout = world.started(policy={**BIG_BANG, "error_threshold": 100}, changes=[world.change()])
        if scene != "freeze":
            world.tick()
        if scene == "roll_back":
            world.work()
        if scene in {"abort", "roll_back"}:
            verb = getattr(services, f"{scene}_rollout")
            verb(rollout, actor=world.sven, now=world.now, reason="a count")
        if scene == "overdue":
            world.now += timedelta(seconds=101)
        counted.append(most_statements(lambda: step(world)))
        if scene in {"freeze", "overdue"}:
            rollout.refresh_from_db()
            services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="next")
        for _ in range(3):
            world.work()
            world.tick(1)
        world.devices.clear()
    assert counted[2] <= counted[1]


def test_a_wave_is_left_behind_step_by_step_and_offers_nothing_meanwhile(world: World) -> None:
    world.add_cis(FLEET + 2)
    policy = {**BIG_BANG, "strategy": "phased", "waves": [{"count": FLEET}, {"rest": True}]}
    rollout = world.started(policy=policy)
    world.tick()
    world.mood("hangs", world.devices[0].ci)
    world.devices[0].run(world.now)
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look", mode="let_run")
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="old hardware", mode="skip")
    left = [number(rollout, "queued")]
    assert left == [FLEET - 1 - 2 + 2], "those of the second wave wait, too"
    while waves(rollout)[0] != "passed":
        assert waves(rollout) == ["deploying", "waiting"]
        assert nothing_is_offered(world)
        assert check_invariants(files=False) == []
        killed_at_commit(world)
        assert number(rollout, "queued") == left[-1], "the step that died moved nobody"
        step(world)
        left.append(number(rollout, "queued"))
    assert all(0 <= before - after <= 2 for before, after in pairwise(left)), left
    assert [event.text for event in rollout.events.filter(kind="excluded")] == [f"{FLEET - 1} CIs"]
    assert rollout.events.get(kind="overridden").actor == world.mona
    world.mood("ok", world.devices[0].ci)
    world.pass_time()
    assert state(rollout) == "completed"
    assert number(rollout, "succeeded") == 3, "what was under way goes on; the second wave gets it"
    assert check_invariants(files=False) == []
