"""What the rollout engine asks of the distribution system: batches, and deployments moved in sets.

Every function may be repeated: rows that are where they should be stay untouched. None of them asks for a
right; the verbs above do.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils.translation import gettext as _

from cmdb.models import ConfigurationItem
from distribution.counting import Counts, counts, ended, last_event_position
from distribution.failures import exclude_failed
from distribution.models import LIVE, OPEN, Batch, Deployment, DeploymentEvent, DeploymentState
from distribution.queueing import count_changed, queue_deployments, queue_rollback
from distribution.retrying import (
    count_retryable,
    exclude_after_failure,
    exclude_waiting,
    give_up,
    let_due_go,
    retry_failed,
    retry_listed,
)
from distribution.steps import CHUNK, move_where
from distribution.superseding import (
    displaced_by,
    supersede_left_behind,
    supersede_older,
    supersede_overtaken,
    waits_behind,
)
from distribution.windows import had_its_window
from tickets.exceptions import TransitionRefused

_CANCELLABLE = (DeploymentState.OFFERED, DeploymentState.DOWNLOADING, DeploymentState.INSTALLING)
# Polls are recorded in steps of so many seconds, and a little late: a CI is not silent for that.
SEEN_STEP_SECONDS = 30
_SEEN_DELAY_SECONDS = 10


_OVERDUE = f"""
WITH batch AS MATERIALIZED (
    SELECT b.*, EXISTS (
        SELECT 1 FROM distribution_deployment other WHERE other.batch_id = b.id AND other.state = ANY(%(states)s)
            AND other.moved_at > %(now)s - make_interval(secs => b.offer_deadline)) AS has_moved
    FROM distribution_batch b WHERE b.id = ANY(%(batches)s)
), due AS (
    SELECT d.id, d.moved_at FROM batch b
    JOIN distribution_deployment d ON d.batch_id = b.id AND d.state = 'queued'
        AND d.moved_at <= %(now)s - make_interval(secs => b.offer_deadline)
    JOIN cmdb_configurationitem ci ON ci.id = d.ci_id
    WHERE b.is_open AND d.overdue_at IS NULL
        AND greatest(b.opened_at, d.not_before) <= %(now)s - make_interval(secs => b.offer_deadline)
        -- It waits for its turn on the CI, not for the CI.
        AND NOT EXISTS (
            SELECT 1 FROM distribution_deployment other
            WHERE other.ci_id = d.ci_id AND other.state = ANY(%(live)s) AND other.overdue_at IS NULL)
        -- It waits for room under the cap while the CI asks and others move; a host without an agent never asks.
        AND (NOT b.has_moved
            OR ci.channel = 'ddi' AND (b.max_in_flight IS NULL AND b.max_downloads IS NULL
                OR ci.last_seen_at IS NULL
                OR ci.last_seen_at <= %(now)s - make_interval(secs => b.offer_deadline + %(seen_step)s)))
        AND {had_its_window("greatest(b.opened_at, d.moved_at, d.not_before)", "b.offer_deadline")}
    UNION
    SELECT d.id, d.moved_at FROM batch b
    JOIN distribution_deployment d ON d.batch_id = b.id
        AND d.state IN ('offered', 'downloading', 'installing', 'cancelling', 'unknown')
        AND d.moved_at <= %(now)s - make_interval(secs => b.progress_deadline)
    WHERE d.overdue_at IS NULL
        AND (d.state IN ('cancelling', 'unknown') OR {had_its_window("d.moved_at", "b.progress_deadline")})
    UNION
    -- Since its device closed it.
    SELECT d.id, d.moved_at FROM batch b
    JOIN distribution_deployment d ON d.batch_id = b.id AND d.state = 'confirming'
        AND d.moved_at <= %(now)s - make_interval(secs => b.confirm_deadline)
    WHERE d.overdue_at IS NULL
    UNION
    -- Whatever it waits for: turn, room, window or device.
    SELECT d.id, d.moved_at FROM batch b
    JOIN distribution_deployment d ON d.batch_id = b.id AND d.state = ANY(%(open)s)
    WHERE b.total_deadline IS NOT NULL AND d.overdue_at IS NULL AND (b.is_open OR d.state <> 'queued')
        AND coalesce(b.opened_at <= %(now)s - make_interval(secs => b.total_deadline), true)
        AND d.created_at <= %(now)s - make_interval(secs => b.total_deadline)
), picked AS (
    -- One that has moved since it was looked at is left alone.
    SELECT d.id, d.state FROM distribution_deployment d JOIN due ON due.id = d.id AND due.moved_at = d.moved_at
    WHERE d.overdue_at IS NULL AND d.finished_at IS NULL
    ORDER BY d.id LIMIT %(limit)s FOR UPDATE OF d
), moved AS (
    UPDATE distribution_deployment d SET overdue_at = %(now)s FROM picked WHERE d.id = picked.id
    RETURNING d.id, d.state
)
INSERT INTO distribution_deploymentevent
    (deployment_id, kind, from_state, to_state, at, execution, result, details, is_duplicate)
SELECT id, 'engine', state, state, %(now)s, '', '', '["overdue"]'::jsonb, false FROM moved ORDER BY id
"""  # noqa: S608 - put together from constants
_CANCEL_UNKNOWN = """
WITH noted AS (
    UPDATE distribution_deployment d SET reason = %(reason)s
    WHERE d.batch_id = ANY(%(batches)s) AND d.state = 'unknown' AND d.reason = '' RETURNING d.id
)
INSERT INTO distribution_deploymentevent
    (deployment_id, kind, from_state, to_state, at, execution, result, details, is_duplicate)
SELECT id, 'engine', 'unknown', 'unknown', %(now)s, '', '', jsonb_build_array(%(reason)s::text), false
FROM noted ORDER BY id
"""
# As an array, so that it is found once: a moment ago a whole fleet may have been asked to stop, and PostgreSQL still
# believes that hardly anybody was. Compared row by row, 50,000 took longer than a statement may.
_QUIT = f"""
d.id = ANY(ARRAY(
    SELECT c.id FROM distribution_batch b JOIN distribution_deployment c ON c.batch_id = b.id
        AND c.state = 'cancelling' AND c.moved_at <= %(now)s - make_interval(secs => b.cancel_deadline)
    WHERE b.id = ANY(%(batches)s) ORDER BY c.id LIMIT {CHUNK}))
"""  # noqa: S608 - put together from constants


def create_batch(
    *,
    label: str,
    purpose: str,
    now: datetime,
    weight: int = 500,
    max_in_flight: int | None = None,
    max_downloads: int | None = None,
    offer_deadline: int | None = None,
    progress_deadline: int | None = None,
    confirm_deadline: int | None = None,
    total_deadline: int | None = None,
    cancel_deadline: int | None = None,
    mode: str = Batch.Mode.FORCED,
    force_after: int | None = None,
    ignores_windows: bool = False,
) -> Batch:
    """A new closed batch; deadlines in seconds, None: never overdue. `label` says in plain text who asked.

    What is only downloaded is offered to agents that know “skip”, and counts as succeeded without being installed.
    """
    return Batch.objects.create(
        label=label,
        purpose=purpose,
        weight=weight,
        max_in_flight=max_in_flight,
        max_downloads=max_downloads,
        offer_deadline=offer_deadline,
        progress_deadline=progress_deadline,
        confirm_deadline=confirm_deadline,
        total_deadline=total_deadline,
        cancel_deadline=cancel_deadline,
        mode=mode,
        force_after=force_after,
        ignores_windows=ignores_windows,
        versions=[],
        created_at=now,
    )


def open_batch(batch: Batch, *, now: datetime) -> bool:
    """Lets devices fetch the batch's deployments; the time to the offer deadline begins anew. False: was
    open.
    """
    changed = Batch.objects.filter(pk=batch.pk, is_open=False).update(is_open=True, opened_at=now)
    if changed:
        batch.is_open, batch.opened_at = True, now
    return bool(changed)


def close_batch(batch: Batch) -> bool:
    """Offers nothing more; what is under way goes on. False: was closed.

    Waits for offers that are being written: after the commit none will be.
    """
    changed = Batch.objects.filter(pk=batch.pk, is_open=True).update(is_open=False)
    batch.is_open = False
    return bool(changed)


def cancel_open(batch_ids: Iterable[int], *, now: datetime, reason: str) -> tuple[int, int]:
    """Cancels what is not offered yet and asks devices to stop what they have not closed; how many of each.

    What the device has closed and not yet confirmed is left alone. Of a host that nobody knows the state of, the wish
    is noted: it is cancelled when a probe has found that it does not run the version.
    """
    batches = list(batch_ids)
    with transaction.atomic():
        cancelled, cancelling = _cancel("d.batch_id = ANY(%(batches)s)", {"batches": batches}, reason, now)
        with connection.cursor() as cursor:
            cursor.execute(_CANCEL_UNKNOWN, {"batches": batches, "reason": reason[:200], "now": now})
    return len(cancelled), len(cancelling)


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
        cancelled = move_where(
            where,
            params,
            to_state=DeploymentState.CANCELLED,
            assignments={"reason": "%(reason)s"},
            sources=[DeploymentState.QUEUED],
            **common,
        )
        cancelling = move_where(
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
    """Closes the cancellations that their devices did not answer until the deadline of their batch; how many."""
    reason = _("The device did not answer the cancellation in time.")
    return len(_quit(_QUIT, {"batches": list(batch_ids)}, reason, now))


def _quit(where: str, params: dict[str, Any], reason: str, now: datetime) -> list[int]:
    with transaction.atomic():
        quitted = move_where(
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


def exclude_deployment(deployment: Deployment, *, now: datetime, reason: str) -> bool:
    """Takes a CI out before its device has begun. False: excluded already.

    Refuses with `TransitionRefused` once the device has reported on it.
    """
    moved = move_where(
        "d.id = %(id)s",
        {"id": deployment.pk, "reason": reason[:200]},
        to_state=DeploymentState.EXCLUDED,
        kind=DeploymentEvent.Kind.ENGINE,
        now=now,
        details=[reason],
        assignments={"reason": "%(reason)s"},
    )
    deployment.refresh_from_db()
    if not moved and deployment.state != DeploymentState.EXCLUDED:
        raise TransitionRefused(
            _(
                "The deployment is “%(state)s”: its CI can be excluded only before its device begins. "
                "Pause the rollout and cancel, or roll the CI back afterwards."
            )
            % {"state": deployment.get_state_display()}
        )
    return bool(moved)


def mark_overdue(batch_ids: Iterable[int], *, now: datetime) -> int:
    """Marks open deployments that passed a deadline of their batch; they stay open for catch-up. How many
    were new.

    Not offered: counted since the batch was opened, unless the CI is busy with another deployment, or asks
    while the cap has no room. Under way: since the last change of state, so a device that reports the same
    for ever is overdue. Closed but not confirmed: since it was closed. In all: since the batch was opened, whatever it
    waits for.
    """
    marked = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(
                _OVERDUE,
                {
                    "batches": list(batch_ids),
                    "now": now,
                    "limit": CHUNK,
                    "live": [str(state) for state in LIVE],
                    "open": [str(state) for state in OPEN],
                    "states": list(DeploymentState.values),
                    "seen_step": SEEN_STEP_SECONDS + _SEEN_DELAY_SECONDS,
                },
            )
            marked += cursor.rowcount
            if cursor.rowcount < CHUNK:
                return marked


def pass_deadlines(batch_ids: Iterable[int], *, now: datetime) -> int:
    """What ends or marks open deployments without their devices: cancellations that nobody answered are closed, what
    the CI has left behind is superseded, what failed there meanwhile is left out, others become overdue. How many.
    """
    ids = list(batch_ids)
    ended = quit_cancellations(ids, now=now) + supersede_overtaken(ids, now=now) + exclude_failed(ids, now=now)
    return ended + mark_overdue(ids, now=now)


__all__ = [
    "Counts",
    "cancel",
    "cancel_open",
    "close_batch",
    "count_changed",
    "count_retryable",
    "counts",
    "create_batch",
    "displaced_by",
    "ended",
    "exclude_after_failure",
    "exclude_deployment",
    "exclude_failed",
    "exclude_waiting",
    "force_quit",
    "give_up",
    "last_event_position",
    "let_due_go",
    "mark_overdue",
    "open_batch",
    "pass_deadlines",
    "queue_deployments",
    "queue_rollback",
    "quit_cancellations",
    "retry_failed",
    "retry_listed",
    "supersede_left_behind",
    "supersede_older",
    "supersede_overtaken",
    "waits_behind",
]
