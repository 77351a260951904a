"""What the rollout engine asks of the distribution system: batches, and deployments moved in sets.

Every function may be repeated: rows that are where they should be stay untouched. None of them asks for a
right; the verbs above do.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from django.utils.translation import gettext as _

from distribution import steps
from distribution.cancelling import cancel, cancel_open, cancel_rest, force_quit, quit_cancellations
from distribution.counting import Counts, counts, ended, has_open, log_position, under_way
from distribution.failures import exclude_failed
from distribution.models import Batch, Deployment, DeploymentEvent, DeploymentState
from distribution.overdue import mark_overdue
from distribution.queueing import (
    count_changed,
    queue_deployments,
    queue_rollback,
    seen_for_rollback,
)
from distribution.retrying import (
    count_retryable,
    exclude_after_failure,
    exclude_waiting,
    give_up,
    let_due_go,
    retry_failed,
    retry_listed,
)
from distribution.superseding import (
    displaced_by,
    supersede_left_behind,
    supersede_older,
    supersede_overtaken,
    waits_behind,
)
from tickets.exceptions import TransitionRefused


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


def exclude_deployment(deployment: Deployment, *, now: datetime, reason: str) -> bool:
    """Takes a CI out before its device has begun. False: excluded already.

    Refuses with `TransitionRefused` once the device has reported on it.
    """
    moved = steps.move_where(
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


def pass_deadlines(batch_ids: Iterable[int], *, now: datetime) -> int:
    """What ends or marks open deployments without their devices: cancellations that nobody answered are closed, what
    the CI has left behind is superseded, what failed there meanwhile is left out, others become overdue. How many, at
    most some thousand.
    """
    return _some(batch_ids, now, quit_cancellations, supersede_overtaken, exclude_failed, mark_overdue)


def end_stragglers(batch_ids: Iterable[int], *, now: datetime) -> int:
    """What ends open deployments of a rollout that is over: cancellations that nobody answered are closed, what a newer
    version or a newer rollout has reached is superseded, what failed there meanwhile is left out. How many, at most
    some thousand.
    """
    return _some(batch_ids, now, quit_cancellations, supersede_overtaken, supersede_left_behind, exclude_failed)


def _some(batch_ids: Iterable[int], now: datetime, *parts: Callable[..., int]) -> int:
    """One after the other, until a chunk is full; the next step does the others."""
    ids, moved = list(batch_ids), 0
    for part in parts:
        if moved < steps.CHUNK:
            moved += part(ids, now=now)
    return moved


__all__ = [
    "Counts",
    "cancel",
    "cancel_open",
    "cancel_rest",
    "close_batch",
    "count_changed",
    "count_retryable",
    "counts",
    "create_batch",
    "displaced_by",
    "end_stragglers",
    "ended",
    "exclude_after_failure",
    "exclude_deployment",
    "exclude_failed",
    "exclude_waiting",
    "force_quit",
    "give_up",
    "has_open",
    "let_due_go",
    "log_position",
    "mark_overdue",
    "open_batch",
    "pass_deadlines",
    "queue_deployments",
    "queue_rollback",
    "quit_cancellations",
    "retry_failed",
    "retry_listed",
    "seen_for_rollback",
    "supersede_left_behind",
    "supersede_older",
    "supersede_overtaken",
    "under_way",
    "waits_behind",
]
