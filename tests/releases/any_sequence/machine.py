"""The machine that plays any sequence of devices, faults, ticks, people, crashes and time with two rollouts; what must
hold in the middle of it, and how it comes to rest.
"""

from collections import Counter
from datetime import time

from hypothesis.stateful import rule

from cmdb.models import AgentProfile, InstalledVersion, MaintenanceWindow
from distribution.models import DeploymentEvent
from incidents.models import Incident
from releases import services
from releases.invariants import check_invariants
from releases.models import Release, Rollout, RolloutEvent
from releases.services.rollbacks import stopped_waves
from tests.factories import make_user
from tests.releases.any_sequence.devices import Devices
from tests.releases.any_sequence.gates import Gates
from tests.releases.any_sequence.orders import Orders
from tests.releases.any_sequence.plans import Plans
from tests.releases.any_sequence.stage import CIS, Stage
from tests.releases.any_sequence.time_passes import TimePasses
from tests.releases.any_sequence.ways_back import WaysBack
from tests.releases.world import World

ENDS = {"completed", "rolled_back", "rolled_back_with_exceptions", "aborted"}
# So many rounds of devices, ticks and decisions bring every rollout to its end.
ROUNDS = 40


class TwoRollouts(Plans, Devices, TimePasses, Orders, WaysBack, Gates):
    """Two releases to the same CIs, and whatever may happen to their rollouts."""

    @rule()
    def somebody_checks(self) -> None:
        """In mid sequence, at some steps; always at the end."""
        self.the_invariants_hold()

    def the_invariants_hold(self) -> None:
        violations = check_invariants(files=False, tolerance=self.tolerance)
        assert not violations, violations
        events = DeploymentEvent.objects.filter(kind__in=["report", "cancel_report"])
        taken = Counter(events.values_list("deployment", flat=True))
        assert taken == sum((agent.accepted for agent in self.world.devices), Counter()), "answered, and one event each"
        self.no_wave_opened_in_a_freeze()

    def everything_ends(self) -> None:
        """When every device answers and people decide, no rollout stays under way; then nothing moves any more.

        People who are not patient abort what goes forward at once; others wait, and abort what cannot go on.
        """
        self.the_invariants_hold()
        self.nothing_is_in_the_way()
        if not self.patient:
            for rollout in Rollout.objects.active().order_by("pk"):
                self.verb(services.abort_rollout, rollout, person="olga")
        for _ in range(ROUNDS):
            self.world.work()
            self.ask_probes("pass")
            moved = self.world.tick(101)
            if not moved and not Rollout.objects.active().exists():
                break
            self.people_decide()
        self.world.work()
        self.world.tick()
        self.everything_is_at_rest()

    def nothing_is_in_the_way(self) -> None:
        for number, agent in enumerate(self.world.devices):
            self.write(number, lifecycle="in_operation", maintenance_window=None)
            agent.mood = "ok"
        self.move_planned_end(30 * 86400)
        self.lift_freezes()
        for release in Release.objects.filter(start_for__isnull=False):
            services.cancel_start(release, actor=self.world.olga, now=self.world.now)

    def people_decide(self) -> None:
        for rollout in Rollout.objects.order_by("pk"):
            if stopped_waves(rollout).exists():
                self.verb(services.continue_rollback, rollout, person="mona", choice="retry")
        for rollout in Rollout.objects.filter(state="paused").order_by("pk"):
            self.verb(services.resume_rollout, rollout, person="mona")
        for rollout in Rollout.objects.filter(state="paused").order_by("pk"):
            self.verb(services.abort_rollout, rollout, person="olga")

    def everything_is_at_rest(self) -> None:
        assert {rollout.state for rollout in Rollout.objects.all()} <= ENDS
        for rollout in Rollout.objects.all():
            assert rollout.settled_at or rollout.waits_for, rollout
            assert not rollout.cascade
        assert self.world.tick() == 0
        self.the_invariants_hold()
        current = dict(InstalledVersion.objects.filter(valid_to=None).values_list("ci__name", "label"))
        assert current == {agent.ci.name: agent.runs["billing"] for agent in self.world.devices}
        # One for each rollout that breached, one for each stop of a rollback.
        stops = RolloutEvent.objects.filter(kind="rollback_stopped").count()
        breached = Rollout.objects.filter(breach_incident__isnull=False).count()
        assert Incident.objects.filter(created_by=None).count() == breached + stops


def prepare(world: World) -> None:
    """What every example begins with: incidents behind two releases to the same CIs. The first one's rollout has just
    begun, the other one is ready.
    """
    cis = world.add_cis(CIS)
    world.incident(cis[0])
    world.incident(cis[-1])
    change = world.change(world.problem(*Incident.objects.all()))
    Stage.release = world.ready(changes=[change])
    Stage.other = world.ready(world.newer)
    Stage.cora = make_user("cora", "change manager")
    # One of the agents does not know windows: the portal keeps it from what it may not do yet.
    blind = AgentProfile.objects.create(name="Blind", can_wait=False)
    type(cis[-1]).objects.filter(pk=cis[-1].pk).update(agent_profile=blind)
    Stage.window = MaintenanceWindow.objects.create(name="Ten to eleven", start=time(10), minutes=60)
    services.approve_release(Stage.release, actor=world.mona, now=world.now)
    services.start_rollout(Stage.release, actor=world.sven, now=world.now)
    world.tick(1)
    Stage.world, Stage.began = world, world.now
