"""Ticks that die at any statement, run twice, or run at the same time: the same facts in the end.

A crash between two statements is what a `kill -9` of the worker leaves in the database: nothing of the open
transaction. Whatever had been committed must be enough for the next tick.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from changes.models import Change
from distribution.models import Deployment, DeploymentEvent
from incidents.models import Incident, IncidentEntry
from notifications.models import Outbox
from problems.models import Problem
from releases import executor, services
from releases.invariants import check_invariants
from releases.models import FailureDecision, Release, Rollout, RolloutEvent, RolloutException, TestRun, Verdict, Wave
from tests.releases.world import BIG_BANG, POLICY, World

pytestmark = pytest.mark.django_db


class Killed(BaseException):
    """Not an Exception: nothing may catch it and go on."""


class DiesAt:
    """An execute wrapper that kills at the n-th statement (from 0); later ones are the clean-up and pass."""

    def __init__(self, number: int) -> None:
        self.number, self.seen = number, 0

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.seen += 1
        if self.seen == self.number + 1:
            raise Killed
        return execute(sql, params, many, context)

    @property
    def has_killed(self) -> bool:
        return self.seen > self.number


def facts() -> dict[str, Any]:
    """Everything that a tick decides, without keys and times."""

    def rows(model: Any, *columns: str) -> list[Any]:
        return sorted(model.objects.values_list(*columns), key=repr)

    return {
        "rollouts": rows(Rollout, "state", "pause_kind", "round", "target_count", "target_hash", "cascade"),
        "settled": [settled is not None for settled in Rollout.objects.values_list("settled_at", flat=True)],
        "waves": rows(Wave, "kind", "number", "state", "size", "batch__is_open"),
        "decisions": rows(FailureDecision, "deployment__ci__name", "kind", "reason"),
        "verdicts": rows(Verdict, "wave__number", "kind", "round", "outcome", "numbers"),
        "events": rows(RolloutEvent, "kind", "wave__number"),
        "exceptions": rows(RolloutException, "kind", "ci__name"),
        "deployments": rows(Deployment, "ci__name", "attempt", "state", "batch__purpose"),
        "steps": rows(DeploymentEvent, "deployment__ci__name", "deployment__batch__purpose", "from_state", "to_state"),
        "releases": rows(Release, "state"),
        "changes": rows(Change, "state"),
        "problems": rows(Problem, "state"),
        "incidents": rows(Incident, "title", "state", "hold_reason", "resolved_by_event"),
        "entries": rows(IncidentEntry, "ticket__title", "kind", "key"),
        # Numbers of tickets that the tick opens differ from try to try.
        "messages": re.sub(r"(INC-|incident:)\d+", r"\1", str(rows(Outbox, "event", "recipient__username", "thread"))),
        "caused": rows(Release.caused_incidents.through, "incident__title"),
    }


def just_started(world: World) -> None:
    """The first tick freezes three CIs in chunks and opens the first wave."""
    world.add_cis(3)
    world.started(policy={**POLICY, "waves": [{"count": 2}, {"rest": True}]})


def first_wave_is_done(world: World) -> None:
    """The tick gives the verdict, the wave soaks; the next one passes it and opens the second."""
    just_started(world)
    world.tick()
    world.work()
    world.now += timedelta(seconds=11)


def too_many_failed(world: World) -> None:
    """The tick fails the wave, opens the incident, links and tells it, and pauses."""
    just_started(world)
    world.mood("fails", world.devices[0].ci)
    world.tick()
    world.work()


def too_many_failed_and_all_goes_back(world: World) -> None:
    """The tick fails the wave, opens the incident, cancels, and orders and queues the rollback."""
    world.add_cis(3)
    policy = {**POLICY, "waves": [{"count": 2}, {"rest": True}], "on_error": "rollback_all"}
    world.started(policy=policy)
    world.mood("fails", world.devices[0].ci)
    world.tick()
    world.work()


def everything_is_installed(world: World) -> None:
    """The tick completes the rollout and tells RFC, problem, incidents and owners."""
    world.add_ci("srv-1", owner=world.olga)
    world.add_ci("srv-2", owner=world.olga)
    one, two = (agent.ci for agent in world.devices)
    problem = world.problem(world.incident(one), world.incident(two, state="in_progress"))
    world.started(changes=[world.change(problem)], policy=BIG_BANG)
    world.tick()
    world.now += timedelta(seconds=1)
    world.work()
    world.tick()
    world.now += timedelta(seconds=10)


def everything_is_back(world: World) -> None:
    """The tick ends the rollback, lists who is not back, and tells everybody."""
    everything_is_installed(world)
    world.tick()
    services.roll_back_rollout(Rollout.objects.get(), actor=world.sven, now=world.now, reason="broken")
    world.tick()
    world.mood("fails", world.devices[1].ci)
    world.work()


def is_being_aborted(world: World) -> None:
    """The tick ends the abort and gives release and RFC back."""
    just_started(world)
    world.tick()
    services.abort_rollout(Rollout.objects.get(), actor=world.olga, now=world.now, reason="stop")


SCENES: list[Callable[[World], None]] = [
    just_started,
    first_wave_is_done,
    too_many_failed,
    too_many_failed_and_all_goes_back,
    everything_is_installed,
    everything_is_back,
    is_being_aborted,
]


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks so small that a few rows need several."""
    monkeypatch.setattr("distribution.steps.CHUNK", 1)
    monkeypatch.setattr("releases.services.cascade.CHUNK", 1)


def in_the_end(world: World) -> dict[str, Any]:
    """The facts after as many ticks as it takes, at the same time."""
    for _ in range(10):
        if not executor.advance_rollouts(now=world.now, budget_seconds=60):
            return facts()
    raise AssertionError("never quiet")


def marks() -> list[Any]:
    """How far the steps are; with the facts, all that a tick knows."""
    return [
        *Rollout.objects.order_by("pk").values_list("freeze_mark", "cascade_mark", "cascade_ended", "waits_for"),
        *TestRun.objects.order_by("pk").values_list("state"),
    ]


def undone(number: int, world: World) -> tuple[bool, dict[str, Any] | None, str]:
    """Kills a tick at a statement, goes on, and takes everything back: was it killed, the facts, what it left."""
    killer, end, left = DiesAt(number), None, ""
    sid = transaction.savepoint()
    try:
        with suppress(Killed), connection.execute_wrapper(killer):
            executor.advance_rollouts(now=world.now, budget_seconds=60)
        left = repr((marks(), facts()))
        if killer.has_killed and left not in KNOWN:
            end = in_the_end(world)
    finally:
        transaction.savepoint_rollback(sid)
    return killer.has_killed, end, left


KNOWN: set[str] = set()


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
@pytest.mark.slow
def test_a_tick_that_dies_at_any_statement_is_as_if_it_had_not_died(
    world: World, small_steps: None, scene: Callable[[World], None]
) -> None:
    KNOWN.clear()
    scene(world)
    sid = transaction.savepoint()
    expected = in_the_end(world)
    assert check_invariants(tolerance=0) == []
    transaction.savepoint_rollback(sid)
    number, states = 0, 0
    while True:
        was_killed, end, left = undone(number, world)
        if not was_killed:
            break
        if end is not None:  # the same rows go on in the same way
            assert end == expected, f"after a crash at statement {number}"
            KNOWN.add(left)
            states += 1
        number += 1
    assert number > 20
    assert states > 1
