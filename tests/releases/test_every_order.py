"""Every order that people give to a rollout, in each of its states and by each kind of person: the preview says
beforehand whether it is done; what was done stands in the log with its name, and done twice it changes nothing."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from accounts.models import User
from changes.models import Freeze
from releases import services
from releases.models import Rollout, Wave
from releases.services.failure_report import failure_report
from releases.services.previews import PREVIEWS, preview_rollout
from releases.services.rollouts import standing_waves
from tests.factories import make_user
from tests.releases.world import BIG_BANG, POLICY, World, state
from tickets.exceptions import DomainError, TransitionRefused

pytestmark = [pytest.mark.django_db, pytest.mark.slow]
CALM = {**POLICY, "waves": [{"count": 2}, {"rest": True}], "soak_seconds": 1000, "offer_deadline": 10_000}
QUICK = {**CALM, "soak_seconds": 5}
REASON = "because <b>I</b> say so"


class Undo(Exception):
    """Takes back what was tried."""


def started(world: World, policy: dict[str, Any] = CALM, **values: Any) -> Rollout:
    world.add_cis(4)
    return world.started(policy=policy, **values)


def running(world: World, policy: dict[str, Any] = CALM, **values: Any) -> Rollout:
    rollout = started(world, policy, **values)
    world.tick()
    return rollout


def early(world: World) -> Rollout:
    return running(world, changes=[world.change(planned_start=world.now + timedelta(hours=1))])


def soaking(world: World) -> Rollout:
    rollout = running(world)
    world.work()
    world.tick()
    return rollout


def paused(world: World, mode: str = "freeze") -> Rollout:
    rollout = running(world)
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look", mode=mode)
    return rollout


def frozen(world: World) -> Rollout:
    rollout = running(world)
    ends_at = world.now + timedelta(hours=1)
    values: dict[str, Any] = {"starts_at": world.now, "ends_at": ends_at, "created_at": world.now}
    Freeze.objects.create(name="Year end", reason="no risk", created_by=world.rita, **values)
    world.tick()
    return rollout


def overridden(world: World) -> Rollout:
    rollout = frozen(world)
    rollout.refresh_from_db()
    services.override_window(rollout, actor=world.mona, now=world.now, reason="the plant agreed")
    return rollout


def breached(world: World) -> Rollout:
    rollout = running(world)
    world.mood("fails", world.devices[0].ci)
    world.work(world.devices[0].ci)
    world.tick()
    return rollout


def stuck(world: World) -> Rollout:
    rollout = running(world, {**CALM, "error_threshold": 50})
    world.mood("fails", world.devices[0].ci)
    world.work()
    world.tick()
    return rollout


def at_a_gate(world: World) -> Rollout:
    rollout = running(world, {**QUICK, "manual_gate": True})
    world.pass_time(2)
    return rollout


def completed(world: World) -> Rollout:
    rollout = running(world, QUICK)
    world.pass_time()
    return rollout


def catching_up(world: World) -> Rollout:
    rollout = running(world, {**BIG_BANG, "soak_seconds": 5, "overdue_counts_as": "skipped", "success_threshold": 50})
    world.mood("offline", world.devices[3].ci)
    world.work()
    world.tick(101)
    world.tick(6)
    world.tick(6)
    return rollout


def aborting(world: World) -> Rollout:
    rollout = running(world)
    world.mood("hangs", world.devices[0].ci)
    world.work(world.devices[0].ci)
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="wrong file")
    world.tick()
    return rollout


def aborted(world: World, *, installed: bool = False) -> Rollout:
    rollout = running(world)
    if installed:
        world.work(world.devices[0].ci)
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="wrong file")
    world.tick()
    return rollout


def rolling_back(world: World, policy: dict[str, Any] = QUICK) -> Rollout:
    rollout = running(world, policy)
    world.pass_time()
    rollout.refresh_from_db()
    services.roll_back_rollout(rollout, actor=world.mona, now=world.now, reason="it hurts")
    world.tick()
    return rollout


def stopped(world: World) -> Rollout:
    rollout = rolling_back(world, {**QUICK, "rollback": {"error_threshold": 10, "max_in_flight": 1}})
    world.mood("fails", world.devices[0].ci)
    world.work(world.devices[0].ci)
    world.tick()
    return rollout


def continued(world: World) -> Rollout:
    rollout = stopped(world)
    rollout.refresh_from_db()
    services.continue_rollback(rollout, actor=world.mona, now=world.now, reason="go on")
    return rollout


def rolled_back(world: World) -> Rollout:
    rollout = rolling_back(world)
    world.work()
    world.tick()
    return rollout


# Name → how a rollout comes there, its state and why it is paused.
SCENES: dict[str, tuple[Callable[[World], Rollout], str, str]] = {
    "preparing": (started, "preparing", ""),
    "before its planned start": (early, "running", ""),
    "running": (running, "running", ""),
    "soaking": (soaking, "running", ""),
    "paused by a person": (paused, "paused", "manual"),
    "held by a person": (lambda world: paused(world, "let_run"), "paused", "held"),
    "paused by a freeze": (frozen, "paused", "freeze"),
    "going on in spite of a freeze": (overridden, "running", ""),
    "paused by a breach": (breached, "paused", "breach"),
    "paused by stragglers": (stuck, "paused", "stragglers"),
    "at a gate": (at_a_gate, "paused", "gate"),
    "completed": (completed, "completed", ""),
    "completed with a straggler": (catching_up, "completed", ""),
    "aborting": (aborting, "aborting", ""),
    "aborted before anything": (aborted, "aborted", ""),
    "aborted after something": (lambda world: aborted(world, installed=True), "aborted", ""),
    "rolling back": (rolling_back, "rolling_back", ""),
    "rollback stopped": (stopped, "rolling_back", ""),
    "rollback continued": (continued, "rolling_back", ""),
    "rolled back": (rolled_back, "rolled_back", ""),
}
# Verb, its mode, and which CI or wave it is about.
ORDERS = [
    ("pause", "freeze", {}),
    ("pause", "let_run", {}),
    ("resume", "accept", {}),
    ("resume", "retry", {}),
    ("resume", "skip", {}),
    ("abort", "", {}),
    ("roll_back", "", {}),
    ("roll_back_wave", "", {"wave": 1}),
    ("roll_back_ci", "", {"ci": 0}),
    ("continue_rollback", "go_on", {}),
    ("continue_rollback", "retry", {}),
    ("continue_rollback", "end", {}),
    ("retry_failed", "", {}),
    ("exclude_ci", "", {"ci": 0}),
    ("exclude_ci", "", {"ci": 3}),
    ("next_wave", "", {"wave": None}),
    ("supersede", "", {}),
    ("override_window", "", {}),
]


def give(rollout: Rollout, verb: str, mode: str, asked: dict[str, Any], actor: User, world: World) -> None:
    order: dict[str, Any] = {"actor": actor, "now": world.now, "reason": REASON}
    if verb in {"pause", "resume"}:
        getattr(services, f"{verb}_rollout")(rollout, mode=mode, **order)
    elif verb in {"abort", "roll_back"}:
        getattr(services, f"{verb}_rollout")(rollout, **order)
    elif verb == "roll_back_wave":
        services.roll_back_wave(rollout.waves.get(kind=Wave.Kind.FORWARD, number=asked["wave"]), **order)
    elif verb == "continue_rollback":
        services.continue_rollback(rollout, choice=mode, **order)
    elif verb == "retry_failed":
        services.retry_failed_cis(rollout, actor=actor, now=world.now)
    elif verb == "supersede":
        services.supersede_older(rollout, **order)
    else:
        getattr(services, verb)(rollout, **asked, **order)


def people(world: World) -> dict[str, User]:
    return {
        "the starter": world.sven,
        "a second release manager": world.mona,
        "an operator": world.olga,
        "somebody else": world.rita,
        "a service account": make_user("robot", "deployment pipeline", is_service_account=True),
    }


def tried(rollout: Rollout, order: Callable[[Rollout], None], *, is_once: bool = False) -> tuple[str, list[str]]:
    """Why it was refused (empty: it was not), and what is wrong with how it was done; then it is taken back."""
    wrong: list[str] = []
    before = rollout.events.count()
    try:
        with transaction.atomic():
            order(Rollout.objects.get(pk=rollout.pk))
            events = list(rollout.events.order_by("pk")[before:])
            now_is = Rollout.objects.filter(pk=rollout.pk).values().get()
            # Of a stopped rollback one decides once; another choice must not look as if it were done.
            with suppress(TransitionRefused) if is_once else nullcontext():
                order(Rollout.objects.get(pk=rollout.pk))
            if rollout.events.count() != before + len(events):
                wrong.append("given twice, it is logged twice")
            if Rollout.objects.filter(pk=rollout.pk).values().get() != now_is:
                wrong.append("given twice, it changes something")
            if any(event.actor_id is None for event in events):
                wrong.append("an event names nobody")
            if events and not any(REASON in event.text or event.kind == "retry" for event in events):
                wrong.append("no event has the reason")
            raise Undo
    except Undo:
        return "", wrong
    except DomainError as refusal:
        return refusal.message, wrong


@pytest.mark.parametrize("scene", SCENES)
def test_the_preview_says_what_the_order_then_does(world: World, scene: str) -> None:
    come_there, wanted, kind = SCENES[scene]
    rollout = come_there(world)
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == (wanted, kind)
    present = standing_waves(rollout).exclude(state=Wave.State.WAITING).order_by("-number").first()
    differences = []
    for who, person in people(world).items():
        for verb, mode, about in ORDERS:
            asked: dict[str, Any] = dict(about)
            if "ci" in asked:
                asked["ci"] = world.devices[asked["ci"]].ci
            if "wave" in asked and asked["wave"] is None:
                asked["wave"] = present.number if present is not None else 1
            try:
                preview = preview_rollout(rollout, verb, actor=person, now=world.now, **asked)
            except DomainError as refusal:
                said, is_done = refusal.message, False
            else:
                said, is_done = next(c.refusal for c in preview.choices if c.name == mode), preview.is_done
            given = lambda fresh, v=verb, m=mode, a=asked, p=person: give(fresh, v, m, a, p, world)  # noqa: E731
            refused, wrong = tried(rollout, given, is_once=verb == "continue_rollback")
            differences += [f"{who}, {verb} {mode}: {text}" for text in wrong]
            if is_done:
                continue  # to repeat it is harmless, and refused to whom it is not for
            if bool(said) != bool(refused):
                differences.append(f"{who}, {verb} {mode} {about}: said “{said}”, then “{refused}”")
    assert not differences, "\n".join(differences)
    assert state(rollout) == wanted


@pytest.mark.parametrize("scene", ["running", "paused by a breach", "paused by stragglers", "aborting", "rolled back"])
def test_the_failure_report_says_which_decision_is_possible(world: World, scene: str) -> None:
    rollout = SCENES[scene][0](world)
    rollout.refresh_from_db()
    differences = []
    for who, person in people(world).items():
        for ci in (world.devices[0].ci, world.devices[3].ci):
            for option in failure_report(rollout, ci, actor=person).options:
                order: dict[str, Any] = {"decision": option.name, "actor": person, "now": world.now, "reason": REASON}
                given = lambda fresh, c=ci, o=order: services.decide_failure(fresh, ci=c, **o)  # noqa: E731
                refused, wrong = tried(rollout, given)
                differences += [f"{who}, {option.name}, {ci}: {text}" for text in wrong]
                if bool(option.refusal) != bool(refused):
                    differences.append(f"{who}, {option.name}, {ci}: said “{option.refusal}”, then “{refused}”")
    assert not differences, "\n".join(differences)


def test_every_verb_with_a_preview_is_tried() -> None:
    assert {verb for verb, _mode, _about in ORDERS} == set(PREVIEWS)
