"""A small company with a fleet, its tickets and its devices, and a clock that moves only when a test says so."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.contrib.auth.models import Group

from accounts.models import User
from changes.models import Change
from cmdb.models import ConfigurationItem, InstalledVersion
from distribution import device
from distribution.models import Deployment, DeploymentItem
from incidents.models import Incident
from problems.models import Problem
from releases import executor, services
from releases.models import Release, Rollout, Wave
from software.models import Product, Version
from tests.distribution.fleet import stored_version
from tests.factories import NOW, ensure_roles, make_ci, make_product
from tickets.services import create_ticket

POLICY: dict[str, Any] = {
    "strategy": "phased",
    "waves": [{"count": 1}, {"rest": True}],
    "error_threshold": 20,
    "soak_seconds": 10,
    "offer_deadline": 100,
    "progress_deadline": 100,
    "confirm_deadline": 100,
}
BIG_BANG = {**POLICY, "strategy": "big_bang", "waves": [{"rest": True}]}
ROLES = {
    "erik": ["release engineer"],
    "mona": ["release manager"],
    "sven": ["release manager"],
    "olga": ["operator"],
    "rita": ["change requester", "requester"],
}
# More moves than that in one tick mean that it runs in a circle.
MANY_MOVES = 300


class Device:
    """One CI's agent. `mood` says what it does with an offer:

    ok · fails · reverts (says success, boots the old version) · offline · hangs (begins and never ends) ·
    mute (installs, its final report never arrives) · stubborn (rejects a cancel).
    `accepted` counts, for each deployment, the reports that the portal took.
    """

    def __init__(self, ci: ConfigurationItem, runs: dict[str, str]) -> None:
        self.ci, self.runs, self.mood = ci, dict(runs), "ok"
        # What its agent says besides the versions.
        self.says: dict[str, str] = {}
        self.accepted: Counter[int] = Counter()
        self.sent: list[Callable[[datetime], None]] = []

    def step(self, now: datetime) -> bool:
        """One exchange with the portal; False: nothing to do."""
        if self.mood == "offline":
            return False
        self._look_up()
        action = device.current_action(self.ci, now=now)
        if action.cancel is not None:
            return self._answer_cancel(action.cancel, now)
        if action.deploy is None:
            # What it has not said yet, for example because it was away.
            if self.ci.attributes_wanted or self.ci.attributes != self._attributes():
                self._tell(now)
                return True
            return False
        deployment = Deployment.objects.select_related("batch").get(pk=action.deploy)
        if deployment.state == "queued":
            return device.offer(deployment, self.ci, now=now)
        if deployment.state == "offered":
            return self._report(deployment.pk, "download", now)
        if deployment.state == "downloading":
            may_begin = deployment.batch.ignores_windows or self.ci.window is None or self.ci.window.is_open(now)
            return may_begin and self._report(deployment.pk, "proceeding", now)
        return self._install(deployment, now)

    def _look_up(self) -> None:
        """Its CI as the portal knows it now."""
        self.ci.refresh_from_db(fields=["agent_profile", "attributes", "attributes_wanted", "maintenance_window"])
        self.ci.__dict__.pop("window", None)  # kept once asked for

    def run(self, now: datetime) -> None:
        """Until there is nothing more to do."""
        for _ in range(30):
            if not self.step(now):
                return
        raise AssertionError(f"{self.ci} never comes to an end")

    def say_again(self, back: int, now: datetime) -> None:
        """Sends an earlier message once more, however late."""
        if self.sent:
            self.sent[-1 - back % len(self.sent)](now)

    def contradict(self, now: datetime) -> None:
        """Says the opposite of what its latest deployment came to, and that it has only begun."""
        latest = Deployment.objects.filter(ci=self.ci, offered_at__isnull=False).order_by("pk").last()
        if latest is not None:
            result = "failure" if latest.state in {"succeeded", "confirming"} else "success"
            self._report(latest.pk, "closed", now, result)
            self._report(latest.pk, "download", now)

    def _install(self, deployment: Deployment, now: datetime) -> bool:
        if self.mood == "hangs":
            return False
        if self.mood == "fails":
            return self._report(deployment.pk, "closed", now, "failure", "health_check_failed: it does not start")
        if self.mood != "reverts":
            for item in DeploymentItem.objects.filter(deployment=deployment).select_related("product", "to_version"):
                if item.to_version is None:
                    self.runs.pop(item.product.slug, None)
                else:
                    self.runs[item.product.slug] = item.to_version.label
        if self.mood != "mute":
            self._report(deployment.pk, "closed", now, "success")
        self._tell(now)
        return True

    def _answer_cancel(self, action: int, now: datetime) -> bool:
        if self.mood == "hangs":
            return False
        result = ("rejected", "none") if self.mood == "stubborn" else ("closed", "success")
        self._send(device.answer_cancel, action, now, *result)
        return True

    def _report(self, action: int, execution: str, now: datetime, result: str = "none", *details: str) -> bool:
        self._send(device.report, action, now, execution, result, *details)
        return True

    def _send(
        self, door: Callable[..., Any], action: int, now: datetime, execution: str, result: str, *details: str
    ) -> None:
        message = {"execution": execution, "result": result, "details": details}
        fingerprint = hashlib.sha256(repr((action, message)).encode()).hexdigest()[:32]

        def send(now: datetime) -> None:
            if door(self.ci, action, **message, fingerprint=fingerprint, now=now) is device.Outcome.ACCEPTED:
                self.accepted[action] += 1

        self.sent.append(send)
        send(now)

    def _attributes(self) -> dict[str, str]:
        return {**{f"version.{slug}": label for slug, label in self.runs.items()}, **self.says}

    def _tell(self, now: datetime) -> None:
        device.record_attributes(self.ci, data=self._attributes(), mode="replace", now=now)


@dataclass
class World:
    """People, one product with versions 1.0 to 3.0, CIs that run 1.0, and the time."""

    now: datetime = NOW
    devices: list[Device] = field(default_factory=list)

    def __post_init__(self) -> None:
        ensure_roles()
        people = User.objects.bulk_create(User(username=name, email=f"{name}@example.org") for name in ROLES)
        self.erik, self.mona, self.sven, self.olga, self.rita = people
        groups = {group.name: group.pk for group in Group.objects.all()}
        User.groups.through.objects.bulk_create(
            User.groups.through(user=person, group_id=groups[role])
            for person in people
            for role in ROLES[person.username]
        )
        self.billing: Product = make_product()
        self.old, self.new = (stored_version(self.billing, label) for label in ("1.0", "2.0"))

    # --- props ------------------------------------------------------------------------------------
    @cached_property
    def newer(self) -> Version:
        return stored_version(self.billing, "3.0")

    def add_ci(self, name: str, owner: User | None = None, **runs: str) -> ConfigurationItem:
        """A CI in operation whose agent has reported what it runs; billing 1.0 unless said otherwise."""
        runs = runs or {"billing": "1.0"}
        attributes = {f"version.{slug}": label for slug, label in runs.items()}
        said = {"attributes": attributes, "attributes_at": self.now, "attributes_wanted": False}
        ci = make_ci(name, agent_id=name, owner=owner, **said)
        versions = Version.objects.select_related("product").filter(product__slug__in=runs)
        InstalledVersion.objects.bulk_create(
            InstalledVersion(ci=ci, product=v.product, version=v, label=v.label, valid_from=self.now)
            for v in versions
            if runs[v.product.slug] == v.label
        )
        self.devices.append(Device(ci, runs))
        return ci

    def add_cis(self, number: int) -> list[ConfigurationItem]:
        return [self.add_ci(f"srv-{n}") for n in range(1, number + 1)]

    def change(self, *problems: Problem, state: str = "scheduled", **values: Any) -> Change:
        """An RFC in this state, with a planned time around now."""
        incidents = values.pop("incidents", ())
        times = {
            "planned_start": values.pop("planned_start", self.now - timedelta(hours=1)),
            "planned_end": values.pop("planned_end", self.now + timedelta(days=30)),
        }
        change = create_ticket(Change, actor=self.rita, now=self.now, title="Billing 2.0", **values)
        Change.objects.filter(pk=change.pk).update(state=state, **times)
        change.refresh_from_db()
        change.problems.set(problems)
        change.incidents.set(incidents)
        change.products.add(self.billing)
        return change

    def problem(self, *incidents: Incident, state: str = "root_cause_analysis") -> Problem:
        problem = create_ticket(Problem, actor=self.rita, now=self.now, title="It leaks", root_cause="A leak")
        Problem.objects.filter(pk=problem.pk).update(state=state)
        problem.refresh_from_db()
        problem.incidents.set(incidents)
        return problem

    def incident(
        self, ci: ConfigurationItem | None, state: str = "on_hold", reason: str = "release", requester: Any = None
    ) -> Incident:
        incident = create_ticket(
            Incident, actor=self.rita, now=self.now, title="It stopped", ci=ci, requester=requester or self.rita
        )
        hold = reason if state == "on_hold" else ""
        Incident.objects.filter(pk=incident.pk).update(state=state, hold_reason=hold)
        incident.refresh_from_db()
        return incident

    # --- releases ---------------------------------------------------------------------------------
    def draft(self, *versions: Version, changes: Iterable[Change] | None = None, **values: Any) -> Release:
        values.setdefault("policy", POLICY)
        return services.draft_release(
            actor=self.erik,
            now=self.now,
            title="Billing",
            changes=[self.change()] if changes is None else list(changes),
            versions=versions or [self.new],
            **values,
        )

    def built(self, *versions: Version, **values: Any) -> Release:
        release = self.draft(*versions, **values)
        left_out = {change.pk: "later" for change in services.left_out_changes(release)}
        services.plan_release(release, actor=self.erik, now=self.now, left_out=left_out)
        services.build_release(release, actor=self.erik, now=self.now)
        return release

    def ready(self, *versions: Version, **values: Any) -> Release:
        """Ready, with its test excepted by a second person, not yet approved."""
        release = self.built(*versions, **values)
        services.skip_test(release, actor=self.mona, now=self.now, reason="tested by hand")
        return release

    def approved(self, *versions: Version, **values: Any) -> Release:
        release = self.ready(*versions, **values)
        services.approve_release(release, actor=self.mona, now=self.now)
        return release

    def started(self, *versions: Version, **values: Any) -> Rollout:
        return services.start_rollout(self.approved(*versions, **values), actor=self.sven, now=self.now)

    # --- time -------------------------------------------------------------------------------------
    def tick(self, seconds: float = 0) -> int:
        """Lets so much time pass, then one tick; every tick comes to an end."""
        self.now += timedelta(seconds=seconds)
        began = time.monotonic()
        moved = executor.advance_rollouts(now=self.now, budget_seconds=30)
        assert moved < MANY_MOVES, f"{moved} moves in one tick"
        assert time.monotonic() - began < 30
        return moved

    def work(self, *cis: ConfigurationItem) -> None:
        """The devices (of these CIs) do what there is to do."""
        for agent in self.devices:
            if not cis or agent.ci in cis:
                agent.run(self.now)

    def pass_time(self, rounds: int = 6, seconds: float = 11) -> None:
        """Devices and ticks in turn, with enough time for the problem-free periods."""
        for _ in range(rounds):
            self.work()
            self.tick(seconds)

    def mood(self, mood: str, *cis: ConfigurationItem) -> None:
        for agent in self.devices:
            if agent.ci in cis:
                agent.mood = mood

    # --- looking ----------------------------------------------------------------------------------
    def runs(self) -> dict[str, str]:
        """What the configuration database says about billing: CI name → label."""
        current = InstalledVersion.objects.filter(valid_to=None, product=self.billing)
        return dict(current.order_by("ci__name").values_list("ci__name", "label"))


def state(thing: Any) -> str:
    """The state in the database."""
    return str(type(thing)._base_manager.values_list("state", flat=True).get(pk=thing.pk))


def waves(rollout: Rollout) -> list[str]:
    return list(rollout.waves.filter(kind=Wave.Kind.FORWARD).order_by("number").values_list("state", flat=True))


def deployments(rollout: Rollout, purpose: str = "forward") -> dict[str, str]:
    """CI name → state of its newest attempt."""
    rows = Deployment.objects.filter(batch__wave__rollout=rollout, batch__purpose=purpose).order_by("attempt", "pk")
    return dict(rows.values_list("ci__name", "state"))
