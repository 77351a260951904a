"""The gate by incidents: new ones on the CIs of a wave, since the installation there, stop it; early life support."""

from datetime import timedelta

import pytest

from incidents.models import Incident
from releases import services
from releases.models import Rollout, Verdict
from tests.releases.world import BIG_BANG, POLICY, World, state, waves
from tickets.exceptions import SeparationOfDuties

pytestmark = pytest.mark.django_db


def installed(world: World, number: int = 3, **policy: object) -> Rollout:
    """Everybody has it, and the ten seconds have begun."""
    world.add_cis(number)
    rollout = world.started(policy={**BIG_BANG, **policy})
    world.tick()
    world.incident(world.devices[0].ci, state="new")  # from before the installation
    world.now += timedelta(seconds=1)
    world.work()
    world.tick()
    return rollout


def report(world: World, number: int = 1) -> None:
    for _ in range(number):
        world.now += timedelta(seconds=1)
        world.incident(world.devices[0].ci, state="new")


def test_more_incidents_than_the_gate_allows_pause_the_rollout_until_a_second_person_accepts_them(world: World) -> None:
    rollout = installed(world, incident_gate={"count": 1})
    report(world)
    world.tick()
    assert state(rollout) == "running", "one may be"
    report(world)
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "incidents")
    assert rollout.pause_reason == "Wave 1: 2 new incidents on its CIs since the installation; at most 1 may."
    assert not Verdict.objects.filter(kind="error").exists()
    with pytest.raises(SeparationOfDuties):
        services.resume_rollout(rollout, actor=world.sven, now=world.now, reason="unrelated")
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="unrelated")
    world.tick(1)
    assert state(rollout) == "running", "those are accepted"
    report(world, 2)
    world.tick()
    assert state(rollout) == "paused", "later ones count"


def test_incidents_as_a_breach_fail_the_wave_and_take_it_back(world: World) -> None:
    rollout = installed(world, incident_gate={"count": 0, "then": "breach"}, on_error="rollback_all")
    report(world)
    world.tick()
    assert state(rollout) == "rolling_back"
    verdict = Verdict.objects.get(kind="error")
    assert (verdict.outcome, verdict.numbers["incidents"], verdict.numbers["failed"]) == ("breached", 1, 0)
    assert "1 new incidents on its CIs" in rollout.events.get(kind="wave_failed").text
    Incident.objects.filter(pk=Incident.objects.order_by("pk")[1].pk).update(state="cancelled")
    world.pass_time(3)
    assert state(rollout) == "rolled_back"


def test_a_cancelled_incident_does_not_hold_the_gate(world: World) -> None:
    rollout = installed(world, incident_gate={"count": 0})
    world.now += timedelta(seconds=1)
    world.incident(world.devices[0].ci, state="cancelled")
    world.tick(10)
    assert state(rollout) == "completed"


def test_early_life_support_watches_after_the_last_wave_and_then_completes(world: World) -> None:
    rollout = installed(world, incident_gate={"count": 0}, early_life_seconds=100)
    world.tick(10)
    rollout.refresh_from_db()
    assert (rollout.state, waves(rollout)) == ("running", ["passed"])
    assert rollout.waits_for.startswith("early life support, until")
    world.tick(50)
    report(world)
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "incidents")
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="unrelated")
    world.tick(48)
    assert state(rollout) == "running"
    world.tick(1)
    assert state(rollout) == "completed"


def test_an_earlier_wave_can_be_stopped_by_incidents_while_a_later_one_is_under_way(world: World) -> None:
    world.add_cis(3)
    rollout = world.started(policy={**POLICY, "incident_gate": {"count": 0, "then": "breach"}})
    world.tick()
    world.work()
    world.tick()
    world.tick(10)
    assert waves(rollout) == ["passed", "deploying"]
    report(world)
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.pause_kind, waves(rollout)) == ("breach", ["failed", "deploying"])
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="unrelated")
    world.pass_time()
    assert state(rollout) == "completed"


def test_a_quiet_tick_in_early_life_writes_nothing(world: World, writes) -> None:
    installed(world, incident_gate={"count": 5}, early_life_seconds=1000)
    world.tick(10)
    world.tick(1)
    with writes(allowed=0):
        world.tick(1)
