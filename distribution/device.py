"""What a device may do: ask what to do, take an offer, report, answer a cancel, say what it runs.

Locks are taken in the order batch, deployment, CI, so that devices and the engine never wait for each other
in a circle.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from django.db import IntegrityError, connection, transaction

from cmdb.models import AgentProfile, ConfigurationItem
from cmdb.prepared import at_once, columns_of, fetch_row
from cmdb.services import Beside, record_installed, record_removed
from distribution.attributes import record_attributes, record_declared
from distribution.attributes_at_once import beside_attributes
from distribution.effects import ASK_FOR_ATTRIBUTES, replace_installed
from distribution.files import beside_file, find_file, note_download
from distribution.models import TERMINAL, Batch, Deployment, DeploymentEvent, DeploymentItem, DeploymentState
from distribution.offers import IS_FREE, Action, beside_action, current_action, is_held, modes, offer, signed
from distribution.packages import contents, read_items
from distribution.steps import Effect, record_step
from failpoints import failpoint

# While the device may fetch what it installs.
FETCHABLE = frozenset({"offered", "downloading", "installing", "unknown"})
MAX_DETAILS = 50
MAX_DETAIL = 512
MAX_REPORTS = 1000

_ERROR_CODE = re.compile(r"([a-z_]{1,64}): ?(.*)", re.DOTALL)
_PROGRESS = {"download": "downloading", "downloaded": "installing", "proceeding": "installing"}
_RANK = {"unknown": 0, "offered": 1, "downloading": 2, "installing": 3}

# What a device's request uses; the rest is read when it is asked for.
_FIELDS = columns_of(
    Deployment,
    "id", "batch_id", "ci_id", "state", "state_before_cancel", "offered_at", "closed_at", "error_code", "message",
    "reports",
)  # fmt: skip
_BATCH_FIELDS = columns_of(Batch, "id", "label", "purpose", "mode", "force_after", "opened_at", "ignores_windows")
_FIND = f"""
SELECT {", ".join(f"d.{name}" for name in _FIELDS)}, {", ".join(f"b.{name}" for name in _BATCH_FIELDS)}
FROM distribution_deployment d JOIN distribution_batch b ON b.id = d.batch_id WHERE d.id = %(id)s AND d.ci_id = %(ci)s
"""  # noqa: S608 - put together from constants
_LOCK = f"{_FIND} FOR NO KEY UPDATE OF d"
_ITEMS_AT = len(_FIELDS) + len(_BATCH_FIELDS)
_BESIDE = ", ".join([*(f"d.{name}" for name in _FIELDS), *(f"b.{name}" for name in _BATCH_FIELDS)])
_JOINS = """
LEFT JOIN distribution_deployment d ON d.id = %(action)s AND d.ci_id = ci.id AND ci.channel = 'ddi'
LEFT JOIN distribution_batch b ON b.id = d.batch_id
"""
# Together with the state and `closed_at`: whatever happens to a deployment changes one of these.
_AS_READ = ("reports", "state_before_cancel", "closed_at")


class Outcome(Enum):
    """How the portal took a device's message."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"  # no such action of this device
    GONE = "gone"  # the action is over
    REFUSED = "refused"  # the action is not being cancelled
    TOO_MANY = "too_many"


def beside_deployment(action_id: int, *, with_items: bool = False) -> Beside:
    """What `find_deployment` needs, for the statement that finds the CI; with what the deployment consists of, and
    whether it could be offered.
    """
    columns = f"{_BESIDE}, {contents('d')}, {IS_FREE}" if with_items else _BESIDE
    return Beside(("deployment", action_id), columns, _JOINS, {"action": action_id, **signed()})


def find_deployment(ci: ConfigurationItem, action_id: int) -> Deployment | None:
    """The device's own deployment with this id, with its batch. No query, if it was read beside the CI."""
    if ci.channel != ConfigurationItem.Channel.DDI:
        return None
    row = ci.take_beside(("deployment", action_id)) or fetch_row(_FIND, {"id": action_id, "ci": ci.pk})
    return _read(row) if row is not None and row[0] is not None else None


def _read(row: tuple[Any, ...]) -> Deployment:
    deployment = Deployment.from_db(connection.alias, _FIELDS, row[: len(_FIELDS)])
    batch, more = row[len(_FIELDS) : _ITEMS_AT], row[_ITEMS_AT:]
    deployment.batch = Batch.from_db(connection.alias, _BATCH_FIELDS, batch)
    if more:
        items, deployment.is_free = more
        deployment.items_read = read_items(items)
    return deployment


@dataclass(frozen=True, slots=True)
class _Message:
    execution: str
    result: str
    details: Sequence[str]
    now: datetime
    fingerprint: str = ""


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
    return _taken(_take_report, ci, action_id, _Message(execution, result, details, now, fingerprint))


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
    return _taken(_take_answer, ci, action_id, _Message(execution, result, details, now, fingerprint))


def fetching(ci_id: int, *, version: int) -> int | None:
    """The id of the deployment under way that brings this version to the CI."""
    rows = Deployment.objects.filter(ci=ci_id, items__to_version=version, state__in=FETCHABLE)
    return rows.values_list("pk", flat=True).first()


def _taken(take: Callable[..., Outcome | None], ci: ConfigurationItem, action_id: int, message: _Message) -> Outcome:
    """Decides by what was read and writes in one statement, if that is still so; else reads again and holds it."""
    outcome = take(ci, find_deployment(ci, action_id), message, is_locked=False)
    if outcome is None:
        with transaction.atomic():
            outcome = take(ci, _locked(ci, action_id), message, is_locked=True)
    assert outcome is not None
    return outcome


def _take_report(
    ci: ConfigurationItem, deployment: Deployment | None, message: _Message, *, is_locked: bool
) -> Outcome | None:
    """None: it was not as it was read any more, or there is more to write than one statement can."""
    if deployment is None or deployment.offered_at is None:
        return Outcome.UNKNOWN
    if deployment.closed_at is not None or deployment.state in TERMINAL:
        return Outcome.GONE
    execution = message.execution
    is_download_only = deployment.batch.mode == Batch.Mode.DOWNLOAD_ONLY
    is_final = execution == "closed" or (is_download_only and execution == "downloaded")
    if not is_final and _is_too_much(deployment, message.details):
        return Outcome.TOO_MANY
    details = _shortened(message.details)
    values = _report_values(deployment, details, message.now)
    to_state = str(deployment.state)
    if is_final:
        values["closed_at"] = message.now
        # Only with `closed` the result counts: agents say `downloaded` with any.
        is_failure = execution == "closed" and message.result == "failure"
        to_state = _closing_state(ci, is_failure=is_failure, is_download_only=is_download_only)
        if to_state == DeploymentState.FAILED:
            values |= _failure(details)
    elif execution in _PROGRESS:
        to_state = _advance(deployment, _PROGRESS[execution], values)
    effect = None
    is_installed = to_state == DeploymentState.SUCCEEDED and not is_download_only
    if is_installed and not is_locked:
        effect = replace_installed(ci_id=ci.pk, source=deployment.batch.label)
    elif is_final and not is_download_only:
        effect = ASK_FOR_ATTRIBUTES
    kind = DeploymentEvent.Kind.REPORT
    failpoint("report.decided")
    if not _recorded(deployment, kind, to_state, message, details, values, effect):
        return None
    if is_installed and is_locked:
        _record_items(ci, deployment, message.now)
    return Outcome.ACCEPTED


def _take_answer(
    ci: ConfigurationItem, deployment: Deployment | None, message: _Message, *, is_locked: bool
) -> Outcome | None:
    """None: it was not as it was read any more."""
    if deployment is None or deployment.offered_at is None:
        return Outcome.UNKNOWN
    if deployment.state == DeploymentState.CANCELLED:
        return Outcome.GONE
    if deployment.state != DeploymentState.CANCELLING:
        return Outcome.REFUSED
    is_final = message.execution in {"closed", "rejected"}
    if not is_final and _is_too_much(deployment, message.details):
        return Outcome.TOO_MANY
    details = _shortened(message.details)
    values = _report_values(deployment, details, message.now)
    to_state, effect = str(deployment.state), None
    if message.execution == "closed" and message.result != "failure":
        to_state, effect = DeploymentState.CANCELLED, ASK_FOR_ATTRIBUTES
        values["closed_at"] = message.now
    elif is_final:
        to_state = deployment.state_before_cancel or DeploymentState.OFFERED
        values["state_before_cancel"] = ""
    kind = DeploymentEvent.Kind.CANCEL_REPORT
    failpoint("cancel.decided")
    return Outcome.ACCEPTED if _recorded(deployment, kind, to_state, message, details, values, effect) else None


def _recorded(
    deployment: Deployment,
    kind: str,
    to_state: str,
    message: _Message,
    details: Sequence[str],
    values: Mapping[str, Any],
    effect: Effect | None,
) -> bool:
    """One event and the step; False: the deployment is not as it was read."""
    try:
        with at_once():
            return record_step(
                deployment.pk,
                from_state=deployment.state,
                to_state=to_state,
                kind=kind,
                now=message.now,
                execution=message.execution,
                result=message.result,
                details=details,
                fingerprint=message.fingerprint,
                values=values,
                as_read={name: getattr(deployment, name) for name in _AS_READ},
                effect=effect,
            )
    except IntegrityError:
        # What the CI runs was changed at the same moment.
        return False


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
    """Always the same columns, so that the statement is always the same."""
    return {
        "reported_at": now,
        "reports": deployment.reports + 1,
        "message": (details[-1] if details else "") or deployment.message,
        "error_code": deployment.error_code,
        "closed_at": deployment.closed_at,
        "state_before_cancel": deployment.state_before_cancel,
    }


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
    "beside_action",
    "beside_attributes",
    "beside_deployment",
    "beside_file",
    "current_action",
    "fetching",
    "find_deployment",
    "find_file",
    "is_held",
    "modes",
    "note_download",
    "offer",
    "record_attributes",
    "record_declared",
    "report",
]
