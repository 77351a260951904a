"""Any sequence of devices, faults, crashes, ticks, people and time: every invariant holds, and it comes to rest.

`make drill-model` plays 20,000 of them; `SEED=` repeats a run, `EXAMPLES=` says how many.
"""

import os
import random

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import get_state_machine_test

from tests.releases.any_sequence.machine import TwoRollouts, prepare
from tests.releases.any_sequence.plans import SHOP
from tests.releases.world import World

pytestmark = pytest.mark.django_db


def play(world: World, *, examples: int, steps: int, chance: int) -> None:
    """Of the same chance come the same sequences."""
    prepare(world)
    options = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    with override_settings(PROBE_HOSTS=[SHOP]):
        seed(chance)(get_state_machine_test(TwoRollouts, settings=options))()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("chance", [1, 2, 3])
def test_some_sequences(world: World, chance: int) -> None:
    """The same ones each time; in parts, so that they can be played side by side."""
    play(world, examples=50, steps=12, chance=chance)


@pytest.mark.slow
@pytest.mark.proof
@pytest.mark.timeout(0)
def test_many_sequences(world: World) -> None:
    """As many as `EXAMPLES` says, from `SEED`."""
    chance = int(os.environ.get("SEED") or random.randrange(10**9))
    examples = int(os.environ.get("EXAMPLES") or 2000)
    print(f"\n{examples} sequences from SEED={chance}")
    play(world, examples=examples, steps=40, chance=chance)
