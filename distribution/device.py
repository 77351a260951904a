"""What a device may do: ask what to do, take an offer, report, answer a cancel, say what it runs.

Locks are taken in the order batch, deployment, CI, so that devices and the engine never wait for each other
in a circle.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction

from cmdb.models import AgentProfile, ConfigurationItem
from cmdb.prepared import fetch_row
from cmdb.services import record_installed, record_removed
from distribution.attributes import record_attributes
from distribution.models import TERMINAL, Batch, Deployment, DeploymentEvent, DeploymentItem, DeploymentState
from distribution.signed import IS_SIGNED
from distribution.steps import move_where, record_step

MAX_DETAILS = 50
MAX_DETAIL = 512
MAX_REPORTS = 1000

_ERROR_CODE = re.compile(r"([a-z_]{1,64}): ?(.*)", re.DOTALL)
_PROGRESS = {"download": "downloading", "downloaded": "installing", "proceeding": "installing"}
_RANK = {"unknown": 0, "offered": 1, "downloading": 2, "installing": 3}

# Whether the deployment `d` of the batch `b` could be offered now.
# Overdue ones do not fill the cap: a dead device would hold its place for ever.
OFFERABLE = f"""
    b.is_open
    AND (b.max_in_flight IS NULL OR b.max_in_flight > (
        SELECT count(*) FROM distribution_deployment flying
        WHERE flying.batch_id = b.id AND flying.overdue_at IS NULL
            AND flying.state IN ('offered', 'downloading', 'installing', 'confirming', 'cancelling', 'unknown')))
    AND NOT EXISTS (
        SELECT 1 FROM cmdb_configurationitem c WHERE c.id = d.ci_id AND c.lifecycle IN ('retired', 'disposed'))
    AND NOT EXISTS (
        SELECT 1 FROM distribution_deploymentitem i JOIN software_version v ON v.id = i.to_version_id
        WHERE i.deployment_id = d.id AND v.state <> 'ready')
    AND {IS_SIGNED}
    -- Found changed by somebody else since it was queued: a person has to look first.
    AND NOT EXISTS (
        SELECT 1 FROM distribution_deploymentitem i
        JOIN cmdb_installedversion iv ON iv.ci_id = d.ci_id AND iv.product_id = i.product_id AND iv.valid_to IS NULL
        WHERE i.deployment_id = d.id AND iv.is_drift AND iv.valid_from > d.created_at
            AND iv.version_id IS DISTINCT FROM i.from_version_id AND iv.version_id IS DISTINCT FROM i.to_version_id)
"""  # noqa: S608 - put together from constants
_CURRENT = f"""
SELECT o.id, o.state, o.created_at,
    (SELECT max(s.id) FROM distribution_deployment s WHERE s.ci_id = %(ci)s AND s.state = 'succeeded')
FROM (SELECT 1) always LEFT JOIN LATERAL (
    SELECT d.id, d.state, d.created_at
    FROM distribution_deployment d JOIN distribution_batch b ON b.id = d.batch_id
    WHERE d.ci_id = %(ci)s
        AND d.state IN ('queued', 'offered', 'downloading', 'installing', 'confirming', 'cancelling', 'unknown')
        AND (d.state <> 'queued' OR {OFFERABLE})
    ORDER BY d.state = 'queued', d.weight DESC, d.id LIMIT 1
) o ON true
"""  # noqa: S608 - put together from constants
_OFFER = f"""
d.id = %(id)s AND d.state = 'queued'
AND NOT EXISTS (
    SELECT 1 FROM distribution_deployment other WHERE other.ci_id = d.ci_id
        AND other.state IN ('offered', 'downloading', 'installing', 'confirming', 'cancelling', 'unknown'))
AND EXISTS (SELECT 1 FROM distribution_batch b WHERE b.id = d.batch_id AND {OFFERABLE})
"""  # noqa: S608 - put together from constants
_IS_THERE = """
SELECT bool_and(CASE WHEN i.to_version_id IS NULL THEN iv.id IS NULL
        ELSE iv.version_id IS NOT DISTINCT FROM i.to_version_id END),
    bool_or(iv.version_id IS DISTINCT FROM i.from_version_id)
FROM distribution_deploymentitem i
JOIN distribution_deployment d ON d.id = i.deployment_id
LEFT JOIN cmdb_installedversion iv ON iv.ci_id = d.ci_id AND iv.product_id = i.product_id AND iv.valid_to IS NULL
WHERE i.deployment_id = %(deployment)s
"""
_REFRESH_FROM = """
UPDATE distribution_deploymentitem i SET from_version_id = iv.version_id
FROM distribution_deployment d, cmdb_installedversion iv
WHERE i.deployment_id = %s AND d.id = i.deployment_id AND i.to_version_id IS NOT NULL
    AND iv.ci_id = d.ci_id AND iv.product_id = i.product_id AND iv.valid_to IS NULL
    AND iv.version_id IS DISTINCT FROM i.from_version_id
"""
_DOWNLOAD = """
WITH d AS (
    SELECT id, state FROM distribution_deployment
    WHERE id = %(id)s AND state IN ('offered', 'downloading', 'installing', 'unknown') FOR NO KEY UPDATE
)
INSERT INTO distribution_deploymentevent
    (deployment_id, kind, from_state, to_state, at, execution, result, details, is_duplicate)
SELECT id, 'download', state, state, %(now)s, '', '', jsonb_build_array(%(filename)s::text), false FROM d
WHERE NOT EXISTS (
    SELECT 1 FROM distribution_deploymentevent e WHERE e.deployment_id = %(id)s AND e.kind = 'download'
        AND e.details = jsonb_build_array(%(filename)s::text))
"""
_FIELDS = [field.attname for field in Deployment._meta.concrete_fields]
_BATCH_FIELDS = [field.attname for field in Batch._meta.concrete_fields]
_FIND = f"""
SELECT {", ".join(f"d.{name}" for name in _FIELDS)}, {", ".join(f"b.{name}" for name in _BATCH_FIELDS)}
FROM distribution_deployment d JOIN distribution_batch b ON b.id = d.batch_id WHERE d.id = %(id)s AND d.ci_id = %(ci)s
"""  # noqa: S608 - put together from constants
_LOCK = f"""
SELECT {", ".join(_FIELDS)} FROM distribution_deployment WHERE id = %(id)s AND ci_id = %(ci)s FOR NO KEY UPDATE
"""  # noqa: S608 - put together from constants


class Outcome(Enum):
    """How the portal took a device's message."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"  # no such action of this device
    GONE = "gone"  # the action is over
    REFUSED = "refused"  # the action is not being cancelled
    TOO_MANY = "too_many"


@dataclass(frozen=True, slots=True)
class Action:
    """What a device should do now: `deploy` or `cancel` the deployment with this id; None: nothing."""

    deploy: int | None = None
    cancel: int | None = None
    mark: int = 0
    installed: int | None = None


def current_action(ci: ConfigurationItem) -> Action:
    """What the device should do, and its last successful deployment. One query; writes nothing."""
    if ci.channel != ConfigurationItem.Channel.DDI:
        return Action()  # another channel brings its software
    row = fetch_row(_CURRENT, {"ci": ci.pk, "signed": settings.REQUIRE_SIGNATURES})
    assert row is not None
    deployment_id, state, created_at, installed = row
    if state == DeploymentState.CANCELLING:
        return Action(cancel=deployment_id, installed=installed)
    if state is None or state == DeploymentState.CONFIRMING:
        return Action(installed=installed)
    return Action(deploy=deployment_id, mark=int(created_at.timestamp()), installed=installed)


def find_deployment(ci: ConfigurationItem, action_id: int) -> Deployment | None:
    """The device's own deployment with this id, with its batch."""
    if ci.channel != ConfigurationItem.Channel.DDI:
        return None
    row = fetch_row(_FIND, {"id": action_id, "ci": ci.pk})
    if row is None:
        return None
    deployment = Deployment.from_db(connection.alias, _FIELDS, row[: len(_FIELDS)])
    deployment.batch = Batch.from_db(connection.alias, _BATCH_FIELDS, row[len(_FIELDS) :])
    return deployment


def offer(deployment: Deployment, *, now: datetime) -> bool:
    """Takes a waiting deployment to `offered`; False: it cannot be offered now, or the CI is there already.

    The object shows the state afterwards, also when a parallel request has offered it. Exact under any number
    of parallel requests: the batch stays open and its cap stays observed until the commit.
    """
    lock = "FOR NO KEY UPDATE" if deployment.batch.max_in_flight is not None else "FOR SHARE"
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            locked = f"SELECT id FROM distribution_batch WHERE id = %(batch)s AND is_open {lock}"  # noqa: S608 - a constant
            if fetch_row(locked, {"batch": deployment.batch_id}) is None:
                deployment.refresh_from_db(fields=["state", "offered_at"])
                return False
            is_there, is_different = fetch_row(_IS_THERE, {"deployment": deployment.pk}) or (None, None)
            if is_there:
                _skip(deployment, now)
                return False
            moved = move_where(
                _OFFER,
                {"id": deployment.pk, "signed": settings.REQUIRE_SIGNATURES},
                to_state=DeploymentState.OFFERED,
                kind=DeploymentEvent.Kind.OFFERED,
                now=now,
                assignments={"offered_at": "%(now)s"},
                sources=[DeploymentState.QUEUED],
                is_single=True,
            )
            if moved and is_different:
                cursor.execute(_REFRESH_FROM, [deployment.pk])
    except IntegrityError:
        # Another deployment of the CI was offered in the same moment.
        moved = []
    if moved:
        deployment.state, deployment.offered_at = DeploymentState.OFFERED, now
    else:
        deployment.refresh_from_db(fields=["state", "offered_at"])
    return bool(moved)


def _skip(deployment: Deployment, now: datetime) -> None:
    move_where(
        "d.id = %(id)s",
        {"id": deployment.pk},
        to_state=DeploymentState.SKIPPED,
        kind=DeploymentEvent.Kind.ENGINE,
        now=now,
    )
    deployment.state = DeploymentState.SKIPPED


def report(
    ci: ConfigurationItem,
    action_id: int,
    *,
    execution: str,
    result: str,
    details: Sequence[str],
    now: datetime,
    fingerprint: str = "",
) -> Outcome:
    """Takes a feedback on a deployment: one event for each accepted one, at most one step forward.

    Late or repeated reports never move it back. `closed` ends the action for the device, also while it is
    being cancelled. The final report is always taken; others up to a number and a size.
    """
    with transaction.atomic():
        deployment = _locked(ci, action_id)
        if deployment is None or deployment.offered_at is None:
            return Outcome.UNKNOWN
        if deployment.closed_at is not None or deployment.state in TERMINAL:
            return Outcome.GONE
        is_final = execution == "closed"
        if not is_final and _is_too_much(deployment, details):
            return Outcome.TOO_MANY
        details = _shortened(details)
        values = _report_values(deployment, details, now)
        to_state = deployment.state
        if is_final:
            values["closed_at"] = now
            to_state = _closing_state(ci, result)
            if to_state == DeploymentState.FAILED:
                values |= _failure(details)
        elif execution in _PROGRESS:
            to_state = _advance(deployment, _PROGRESS[execution], values)
        record_step(
            deployment.pk,
            from_state=deployment.state,
            to_state=to_state,
            kind=DeploymentEvent.Kind.REPORT,
            now=now,
            execution=execution,
            result=result,
            details=details,
            fingerprint=fingerprint,
            values=values,
        )
        if is_final:
            _want_attributes(ci)
        if to_state == DeploymentState.SUCCEEDED:
            _record_items(ci, deployment, now)
    return Outcome.ACCEPTED


def answer_cancel(
    ci: ConfigurationItem,
    action_id: int,
    *,
    execution: str,
    result: str,
    details: Sequence[str],
    now: datetime,
    fingerprint: str = "",
) -> Outcome:
    """Takes the answer to a cancel: accepted → cancelled; rejected or failed → what it was before; else only
    noted.
    """
    with transaction.atomic():
        deployment = _locked(ci, action_id)
        if deployment is None or deployment.offered_at is None:
            return Outcome.UNKNOWN
        if deployment.state == DeploymentState.CANCELLED:
            return Outcome.GONE
        if deployment.state != DeploymentState.CANCELLING:
            return Outcome.REFUSED
        is_final = execution in {"closed", "rejected"}
        if not is_final and _is_too_much(deployment, details):
            return Outcome.TOO_MANY
        details = _shortened(details)
        values = _report_values(deployment, details, now)
        to_state = str(deployment.state)
        if execution == "closed" and result != "failure":
            to_state = DeploymentState.CANCELLED
            values["closed_at"] = now
        elif is_final:
            to_state = deployment.state_before_cancel or DeploymentState.OFFERED
            values["state_before_cancel"] = ""
        record_step(
            deployment.pk,
            from_state=deployment.state,
            to_state=to_state,
            kind=DeploymentEvent.Kind.CANCEL_REPORT,
            now=now,
            execution=execution,
            result=result,
            details=details,
            fingerprint=fingerprint,
            values=values,
        )
        if to_state == DeploymentState.CANCELLED:
            _want_attributes(ci)
    return Outcome.ACCEPTED


def note_download(deployment_id: int, *, filename: str, now: datetime) -> None:
    """Notes that the device fetched a whole file; once for each file."""
    with connection.cursor() as cursor:
        cursor.execute(_DOWNLOAD, {"id": deployment_id, "filename": filename, "now": now})


def _locked(ci: ConfigurationItem, action_id: int) -> Deployment | None:
    if ci.channel != ConfigurationItem.Channel.DDI:
        return None
    row = fetch_row(_LOCK, {"id": action_id, "ci": ci.pk})
    return None if row is None else Deployment.from_db(connection.alias, _FIELDS, row)


def _is_too_much(deployment: Deployment, details: Sequence[str]) -> bool:
    return deployment.reports >= MAX_REPORTS or len(details) > MAX_DETAILS


def _shortened(details: Sequence[str]) -> list[str]:
    lines = [line[:MAX_DETAIL] for line in details]
    return lines if len(lines) <= MAX_DETAILS else [lines[0], *lines[1 - MAX_DETAILS :]]


def _report_values(deployment: Deployment, details: Sequence[str], now: datetime) -> dict[str, Any]:
    values: dict[str, Any] = {"reported_at": now, "reports": deployment.reports + 1}
    if details and details[-1]:
        values["message"] = details[-1]
    return values


def _closing_state(ci: ConfigurationItem, result: str) -> str:
    if result == "failure":
        return DeploymentState.FAILED
    profile = ci.agent_profile
    is_proof = profile is not None and profile.proof == AgentProfile.Proof.CLOSED
    return DeploymentState.SUCCEEDED if is_proof else DeploymentState.CONFIRMING


def _failure(details: Sequence[str]) -> dict[str, str]:
    found = _ERROR_CODE.match(details[0]) if details else None
    if found is None:
        return {"error_code": "", "message": details[0] if details else ""}
    return {"error_code": found[1], "message": found[2]}


def _advance(deployment: Deployment, to_state: str, values: dict[str, Any]) -> str:
    """The later one of the two states; while it is being cancelled, that is where it would go back to."""
    if deployment.state == DeploymentState.CANCELLING:
        if _RANK[to_state] > _RANK.get(deployment.state_before_cancel, 0):
            values["state_before_cancel"] = to_state
        return deployment.state
    return to_state if _RANK[to_state] > _RANK.get(deployment.state, 9) else deployment.state


def _want_attributes(ci: ConfigurationItem) -> None:
    ConfigurationItem.objects.filter(pk=ci.pk, attributes_wanted=False).update(attributes_wanted=True)


def _record_items(ci: ConfigurationItem, deployment: Deployment, now: datetime) -> None:
    source = deployment.batch.label
    for item in DeploymentItem.objects.filter(deployment=deployment).select_related("product", "to_version"):
        if item.to_version is None:
            record_removed(ci, product=item.product, now=now, source=source)
        else:
            record_installed(ci, product=item.product, label=item.to_version.label, now=now, source=source)


__all__ = [
    "Action",
    "Outcome",
    "answer_cancel",
    "current_action",
    "find_deployment",
    "note_download",
    "offer",
    "record_attributes",
    "report",
]
