"""Cancellations: what waits ends at once, what has begun is asked to stop, and closed when its device does not answer.

Whole batches are cancelled in chunks. The order is a mark on the batch: the CI up to which it was carried out.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils.translation import gettext as _

from accounts import language
from cmdb.models import ConfigurationItem
from distribution import steps
from distribution.models import Batch, Deployment, DeploymentEvent, DeploymentState
from tickets.exceptions import TransitionRefused

_CANCELLABLE = (DeploymentState.OFFERED, DeploymentState.DOWNLOADING, DeploymentState.INSTALLING)

# The next ones of each batch, in the order of an index; then the first of them all.
_NEXT = """
SELECT b.id, b.cancel_reason, d.ci_id, d.id FROM distribution_batch b
LEFT JOIN LATERAL (
    SELECT d.id, d.ci_id FROM distribution_deployment d
    WHERE d.batch_id = b.id AND d.ci_id > b.cancel_mark
        AND d.state IN ('queued', 'offered', 'downloading', 'installing', 'unknown')
    ORDER BY d.ci_id LIMIT %(limit)s
) d ON true
WHERE b.id = ANY(%(batches)s) AND b.cancel_mark IS NOT NULL
ORDER BY b.id, d.ci_id LIMIT %(limit)s
"""
_CANCEL_UNKNOWN = """
WITH noted AS (
    UPDATE distribution_deployment d SET reason = %(reason)s
    WHERE d.id = ANY(%(ids)s) AND d.state = 'unknown' AND d.reason = '' RETURNING d.id
)
INSERT INTO distribution_deploymentevent
    (deployment_id, kind, from_state, to_state, at, execution, result, details, is_duplicate)
SELECT id, 'engine', 'unknown', 'unknown', %(now)s, '', '', jsonb_build_array(%(reason)s::text), false
FROM noted ORDER BY id
"""
# By the index: a whole fleet may have been asked to stop a moment ago, which PostgreSQL does not know yet.
_UNANSWERED = """
SELECT late.id FROM distribution_batch b CROSS JOIN LATERAL (
    SELECT c.id FROM distribution_deployment c WHERE c.batch_id = b.id AND c.state = 'cancelling'
        AND c.moved_at <= %(now)s - make_interval(secs => b.cancel_deadline)
    ORDER BY c.moved_at LIMIT %(limit)s) late
WHERE b.id = ANY(%(batches)s) LIMIT %(limit)s
"""


def cancel_open(batch_ids: Iterable[int], *, now: datetime, reason: str) -> tuple[int, int]:
    """Cancels what is not offered yet and asks devices to stop what they have not closed; how many of each by now.

    At most some thousand at once; `cancel_rest` goes on. Close the batches before, so that nothing is offered
    meanwhile. What the device has closed and not yet confirmed is left alone. Of a host that nobody knows the state of,
    the wish is noted: it is cancelled when a probe has found that it does not run the version.
    """
    batches = list(batch_ids)
    with transaction.atomic():
        Batch.objects.filter(pk__in=batches).update(cancel_mark=0, cancel_reason=reason[:200])
        return _go_on(batches, now) or (0, 0)


def cancel_rest(batch_ids: Iterable[int], *, now: datetime) -> bool:
    """Goes on with what `cancel_open` has ordered, by some thousand. False: it was done already.

    Whose device refuses to stop is not asked again.
    """
    with transaction.atomic():
        return _go_on(list(batch_ids), now) is not None


def _go_on(batches: list[int], now: datetime) -> tuple[int, int] | None:
    """How many were cancelled, and asked to stop; None: none of the batches is being cancelled."""
    with connection.cursor() as cursor:
        cursor.execute(_NEXT, {"batches": batches, "limit": steps.CHUNK})
        rows = cursor.fetchall()
    if not rows:
        return None
    cancelled = asked = 0
    for reason in dict.fromkeys(row[1] for row in rows):
        ids = [row[3] for row in rows if row[1] == reason and row[3] is not None]
        moved = _cancel("d.id = ANY(%(ids)s)", {"ids": ids}, reason, now)
        cancelled, asked = cancelled + len(moved[0]), asked + len(moved[1])
        with connection.cursor() as cursor:
            cursor.execute(_CANCEL_UNKNOWN, {"ids": ids, "reason": reason, "now": now})
    through = Batch.objects.filter(pk__in=batches, cancel_mark__isnull=False)
    if len(rows) == steps.CHUNK:
        batch, _reason, ci, _id = rows[-1]
        through = through.filter(pk__lt=batch)
        Batch.objects.filter(pk=batch).update(cancel_mark=ci)
    through.update(cancel_mark=None, cancel_reason="")
    return cancelled, asked


def cancel(deployment: Deployment, *, now: datetime, reason: str) -> bool:
    """Cancels what waits, asks the device to stop what it has begun. False: it was asked, or cancelled, already.

    Refuses with `TransitionRefused` what the device has closed or what has ended.
    """
    cancelled, cancelling = _cancel("d.id = %(id)s", {"id": deployment.pk}, reason, now)
    deployment.refresh_from_db()
    is_moved = bool(cancelled or cancelling)
    if not is_moved and deployment.state not in (DeploymentState.CANCELLING, DeploymentState.CANCELLED):
        raise TransitionRefused(
            _("The deployment is “%(state)s”; it cannot be cancelled any more.")
            % {"state": deployment.get_state_display()}
        )
    return is_moved


def _cancel(where: str, params: dict[str, Any], reason: str, now: datetime) -> tuple[list[int], list[int]]:
    """The deployments that were cancelled, and those whose devices are asked to stop."""
    common: dict[str, Any] = {"kind": DeploymentEvent.Kind.ENGINE, "now": now, "details": [reason]}
    params = {**params, "reason": reason[:200]}
    with transaction.atomic(savepoint=False):
        cancelled = steps.move_where(
            where,
            params,
            to_state=DeploymentState.CANCELLED,
            assignments={"reason": "%(reason)s"},
            sources=[DeploymentState.QUEUED],
            **common,
        )
        cancelling = steps.move_where(
            where,
            params,
            to_state=DeploymentState.CANCELLING,
            assignments={"reason": "%(reason)s", "state_before_cancel": "picked.state"},
            sources=_CANCELLABLE,
            **common,
        )
    return cancelled, cancelling


def force_quit(deployment: Deployment, *, now: datetime, reason: str) -> bool:
    """Closes a cancellation without its device. False: it is cancelled already.

    Refuses with `TransitionRefused` what was not cancelled before: the device is asked first.
    """
    quitted = _quit("d.id = %(id)s", {"id": deployment.pk}, reason, now)
    deployment.refresh_from_db()
    if not quitted and deployment.state != DeploymentState.CANCELLED:
        raise TransitionRefused(
            _("The deployment is “%(state)s”: cancel it first, so that its device may answer.")
            % {"state": deployment.get_state_display()}
        )
    return bool(quitted)


def quit_cancellations(batch_ids: Iterable[int], *, now: datetime) -> int:
    """Closes the cancellations that their devices did not answer until the deadline of their batch; how many, at most
    some thousand.
    """
    with connection.cursor() as cursor:
        cursor.execute(_UNANSWERED, {"batches": list(batch_ids), "limit": steps.CHUNK, "now": now})
        late = [row[0] for row in cursor.fetchall()]
    reason = language.gettext("The device did not answer the cancellation in time.")
    return len(_quit("d.id = ANY(%(late)s)", {"late": late}, reason, now)) if late else 0


def _quit(where: str, params: dict[str, Any], reason: str, now: datetime) -> list[int]:
    with transaction.atomic():
        quitted = steps.move_where(
            where,
            {**params, "reason": reason[:200]},
            to_state=DeploymentState.CANCELLED,
            kind=DeploymentEvent.Kind.ENGINE,
            now=now,
            details=[reason],
            assignments={"reason": "%(reason)s"},
            sources=[DeploymentState.CANCELLING],
        )
        if quitted:
            # Nobody knows how far it came: the device is to say what it runs.
            cis = ConfigurationItem.objects.filter(deployments__in=quitted, attributes_wanted=False).order_by("pk")
            locked = list(cis.select_for_update(no_key=True, of=("self",)).values_list("pk", flat=True))
            ConfigurationItem.objects.filter(pk__in=locked).update(attributes_wanted=True)
    return quitted
