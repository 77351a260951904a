"""Any sequence of devices, faults, crashes, ticks, people and time: every invariant holds, and it comes to rest.

`make sequences` plays 2,000 others each time, `make drill-model` 20,000; `SEED=` repeats a run, `EXAMPLES=` bounds it.
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

PARTS = 20  # for the workers of the tests; one after the other, later seeds


def play(world: World, *, examples: int, steps: int, chance: int | None) -> None:
    """`chance` None: the same sequences each time."""
    prepare(world)
    options = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=chance is None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=chance is not None,
    )
    machine = get_state_machine_test(TwoRollouts, settings=options)
    with override_settings(PROBE_HOSTS=[SHOP]):
        (machine if chance is None else seed(chance)(machine))()


@pytest.fixture
def step_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other part plays with steps of two deployments, so that whatever happens comes between two of them."""
    if request.getfixturevalue("part") % 2:
        monkeypatch.setattr("distribution.steps.CHUNK", 2)


@pytest.mark.timeout(400)
def test_some_sequences(world: World) -> None:
    play(world, examples=20, steps=20, chance=None)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("part", range(1, 6))
def test_further_sequences(world: World, step_size: None, part: int) -> None:
    """In parts, for the workers of the tests; the same each time, too."""
    play(world, examples=26, steps=20, chance=part)


@pytest.mark.slow
@pytest.mark.proof
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(PARTS))
def test_many_sequences(world: World, step_size: None, part: int) -> None:
    """As many as `EXAMPLES` says, others for each `SEED`."""
    chance = int(os.environ.get("SEED") or random.randrange(10**9)) + part
    examples = -(-int(os.environ.get("EXAMPLES") or 2000) // PARTS)
    print(f"\n{examples} sequences from {chance}")
    play(world, examples=examples, steps=20, chance=chance)
