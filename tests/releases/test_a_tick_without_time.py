"""Ticks that have no time left after the first rollout: the others come on all the same."""

import pytest

from releases import executor
from tests.releases.world import BIG_BANG, World, state

pytestmark = pytest.mark.django_db


def test_a_rollout_that_only_waits_keeps_no_other_from_its_turn(world: World) -> None:
    one, two, three = world.add_cis(3)
    silent = world.started(policy=BIG_BANG, targets={"cis": [one.pk]})
    world.tick()
    rollouts = [world.started(policy=BIG_BANG, targets={"cis": [ci.pk]}) for ci in (two, three)]

    for _ in range(30):
        executor.advance_rollouts(now=world.now, budget_seconds=0)

    assert [state(rollout) for rollout in (silent, *rollouts)] == ["running"] * 3
    assert [rollout.waves.get().state for rollout in rollouts] == ["deploying"] * 2
