"""A rollout is played with known durations; the forecast made from its history is compared with the next one."""

import heapq
import itertools
import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from releases.dry_run.report import DryRun, dry_run
from releases.models import Rollout
from releases.services import start_rollout
from tests.releases.world import Device, World

pytestmark = pytest.mark.django_db
POLL = 60
TICK = 10
PLAN: dict[str, Any] = {
    "waves": [{"count": 1}, {"percent": 25}, {"rest": True}],
    "soak_seconds": 120, "offer_deadline": 86400, "progress_deadline": 86400, "confirm_deadline": 86400,
}  # fmt: skip


def play(world: World, rollout: Rollout, chance: random.Random) -> None:
    """Devices poll, fetch for 20 to 60 s, install for 60 to 240 s; the engine ticks every ten seconds."""
    order = itertools.count()
    due: list[tuple[datetime, int, Device]] = []
    for agent in world.devices:
        heapq.heappush(due, (world.now + timedelta(seconds=chance.uniform(0, POLL)), next(order), agent))
    for _ in range(1000):
        while due and due[0][0] <= world.now:
            _at, _place, agent = heapq.heappop(due)
            pause = POLL * chance.uniform(1.0, 1.1)
            # The offer and the begin of the download are one moment.
            if agent.step(world.now):
                state = agent.ci.deployments.latest("pk").state
                pause = {
                    "offered": 0.0, "downloading": chance.uniform(20, 60), "installing": chance.uniform(60, 240),
                }.get(state, pause)  # fmt: skip
            heapq.heappush(due, (world.now + timedelta(seconds=pause), next(order), agent))
        world.tick(TICK)
        rollout.refresh_from_db()
        if rollout.state == "completed":
            return
    raise AssertionError("the rollout does not end")


def seconds(plan: DryRun, moment: datetime | None) -> float:
    assert moment is not None
    return (moment - plan.begins_at).total_seconds()


BIG_BANG = {**PLAN, "strategy": "big_bang", "waves": [{"rest": True}], "max_in_flight": 6}


@pytest.mark.slow
@pytest.mark.parametrize("policy", [PLAN, BIG_BANG], ids=["phased", "big bang with a cap"])
def test_the_next_rollout_takes_about_as_long_as_the_forecast_says(world: World, settings, policy) -> None:
    settings.DDI_POLL_SECONDS = POLL
    chance = random.Random(4)
    world.add_cis(24)
    play(world, world.started(policy=policy), chance)

    world.now += timedelta(days=1)
    release = world.approved(world.newer, changes=[world.change()], policy=policy)
    plan = dry_run(release, now=world.now)
    (basis,) = plan.basis
    assert (basis.estimate.durations_from, basis.estimate.durations_measured) == ("product", 24)
    assert basis.estimate.download.p50 == pytest.approx(40, rel=0.25)
    assert basis.estimate.total.p50 == pytest.approx(190, rel=0.2)
    assert basis.estimate.failures == 0

    rollout = start_rollout(release, actor=world.sven, now=world.now)
    play(world, rollout, chance)
    took = (rollout.finished_at - rollout.started_at).total_seconds()
    expected = seconds(plan, plan.chosen.ends_at)
    assert expected * 0.7 < took < expected * 1.3, (took, expected)
    assert took < seconds(plan, plan.chosen.cautious_ends_at)
    for wave, planned in zip(rollout.waves.order_by("number"), plan.chosen.waves, strict=True):
        really = (wave.finished_at - rollout.started_at).total_seconds()
        assert really == pytest.approx(seconds(plan, planned.passes_at), rel=0.35, abs=90), planned.number
