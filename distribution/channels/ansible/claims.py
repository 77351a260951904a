"""Which hosts a push run takes, and under which lease its results count.

claim (deployments offered, run and targets written, one short transaction) → play, outside any transaction → results,
each in a short transaction that holds the lease. A run whose worker died is ended when its lease runs out: hosts it
had not begun go to the next run, the others are `unknown` until a probe has read what they run.
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from cmdb.models import ConfigurationItem
from distribution.channels.ansible.models import PushRun, PushTarget
from distribution.device import offer
from distribution.models import Deployment, DeploymentEvent, DeploymentState
from distribution.offers import offerable
from distribution.steps import record_step
from distribution.windows import IS_OPEN
from tickets.clock import database_now

LEASE = timedelta(seconds=30)
# A probe that could not read a host is tried again after this much more each time, up to an hour.
PROBE_PAUSE = timedelta(seconds=30)
_CLAIM_LOCK = 0x70757368

# Deployments that wait for an installation run, those of one batch: the first one's. A CI's own order as for devices.
_WAITING = f"""
WITH best AS (
    SELECT DISTINCT ON (d.ci_id) d.id, d.batch_id, d.weight
    FROM distribution_deployment d
    JOIN distribution_batch b ON b.id = d.batch_id AND b.is_open
    JOIN cmdb_configurationitem ci ON ci.id = d.ci_id AND ci.channel = 'ansible'
    JOIN cmdb_connection c ON c.ci_id = d.ci_id
    WHERE d.state = 'queued' AND {offerable("d", "b", may_change=IS_OPEN)} AND NOT EXISTS (
            SELECT 1 FROM distribution_deployment other WHERE other.ci_id = d.ci_id
                AND other.state IN ('offered', 'downloading', 'installing', 'confirming', 'cancelling', 'unknown'))
        OR d.state = 'offered' AND NOT EXISTS (
            SELECT 1 FROM distribution_pushtarget t WHERE t.deployment_id = d.id AND t.ended_at IS NULL)
    ORDER BY d.ci_id, d.weight DESC, d.id
)
SELECT id FROM best
WHERE batch_id = (SELECT first.batch_id FROM best first ORDER BY first.weight DESC, first.id LIMIT 1)
ORDER BY weight DESC, id LIMIT %(limit)s
"""  # noqa: S608 - put together from constants
# Deployments whose host nobody knows the state of, and whose next probe is due.
_UNKNOWN = """
SELECT d.id FROM distribution_deployment d
JOIN cmdb_configurationitem ci ON ci.id = d.ci_id AND ci.channel = 'ansible'
JOIN LATERAL (
    SELECT max(t.ended_at) AS ended_at, count(*) FILTER (WHERE t.ended_at IS NULL) AS active,
        -- Since the last installation.
        count(*) FILTER (WHERE r.kind = 'probe' AND r.id > (
            SELECT max(i.run_id) FROM distribution_pushtarget i JOIN distribution_pushrun ir ON ir.id = i.run_id
            WHERE i.deployment_id = d.id AND ir.kind = 'install')) AS probes
    FROM distribution_pushtarget t JOIN distribution_pushrun r ON r.id = t.run_id WHERE t.deployment_id = d.id
) run ON run.active = 0
WHERE d.state = 'unknown'
    AND run.ended_at + least(run.probes * %(pause)s * interval '1 second', interval '1 hour') <= %(now)s
ORDER BY d.id LIMIT %(limit)s
"""
# Hosts whose health somebody asked for. A run that was lost is followed by another one while there is time.
_ASKED = """
SELECT h.deployment_id FROM distribution_healthcheck h
JOIN cmdb_configurationitem ci ON ci.id = h.ci_id AND ci.channel = 'ansible'
JOIN cmdb_connection c ON c.ci_id = h.ci_id
WHERE h.outcome = '' AND h.due_at > %(now)s AND NOT EXISTS (
    SELECT 1 FROM distribution_pushtarget t WHERE t.deployment_id = h.deployment_id AND t.ended_at IS NULL)
ORDER BY h.id LIMIT %(limit)s
"""


class LeaseLost(Exception):
    """The run was ended, or taken by somebody else: what it finds out no longer counts."""


def _ids(statement: str, now: datetime, limit: int) -> list[int]:
    with connection.cursor() as cursor:
        values: dict[str, Any] = {"now": now, "limit": limit, "pause": PROBE_PAUSE.total_seconds()}
        cursor.execute(statement, {**values, "signed": settings.REQUIRE_SIGNATURES})
        return [row[0] for row in cursor.fetchall()]


def wanted_runs(*, now: datetime) -> int:
    """How many more runs there is work and room for. Writes nothing."""
    room = settings.PUSH_RUNS - PushRun.objects.filter(ended_at=None).count()
    if room <= 0:
        return 0
    probes = bool(_ids(_UNKNOWN, now, 1)) + bool(_ids(_ASKED, now, 1))
    waiting = len(_ids(_WAITING, now, room * settings.PUSH_BATCH))
    return min(room, probes + -(-waiting // settings.PUSH_BATCH))


def claim(*, now: datetime) -> PushRun | None:
    """Takes hosts for one run, those to be read first; None: nothing to do, or as many runs as may be are under way.

    Each deployment is offered through the same door as to a device, so a batch's cap and state hold exactly.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CLAIM_LOCK])
        if PushRun.objects.filter(ended_at=None).count() >= settings.PUSH_RUNS:
            return None
        kind, ids = PushRun.Kind.PROBE, _ids(_UNKNOWN, now, settings.PUSH_BATCH)
        if not ids:
            kind, ids = PushRun.Kind.CHECK, _ids(_ASKED, now, settings.PUSH_BATCH)
        if not ids:
            kind, ids = PushRun.Kind.INSTALL, [i for i in _ids(_WAITING, now, settings.PUSH_BATCH) if _offered(i, now)]
        if not ids:
            return None
        run = PushRun.objects.create(kind=kind, lease=uuid.uuid4(), leased_until=now + LEASE, started_at=now)
        PushTarget.objects.bulk_create(PushTarget(run=run, deployment_id=pk) for pk in sorted(ids))
        return run


def _offered(deployment_id: int, now: datetime) -> bool:
    related = ("batch", "ci__agent_profile", "ci__maintenance_window", "ci__ci_class__maintenance_window")
    deployment = Deployment.objects.select_related(*related).get(pk=deployment_id)
    if deployment.state == DeploymentState.QUEUED:
        offer(deployment, deployment.ci, now=now)
    return deployment.state == DeploymentState.OFFERED


@contextmanager
def held(run: PushRun) -> Iterator[datetime]:
    """A short transaction in which the run is ours; gives its clock, extends the lease. Raises `LeaseLost`."""
    with transaction.atomic():
        now = database_now()
        mine = PushRun.objects.filter(pk=run.pk, lease=run.lease, ended_at=None)
        if not mine.update(leased_until=now + LEASE):
            raise LeaseLost
        yield now


def end_run(run: PushRun, *, outcome: str, note: str, now: datetime) -> None:
    """Ends the run and lets go of its hosts. Inside `held`, or by the tick for a lost one."""
    targets = PushTarget.objects.filter(run=run, ended_at=None).order_by("deployment_id")
    for target in targets.select_related("deployment"):
        let_go(run, target, now=now)
    PushRun.objects.filter(pk=run.pk, ended_at=None).update(ended_at=now, outcome=outcome, note=note[:512])


def let_go(run: PushRun, target: PushTarget, *, now: datetime) -> None:
    """Ends the run's work on one host; what it began and did not finish there is `unknown`."""
    deployment = Deployment.objects.select_for_update(no_key=True).get(pk=target.deployment_id)
    state, before = str(deployment.state), deployment.state_before_cancel
    if state == DeploymentState.CANCELLING and before in {DeploymentState.INSTALLING, DeploymentState.CONFIRMING}:
        # It may have switched: not cancelled, whatever was asked for.
        step(run, deployment, to_state=before, now=now, values={"state_before_cancel": ""})
        state = before
    if state in {DeploymentState.DOWNLOADING, DeploymentState.INSTALLING, DeploymentState.CONFIRMING}:
        step(run, deployment, to_state=DeploymentState.UNKNOWN, now=now)
    elif state == DeploymentState.CANCELLING:
        step(run, deployment, to_state=DeploymentState.CANCELLED, now=now)
    PushTarget.objects.filter(pk=target.pk, ended_at=None).update(ended_at=now)


def step(
    run: PushRun,
    deployment: Deployment,
    *,
    to_state: str,
    now: datetime,
    details: tuple[str, ...] = (),
    values: Mapping[str, object] | None = None,
) -> bool:
    """One step of the deployment by this run, with its event; False: it is no longer in the state that was read."""
    is_written = record_step(
        deployment.pk,
        from_state=deployment.state,
        to_state=to_state,
        kind=DeploymentEvent.Kind.PUSH,
        now=now,
        execution=run.kind,
        result=f"run {run.pk}",
        details=details,
        values=values,
    )
    if is_written:
        deployment.state = DeploymentState(to_state)
    return is_written


def advance_push(*, now: datetime) -> int:
    """The tick's part: ends runs whose worker died, and cancels what no run works on. How many it moved."""
    moved = 0
    for pk in PushRun.objects.filter(ended_at=None, leased_until__lt=now).order_by("pk").values_list("pk", flat=True):
        with transaction.atomic():
            lost = PushRun.objects.select_for_update(skip_locked=True).filter(
                pk=pk, ended_at=None, leased_until__lt=now
            )
            for run in lost:
                end_run(run, outcome=PushRun.Outcome.LOST, note="", now=now)
                moved += 1
    return moved + _cancel_idle(now)


def _cancel_idle(now: datetime) -> int:
    """Deployments to be cancelled that were put back and wait for their next run."""
    in_hand = PushTarget.objects.filter(deployment=OuterRef("pk"), ended_at=None)
    cancelling = Deployment.objects.filter(
        state=DeploymentState.CANCELLING, ci__channel=ConfigurationItem.Channel.ANSIBLE
    )
    idle = cancelling.exclude(Exists(in_hand))
    count = 0
    for deployment in idle.order_by("pk")[:500]:
        count += record_step(
            deployment.pk,
            from_state=DeploymentState.CANCELLING,
            to_state=DeploymentState.CANCELLED,
            kind=DeploymentEvent.Kind.ENGINE,
            now=now,
            details=[deployment.reason] if deployment.reason else (),
        )
    return count


def runs_of(deployment: Deployment) -> int:
    """How many installation runs had this deployment in hand."""
    return PushTarget.objects.filter(deployment=deployment, run__kind=PushRun.Kind.INSTALL).count()
