"""What a device may do: ask what to do, take an offer, report, answer a cancel, say what it runs.

Locks are taken in the order batch, deployment, CI, so that devices and the engine never wait for each other
in a circle.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Any

from django.db import connection, transaction

from cmdb.models import AgentProfile, ConfigurationItem
from cmdb.prepared import fetch_row
from cmdb.services import record_installed, record_removed
from distribution.attributes import record_attributes, record_declared
from distribution.models import TERMINAL, Batch, Deployment, DeploymentEvent, DeploymentItem, DeploymentState
from distribution.offers import Action, current_action, is_held, modes, offer
from distribution.steps import record_step
from failpoints import failpoint

# While the device may fetch what it installs.
FETCHABLE = frozenset({"offered", "downloading", "installing", "unknown"})
MAX_DETAILS = 50
MAX_DETAIL = 512
MAX_REPORTS = 1000

_ERROR_CODE = re.compile(r"([a-z_]{1,64}): ?(.*)", re.DOTALL)
_PROGRESS = {"download": "downloading", "downloaded": "installing", "proceeding": "installing"}
_RANK = {"unknown": 0, "offered": 1, "downloading": 2, "installing": 3}

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
_LOCK = f"{_FIND} FOR NO KEY UPDATE OF d"


class Outcome(Enum):
    """How the portal took a device's message."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"  # no such action of this device
    GONE = "gone"  # the action is over
    REFUSED = "refused"  # the action is not being cancelled
    TOO_MANY = "too_many"


def find_deployment(ci: ConfigurationItem, action_id: int) -> Deployment | None:
    """The device's own deployment with this id, with its batch."""
    if ci.channel != ConfigurationItem.Channel.DDI:
        return None
    row = fetch_row(_FIND, {"id": action_id, "ci": ci.pk})
    if row is None:
        return None
    return _read(row)


def _read(row: tuple[Any, ...]) -> Deployment:
    deployment = Deployment.from_db(connection.alias, _FIELDS, row[: len(_FIELDS)])
    deployment.batch = Batch.from_db(connection.alias, _BATCH_FIELDS, row[len(_FIELDS) :])
    return deployment


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
    being cancelled; so does `downloaded` where nothing else is asked. The final report is always taken; others
    up to a number and a size.
    """
    with transaction.atomic():
        deployment = _locked(ci, action_id)
        if deployment is None or deployment.offered_at is None:
            return Outcome.UNKNOWN
        if deployment.closed_at is not None or deployment.state in TERMINAL:
            return Outcome.GONE
        failpoint("report.locked")
        is_download_only = deployment.batch.mode == Batch.Mode.DOWNLOAD_ONLY
        is_final = execution == "closed" or (is_download_only and execution == "downloaded")
        if not is_final and _is_too_much(deployment, details):
            return Outcome.TOO_MANY
        details = _shortened(details)
        values = _report_values(deployment, details, now)
        to_state = deployment.state
        if is_final:
            values["closed_at"] = now
            # Only with `closed` the result counts: agents say `downloaded` with any.
            is_failure = execution == "closed" and result == "failure"
            to_state = _closing_state(ci, is_failure=is_failure, is_download_only=is_download_only)
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
        if is_final and not is_download_only:
            _want_attributes(ci)
            if to_state == DeploymentState.SUCCEEDED:
                _record_items(ci, deployment, now)
        failpoint("report.before_commit")
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
        failpoint("cancel.before_commit")
    return Outcome.ACCEPTED


def fetching(ci_id: int, *, version: int) -> int | None:
    """The id of the deployment under way that brings this version to the CI."""
    rows = Deployment.objects.filter(ci=ci_id, items__to_version=version, state__in=FETCHABLE)
    return rows.values_list("pk", flat=True).first()


def note_download(deployment_id: int, *, filename: str, now: datetime) -> None:
    """Notes that the device fetched a whole file; once for each file."""
    with connection.cursor() as cursor:
        cursor.execute(_DOWNLOAD, {"id": deployment_id, "filename": filename, "now": now})


def _locked(ci: ConfigurationItem, action_id: int) -> Deployment | None:
    if ci.channel != ConfigurationItem.Channel.DDI:
        return None
    row = fetch_row(_LOCK, {"id": action_id, "ci": ci.pk})
    return None if row is None else _read(row)


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


def _closing_state(ci: ConfigurationItem, *, is_failure: bool, is_download_only: bool) -> str:
    if is_failure:
        return DeploymentState.FAILED
    if is_download_only:
        return DeploymentState.SUCCEEDED
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
    "FETCHABLE",
    "Action",
    "Outcome",
    "answer_cancel",
    "current_action",
    "fetching",
    "find_deployment",
    "is_held",
    "modes",
    "note_download",
    "offer",
    "record_attributes",
    "record_declared",
    "report",
]
