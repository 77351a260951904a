"""The long steps of a test environment: make, start, stop, keep, bring back and remove it."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from cmdb.models import ConfigurationItem, InstalledVersion
from cmdb.services import issue_agent_token, record_removed
from test_environments.drivers.errors import Capacity, DriverError, Failed
from test_environments.drivers.interface import (
    Clone,
    CreateOrder,
    Delivery,
    NetworkMode,
    Observation,
    Power,
    Resources,
    Started,
    StoppedHow,
)
from test_environments.drivers.texts import say
from test_environments.failpoint import reach
from test_environments.models import EnvironmentSnapshot, GoldenImage, NeutralisingRecipe, TestEnvironment
from test_environments.runner.image_jobs import provenance_of, recipe_of
from test_environments.runner.jobs import Job
from test_environments.services.environments import fail_environment, finish_destroying, revoke_tokens
from test_environments.services.log import log
from tickets.lifecycle import move

State = TestEnvironment.State

# How long a copy has to shut down in order; an emulated machine needs some seconds, more on a busy host.
STOP_SECONDS = 60.0
_HOW = {
    StoppedHow.ALREADY: gettext_lazy("it was off already"),
    StoppedHow.GRACEFUL: gettext_lazy("in order"),
    StoppedHow.FORCED: gettext_lazy("by force"),
}
_UP = (Power.RUNNING, Power.STARTING)


def task_of(environment: TestEnvironment, seen: Observation | None) -> str:
    """What a job has to do for the environment now; empty: nothing. `seen` is None before the first look."""
    state = environment.state
    image = environment.image
    if state == State.DESTROYING:
        return "destroy"
    if state in {State.SNAPSHOTTING, State.REVERTING}:
        return {State.SNAPSHOTTING: "snapshot", State.REVERTING: "revert"}[State(state)]
    if state == State.CAPTURING:
        return "make" if image is None or image.state == GoldenImage.State.READY else ""
    if state == State.PROVISIONING and not environment.is_wanted_running:
        return "make"
    if seen is None or state == State.REQUESTED:
        return ""
    if environment.is_wanted_running:
        # With a lease it is not written yet that it runs: the host that started it was killed, or lost the database.
        return "" if seen.power in _UP and environment.lease is None else "start"
    return "stop" if seen.power in (*_UP, Power.PAUSED, Power.CRASHED) else ""


class EnvironmentJob(Job):
    """One task of one environment."""

    model = TestEnvironment
    related = ("source", "copy", "image")

    def fail(self, row: Any, now: datetime, text: str) -> None:
        if row.state == State.ERROR:
            # It is one already; a stop that failed there is tried again later.
            self.free(now, last_error=text[:4000])
            log(row, text, now=now, is_problem=True)
        else:
            fail_environment(row, now=now, text=text)

    def do_make(self) -> None:
        with self.held() as (environment, now):
            image = environment.image
            if image is None:
                raise Failed(_("It has no image; destroy it and ask for a new one."))
            if environment.state == State.CAPTURING:
                move(environment, "provision", actor=None, now=now, update={"baseline": image.baseline})
            order = _order(environment)
        reach("provisioning")
        self._stop_what_runs()
        self._check_capacity(order.resources)
        self.driver.create(order, self.bound)
        with self.held() as (environment, _now):
            environment.snapshots.all().delete()
        reach("copied")
        self._deliver()
        if order.network is NetworkMode.ISOLATED:
            self._prove_isolation()
        self._want_running()
        self._start()

    def do_start(self) -> None:
        self._start()

    def do_stop(self) -> None:
        how = self.driver.stop(self.uuid, self.bound, grace_seconds=STOP_SECONDS)
        with self.held() as (environment, now):
            self.free(now)
            log(environment, _("Stopped (%(how)s).") % {"how": _HOW[how]}, now=now)

    def do_snapshot(self) -> None:
        reach("snapshotting")
        with self.held() as (environment, _now):
            wanted = list(environment.snapshots.filter(kept_at__isnull=True).order_by("pk"))
        self._stop_what_runs()
        for snapshot in wanted:
            self.driver.snapshot(self.uuid, snapshot.uuid, self.bound)
        reach("snapshot_kept")
        with self.held() as (environment, now):
            keys = [snapshot.pk for snapshot in wanted]
            EnvironmentSnapshot.objects.filter(pk__in=keys).update(kept_at=now)
            _forget_report(environment)
            move(environment, "start_again", actor=None, now=now, update={"is_wanted_running": True})
            log(environment, _("The snapshot is complete."), now=now)
        self._start()

    def do_revert(self) -> None:
        reach("reverting")
        with self.held() as (environment, _now):
            snapshot = environment.revert_to
        self._stop_what_runs()
        self.driver.revert(self.uuid, snapshot, self.bound)
        reach("reverted")
        self._deliver()
        with self.held() as (environment, now):
            update = {"is_wanted_running": True, "revert_to": None}
            move(environment, "start_again", actor=None, now=now, update=update)
            log(environment, _("It is what it was; it gets a new identity and starts."), now=now)
        self._start()

    def do_destroy(self) -> None:
        self.driver.destroy(self.uuid, self.bound)
        with self.held() as (environment, now):
            finish_destroying(environment, now=now)

    def _stop_what_runs(self) -> None:
        if self.driver.observe(self.uuid, self.bound).power not in (Power.ABSENT, Power.OFF):
            self.driver.stop(self.uuid, self.bound, grace_seconds=STOP_SECONDS)

    def _check_capacity(self, wanted: Resources) -> None:
        free = self.driver.capabilities(self.bound).free
        if free.memory_mb >= 0 and wanted.memory_mb > free.memory_mb:
            text = _(
                "It needs %(needed)d MB of memory; %(free)d MB are free. Stop or destroy a test environment, "
                "or ask for less."
            )
            raise Capacity(text % {"needed": wanted.memory_mb, "free": free.memory_mb})
        if wanted.disk_growth_mb > free.disk_growth_mb:
            text = _("It may grow by %(needed)d MB; %(free)d MB are free. Destroy a test environment or make room.")
            raise Capacity(text % {"needed": wanted.disk_growth_mb, "free": free.disk_growth_mb})

    def _deliver(self) -> None:
        """Gives the copy an identity that it never had before, after everything was taken out that must not run."""
        with self.held() as (environment, now):
            token = _new_identity(environment, now=now)
            delivery = _delivery(environment, token)
        reach("token_issued")
        changed = self.driver.deliver(self.uuid, delivery, self.bound)
        reach("placed")
        with self.held() as (environment, _now):
            if list(changed) != environment.neutralised:
                TestEnvironment.objects.filter(pk=environment.pk).update(neutralised=list(changed))

    def _prove_isolation(self) -> None:
        """Asks from inside what can be reached, before anything of production runs there. Raises Failed."""
        if not self.driver.capabilities(self.bound).can_probe:
            return
        proof = self.driver.probe(self.uuid, self.bound)
        with self.held() as (environment, now):
            probes = [{**asdict(probe), "detail": say(probe.detail, _)} for probe in proof.probes]
            told = {"at": now.isoformat(), "holds": proof.holds, "probes": probes}
            TestEnvironment.objects.filter(pk=environment.pk).update(isolation=told)
        if not proof.holds:
            wrong = [probe.target for probe in proof.probes if probe.is_reached != probe.is_wanted]
            text = _(
                "Its isolation does not hold, so it was not started. Look at the network of the test host: %(targets)s."
            )
            raise Failed(text % {"targets": ", ".join(wrong) or _("nothing that could be told")})

    def _want_running(self) -> None:
        with self.held() as (environment, now):
            TestEnvironment.objects.filter(pk=environment.pk).update(is_wanted_running=True, updated_at=now)
        reach("wanted")

    def _start(self) -> None:
        started = self.driver.start(self.uuid, self.bound)
        reach("running")
        with self.held() as (environment, now):
            self.free(now, **_label(started))
            if environment.evidence != started.evidence or environment.accelerator != started.accelerator:
                what = TestEnvironment.Evidence(started.evidence).label
                log(environment, _("Started: %(what)s.") % {"what": what}, now=now)
            else:
                log(environment, _("Started."), now=now)


def _label(started: Started) -> dict[str, Any]:
    """What the driver says that it has started, and nothing better."""
    return {"evidence": str(started.evidence), "accelerator": started.accelerator, "last_error": ""}


def _order(environment: TestEnvironment) -> CreateOrder:
    image = environment.image
    assert image is not None
    return CreateOrder(
        environment=environment.uuid,
        image=image.uuid,
        image_sha256=image.image_sha256,
        provenance=provenance_of(environment),
        clone=Clone(environment.clone),
        network=NetworkMode(environment.network),
        allowed_endpoints=tuple(environment.allowed_endpoints),
        resources=Resources(environment.memory_mb, environment.processors, environment.disk_growth_mb),
        versions=environment.versions,
    )


def _new_identity(environment: TestEnvironment, *, now: datetime) -> str:
    """A new token for the copy; what the copy reported or ran before no longer counts. Returns the token."""
    copy = environment.copy
    if copy is None:
        raise DriverError(_("The environment has no configuration item of its own; destroy it and request a new one."))
    revoke_tokens(copy.pk, now=now)
    for installed in InstalledVersion.objects.filter(ci=copy, valid_to=None).select_related("product"):
        record_removed(copy, product=installed.product, now=now, source=environment.number)
    _forget_report(environment)
    return issue_agent_token(copy, actor=None, now=now)


def _forget_report(environment: TestEnvironment) -> None:
    """The copy is to tell anew what it runs before it counts as ready."""
    ConfigurationItem.objects.filter(environment=environment).update(
        attributes={}, attributes_at=None, attributes_wanted=True
    )


def _delivery(environment: TestEnvironment, token: str) -> Delivery:
    assert environment.copy is not None
    recipes = NeutralisingRecipe.objects.filter(ci_class=environment.source.ci_class_id, is_masking=False)
    return Delivery(
        portal_url=settings.PORTAL_URL,
        agent_id=environment.copy.agent_id or "",
        token=token,
        agent_config=agent_config(),
        neutralise=tuple(recipe_of(row) for row in recipes),
    )


def agent_config() -> Mapping[str, Any]:
    """What the agent of every copy is told besides its identity; the driver adds where its files are."""
    return {
        "tenant": settings.DDI_TENANT,
        "poll_min_seconds": 1,
        # As the agents in production: what is not signed is not tested either.
        **({"root_keys": settings.SIGNING_ROOT_KEYS} if settings.SIGNING_ROOT_KEYS else {}),
    }
