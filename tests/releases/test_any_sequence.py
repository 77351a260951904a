"""Any sequence of devices, faults, ticks, people and time: every invariant holds after each step, and it ends."""

from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cmdb.models import InstalledVersion
from incidents.models import Incident
from releases import services
from releases.invariants import check_invariants
from releases.models import Release, Rollout, Wave
from tests.releases.world import POLICY, Device, World, state
from tickets.exceptions import DomainError

pytestmark = pytest.mark.django_db
CIS = 5
MOODS = ["ok", "fails", "reverts", "offline", "hangs", "mute", "stubborn"]
PEOPLE = ["sven", "mona", "olga"]
ci_numbers = st.integers(0, CIS - 1)
# What ends a rollout comes seldom, or nothing else would ever happen.
RARELY = st.sampled_from([True, *[False] * 7])


class OneRollout(RuleBasedStateMachine):
    """One release to five CIs, and whatever may happen to its rollouts. Each example begins from the same rows."""

    world: ClassVar[World]
    release: ClassVar[Release]
    began: ClassVar[datetime]

    def __init__(self) -> None:
        super().__init__()
        self.sid = transaction.savepoint()
        self.world.now = self.began
        self.world.devices = [Device(agent.ci, {"billing": "1.0"}) for agent in self.world.devices]
        self.release.refresh_from_db()
        self.said = 0
        self.refusals: list[str] = []

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            transaction.savepoint_rollback(self.sid)

    # --- the actors -------------------------------------------------------------------------------
    @initialize(
        on_error=st.sampled_from(["pause", "rollback_wave", "rollback_all"]),
        overdue=st.sampled_from(["failure", "skipped"]),
        threshold=st.sampled_from([50, 80, 100]),
        errors=st.sampled_from([0, 20, 50]),
        cap=st.sampled_from([None, 1, 2]),
        gate=st.booleans(),
    )
    def start(self, on_error: str, overdue: str, threshold: int, errors: int, cap: int | None, gate: bool) -> None:
        policy = {
            **POLICY,
            "waves": [{"count": 1}, {"count": 2}, {"rest": True}],
            "on_error": on_error,
            "overdue_counts_as": overdue,
            "success_threshold": threshold,
            "error_threshold": errors,
            "max_in_flight": cap,
            "manual_gate": gate,
        }
        services.edit_release(self.release, actor=self.world.erik, now=self.world.now, policy=policy)
        services.approve_release(self.release, actor=self.world.mona, now=self.world.now)
        services.start_rollout(self.release, actor=self.world.sven, now=self.world.now)
        self.world.tick(1)

    @rule(number=ci_numbers)
    def device_does_one_thing(self, number: int) -> None:
        self.world.devices[number].step(self.world.now)

    @rule(number=ci_numbers)
    def device_does_all_it_can(self, number: int) -> None:
        self.world.devices[number].run(self.world.now)

    @rule()
    def all_devices_work(self) -> None:
        self.world.work()

    @rule(number=ci_numbers, mood=st.sampled_from(MOODS))
    def device_changes(self, number: int, mood: str) -> None:
        self.world.devices[number].mood = mood

    @rule(number=ci_numbers, label=st.sampled_from(["1.0", "2.0", "3.0"]))
    def somebody_installs_by_hand(self, number: int, label: str) -> None:
        self.world.devices[number].runs["billing"] = label

    @rule(seconds=st.sampled_from([0, 1, 11, 101]))
    def tick(self, seconds: int) -> None:
        self.world.tick(seconds)

    @rule(number=ci_numbers)
    def an_incident(self, number: int) -> None:
        self.world.incident(self.world.devices[number].ci, state="new")

    @rule(number=ci_numbers, lifecycle=st.sampled_from(["retired", "in_operation"]))
    def retire(self, number: int, lifecycle: str) -> None:
        ci = self.world.devices[number].ci
        type(ci).objects.filter(pk=ci.pk).update(lifecycle=lifecycle)

    def verb(self, call: Any, *objects: Any, person: str, **values: Any) -> None:
        """A verb is done or refused; anything else is a defect."""
        self.said += 1
        reason = {} if call is services.retry_failed_cis else {"reason": f"reason {self.said}"}
        # A moment later, so that what was offered before is not offered during.
        self.world.now += timedelta(seconds=1)
        try:
            call(*objects, actor=getattr(self.world, person), now=self.world.now, **reason, **values)
        except DomainError as refused:
            self.refusals.append(str(refused))

    @property
    def rollout(self) -> Rollout:
        return Rollout.objects.order_by("pk").last()  # type: ignore[return-value]

    @rule(person=st.sampled_from(PEOPLE))
    def pause(self, person: str) -> None:
        self.verb(services.pause_rollout, self.rollout, person=person)

    @rule(person=st.sampled_from(PEOPLE))
    def resume(self, person: str) -> None:
        self.verb(services.resume_rollout, self.rollout, person=person)

    @rule(chance=RARELY)
    def abort(self, chance: bool) -> None:
        if chance:
            self.verb(services.abort_rollout, self.rollout, person="olga")

    @rule(chance=RARELY, which=st.sampled_from(["first", "last"]))
    def roll_back(self, chance: bool, which: str) -> None:
        if chance:
            chosen = getattr(Rollout.objects.order_by("pk"), which)()
            self.verb(services.roll_back_rollout, chosen, person="sven")

    @rule(number=st.integers(1, 3))
    def roll_back_wave(self, number: int) -> None:
        wave = Wave.objects.get(rollout=self.rollout, kind="forward", number=number)
        self.verb(services.roll_back_wave, wave, person="sven")

    @rule(number=ci_numbers)
    def roll_back_ci(self, number: int) -> None:
        self.verb(services.roll_back_ci, self.rollout, person="sven", ci=self.world.devices[number].ci)

    @rule(number=ci_numbers)
    def exclude(self, number: int) -> None:
        self.verb(services.exclude_ci, self.rollout, person="olga", ci=self.world.devices[number].ci)

    @rule()
    def retry(self) -> None:
        self.verb(services.retry_failed_cis, self.rollout, person="mona")

    @precondition(lambda self: state(self.release) == "ready")
    @rule()
    def start_again(self) -> None:
        release = Release.objects.get(pk=self.release.pk)
        try:
            services.approve_release(release, actor=self.world.mona, now=self.world.now)
            services.start_rollout(release, actor=self.world.sven, now=self.world.now)
        except DomainError as refused:
            self.refusals.append(str(refused))

    # --- what must hold ---------------------------------------------------------------------------
    @invariant()
    def the_invariants_hold(self) -> None:
        assert check_invariants(files=False, tolerance=0) == []

    def everything_ends(self) -> None:
        """When every device answers and people decide, no rollout stays under way."""
        if not Rollout.objects.exists():
            return
        for agent in self.world.devices:
            type(agent.ci).objects.filter(pk=agent.ci.pk).update(lifecycle="in_operation")
            agent.mood = "ok"
        for _ in range(12):
            self.world.work()
            self.world.tick(101)
            if self.rollout.state == "paused":
                self.verb(services.resume_rollout, self.rollout, person="mona")
            if self.rollout.state == "paused":
                self.verb(services.abort_rollout, self.rollout, person="olga")
        assert check_invariants(files=False, tolerance=0) == []
        ends = {"completed", "rolled_back", "rolled_back_with_exceptions", "aborted"}
        assert {rollout.state for rollout in Rollout.objects.all()} <= ends
        for rollout in Rollout.objects.all():
            assert rollout.settled_at or rollout.waits_for, rollout
            assert not rollout.cascade
        assert self.world.tick() == 0
        current = dict(InstalledVersion.objects.filter(valid_to=None).values_list("ci__name", "label"))
        assert current == {agent.ci.name: agent.runs["billing"] for agent in self.world.devices}
        assert Incident.objects.filter(created_by=None).count() <= Rollout.objects.count()


def play(world: World, examples: int, steps: int) -> None:
    for ci in world.add_cis(CIS):
        world.incident(ci)
    change = world.change(world.problem(*Incident.objects.all()))
    OneRollout.world, OneRollout.began = world, world.now
    OneRollout.release = world.ready(changes=[change])
    run_state_machine_as_test(
        OneRollout,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.mark.slow
def test_a_few_sequences(world: World) -> None:
    play(world, examples=2, steps=15)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_sequences(world: World) -> None:
    play(world, examples=40, steps=40)
