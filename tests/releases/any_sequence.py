"""The machine that plays any sequence of devices, faults, ticks, people, crashes and time with two rollouts."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.db import transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cmdb.models import InstalledVersion
from distribution.models import DeploymentEvent
from failpoints import armed
from incidents.models import Incident
from releases import services
from releases.invariants import check_invariants
from releases.models import Release, Rollout, Wave
from tests.releases.world import POLICY, Device, World, state
from tickets.exceptions import DomainError

CIS = 3
MOODS = ["ok", "fails", "reverts", "offline", "hangs", "mute", "stubborn"]
PEOPLE = ["sven", "mona", "olga"]
ENDS = {"completed", "rolled_back", "rolled_back_with_exceptions", "aborted"}
# So many rounds of devices, ticks and decisions bring every rollout to its end.
ROUNDS = 20
ci_numbers = st.integers(0, CIS - 1)
which_rollout = st.sampled_from(["first", "last"])
# What ends a rollout comes seldom, or nothing else would ever happen.
RARELY = st.sampled_from([True, *[False] * 7])


class Killed(BaseException):
    """Not an Exception: nothing may catch it and go on."""


@contextmanager
def dies_at(number: int) -> Iterator[None]:
    """The process is killed at the so manieth failpoint that it passes; what was not committed is lost."""
    left = [number]

    def act(_name: str) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1

    with armed(act), suppress(Killed):
        yield


class TwoRollouts(RuleBasedStateMachine):
    """Two releases to the same CIs, and whatever may happen to their rollouts. Each example begins from the same rows
    and is taken back at its end.
    """

    world: ClassVar[World]
    release: ClassVar[Release]
    other: ClassVar[Release]
    began: ClassVar[datetime]

    def __init__(self) -> None:
        super().__init__()
        self.sid = transaction.savepoint()
        self.world.now = self.began
        self.world.devices = [Device(agent.ci, {"billing": "1.0"}) for agent in self.world.devices]
        for agent in self.world.devices:
            agent.ci.refresh_from_db()
        self.release.refresh_from_db()
        self.other.refresh_from_db()
        self.said = 0
        # Clocks that went back once excuse times that are off by as much.
        self.tolerance = 0

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            transaction.savepoint_rollback(self.sid)

    # --- beginning --------------------------------------------------------------------------------
    @initialize(
        on_error=st.sampled_from(["pause", "rollback_wave", "rollback_all"]),
        overdue=st.sampled_from(["failure", "skipped"]),
        threshold=st.sampled_from([50, 80, 100]),
        errors=st.sampled_from([0, 20, 50]),
        cap=st.sampled_from([None, 1, 2]),
        gate=st.booleans(),
        supersede=st.booleans(),
    )
    def start(
        self, on_error: str, overdue: str, threshold: int, errors: int, cap: int | None, gate: bool, supersede: bool
    ) -> None:
        policy = {
            **POLICY,
            "waves": [{"count": 1}, {"rest": True}],
            "on_error": on_error,
            "overdue_counts_as": overdue,
            "success_threshold": threshold,
            "error_threshold": errors,
            "max_in_flight": cap,
            "manual_gate": gate,
            "retry": {"codes": ["health_check_failed"], "attempts": 2, "backoff_seconds": 5} if gate else None,
        }
        services.edit_release(self.release, actor=self.world.erik, now=self.world.now, policy=policy)
        self.policy_of_the_other = {**policy, "supersede": supersede, "waves": [{"count": 2}, {"rest": True}]}
        self._start(self.release)
        self.world.tick(1)

    def _start(self, release: Release) -> None:
        release = Release.objects.get(pk=release.pk)
        with suppress(DomainError):
            services.approve_release(release, actor=self.world.mona, now=self.world.now)
            services.start_rollout(release, actor=self.world.sven, now=self.world.now)

    @precondition(lambda self: state(self.other) == "ready")
    @rule()
    def start_the_other(self) -> None:
        policy = self.policy_of_the_other
        services.edit_release(self.other, actor=self.world.erik, now=self.world.now, policy=policy)
        self._start(self.other)

    @precondition(lambda self: state(self.release) == "ready")
    @rule()
    def start_again(self) -> None:
        self._start(self.release)

    # --- devices ----------------------------------------------------------------------------------
    @rule(number=ci_numbers)
    def device_does_one_thing(self, number: int) -> None:
        self.world.devices[number].step(self.world.now)

    @rule(number=ci_numbers)
    def device_does_all_it_can(self, number: int) -> None:
        self.world.devices[number].run(self.world.now)

    @rule()
    def all_devices_work(self) -> None:
        self.world.work()

    @rule(number=ci_numbers, back=st.integers(0, 5))
    def device_says_something_again(self, number: int, back: int) -> None:
        self.world.devices[number].say_again(back, self.world.now)

    @rule(number=ci_numbers)
    def device_contradicts_itself(self, number: int) -> None:
        self.world.devices[number].contradict(self.world.now)

    @rule(number=ci_numbers, mood=st.sampled_from(MOODS))
    def device_changes(self, number: int, mood: str) -> None:
        self.world.devices[number].mood = mood

    @rule(number=ci_numbers, label=st.sampled_from(["1.0", "2.0", "3.0"]))
    def somebody_installs_by_hand(self, number: int, label: str) -> None:
        self.world.devices[number].runs["billing"] = label

    @rule(number=ci_numbers, lifecycle=st.sampled_from(["retired", "in_operation"]))
    def retire(self, number: int, lifecycle: str) -> None:
        ci = self.world.devices[number].ci
        type(ci).objects.filter(pk=ci.pk).update(lifecycle=lifecycle)

    # --- time and the portal ----------------------------------------------------------------------
    @rule(seconds=st.sampled_from([0, 1, 11, 101, 3600]), times=st.sampled_from([1, 1, 2, 5]))
    def tick(self, seconds: int, times: int) -> None:
        self.world.now += timedelta(seconds=seconds)
        for _ in range(times):
            self.world.tick()

    @rule(chance=RARELY)
    def the_clock_goes_back(self, chance: bool) -> None:
        if chance:
            self.world.now -= timedelta(seconds=2)
            self.tolerance = 30

    @rule(number=st.integers(0, 8))
    def the_worker_is_killed(self, number: int) -> None:
        with dies_at(number):
            self.world.tick()

    @rule(number=st.integers(0, 5), which=ci_numbers)
    def the_web_server_is_killed(self, number: int, which: int) -> None:
        with dies_at(number):
            self.world.devices[which].run(self.world.now)

    # --- people -----------------------------------------------------------------------------------
    @rule(number=ci_numbers)
    def an_incident(self, number: int) -> None:
        self.world.incident(self.world.devices[number].ci, state="new")

    def verb(self, call: Any, *objects: Any, person: str, **values: Any) -> None:
        """A verb is done or refused; anything else is a defect."""
        self.said += 1
        reason = {} if call is services.retry_failed_cis else {"reason": f"reason {self.said}"}
        # A moment later, so that what was offered before is not offered during.
        self.world.now += timedelta(seconds=1)
        with suppress(DomainError):
            call(*objects, actor=getattr(self.world, person), now=self.world.now, **reason, **values)

    def rollout(self, which: str = "last") -> Rollout:
        return getattr(Rollout.objects.order_by("pk"), which)()  # type: ignore[no-any-return]

    @rule(person=st.sampled_from(PEOPLE), which=which_rollout, mode=st.sampled_from(["freeze", "let_run"]))
    def pause(self, person: str, which: str, mode: str) -> None:
        self.verb(services.pause_rollout, self.rollout(which), person=person, mode=mode)

    @rule(person=st.sampled_from(PEOPLE), which=which_rollout, mode=st.sampled_from(["accept", "retry", "skip"]))
    def resume(self, person: str, which: str, mode: str) -> None:
        self.verb(services.resume_rollout, self.rollout(which), person=person, mode=mode)

    @rule(person=st.sampled_from(PEOPLE), which=which_rollout, number=st.integers(1, 2))
    def next_wave(self, person: str, which: str, number: int) -> None:
        self.verb(services.next_wave, self.rollout(which), person=person, wave=number)

    @rule(number=ci_numbers, which=which_rollout, decision=st.sampled_from(["fail", "retry", "ignore", "exclude"]))
    def decide(self, number: int, which: str, decision: str) -> None:
        ci = self.world.devices[number].ci
        self.verb(services.decide_failure, self.rollout(which), person="mona", ci=ci, decision=decision)

    @rule(which=which_rollout)
    def supersede(self, which: str) -> None:
        self.verb(services.supersede_older, self.rollout(which), person="mona")

    @rule(chance=RARELY, which=which_rollout)
    def abort(self, chance: bool, which: str) -> None:
        if chance:
            self.verb(services.abort_rollout, self.rollout(which), person="olga")

    @rule(chance=RARELY, which=which_rollout)
    def roll_back(self, chance: bool, which: str) -> None:
        if chance:
            self.verb(services.roll_back_rollout, self.rollout(which), person="sven")

    @rule(number=st.integers(1, 2), which=which_rollout)
    def roll_back_wave(self, number: int, which: str) -> None:
        wave = Wave.objects.get(rollout=self.rollout(which), kind="forward", number=number)
        self.verb(services.roll_back_wave, wave, person="sven")

    @rule(number=ci_numbers, which=which_rollout)
    def roll_back_ci(self, number: int, which: str) -> None:
        self.verb(services.roll_back_ci, self.rollout(which), person="sven", ci=self.world.devices[number].ci)

    @rule(number=ci_numbers, which=which_rollout)
    def exclude(self, number: int, which: str) -> None:
        self.verb(services.exclude_ci, self.rollout(which), person="olga", ci=self.world.devices[number].ci)

    @rule(which=which_rollout)
    def retry(self, which: str) -> None:
        self.verb(services.retry_failed_cis, self.rollout(which), person="mona")

    # --- what must hold ---------------------------------------------------------------------------
    @rule()
    def somebody_checks(self) -> None:
        """In mid sequence, at some steps; always at the end."""
        self.the_invariants_hold()

    def the_invariants_hold(self) -> None:
        assert check_invariants(files=False, tolerance=self.tolerance) == []
        events = DeploymentEvent.objects.filter(kind__in=["report", "cancel_report"])
        taken = Counter(events.values_list("deployment", flat=True))
        assert taken == sum((agent.accepted for agent in self.world.devices), Counter()), "answered, and one event each"

    def everything_ends(self) -> None:
        """When every device answers and people decide, no rollout stays under way; then nothing moves any more."""
        if not Rollout.objects.exists():
            return
        self.the_invariants_hold()
        for agent in self.world.devices:
            type(agent.ci).objects.filter(pk=agent.ci.pk).update(lifecycle="in_operation")
            agent.mood = "ok"
        for _ in range(ROUNDS):
            self.world.work()
            moved = self.world.tick(101)
            active = Rollout.objects.active()
            if not moved and not active.exists():
                break
            for rollout in active.filter(state="paused"):
                self.verb(services.resume_rollout, rollout, person="mona")
            for rollout in active.filter(state="paused"):
                self.verb(services.abort_rollout, rollout, person="olga")
        self.world.work()
        self.world.tick()
        assert {rollout.state for rollout in Rollout.objects.all()} <= ENDS
        for rollout in Rollout.objects.all():
            assert rollout.settled_at or rollout.waits_for, rollout
            assert not rollout.cascade
        assert self.world.tick() == 0
        self.the_invariants_hold()
        current = dict(InstalledVersion.objects.filter(valid_to=None).values_list("ci__name", "label"))
        assert current == {agent.ci.name: agent.runs["billing"] for agent in self.world.devices}
        assert Incident.objects.filter(created_by=None).count() <= Rollout.objects.count()


def prepare(world: World) -> None:
    """What every example begins with: incidents behind two releases that are ready, to the same CIs."""
    cis = world.add_cis(CIS)
    world.incident(cis[0])
    world.incident(cis[-1])
    change = world.change(world.problem(*Incident.objects.all()))
    TwoRollouts.world, TwoRollouts.began = world, world.now
    TwoRollouts.release = world.ready(changes=[change])
    TwoRollouts.other = world.ready(world.newer)
