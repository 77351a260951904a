"""What becomes of deployments that failed: one more attempt, at once or later, or out. Each is one statement."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from distribution import steps
from distribution.failures import FAILED_BEFORE
from distribution.models import Batch, Deployment, DeploymentEvent, DeploymentState
from distribution.queueing import HOW_MANY, NOBODY, WRITE, write

# A failure that nobody wants to be tried again: no list of error classes names it.
GIVEN_UP = "given_up"

_RETRY = f"""
WITH newest AS (
    SELECT d.id, d.ci_id, d.attempt FROM distribution_deployment d
    WHERE d.batch_id = %(batch)s
        -- What was left out because it had failed before: only when a person wants it.
        AND (d.state = 'failed'
            OR d.state = 'excluded' AND d.error_code = 'failed_before' AND %(codes)s::text[] IS NULL)
        AND (%(cis)s::bigint[] IS NULL OR d.ci_id = ANY(%(cis)s::bigint[]))
        AND (%(codes)s::text[] IS NULL OR d.error_code = ANY(%(codes)s::text[]))
        AND (%(attempts)s::int IS NULL OR d.attempt < %(attempts)s::int)
        AND NOT EXISTS (
            SELECT 1 FROM distribution_deployment later
            WHERE later.batch_id = d.batch_id AND later.ci_id = d.ci_id AND later.attempt > d.attempt)
    ORDER BY d.ci_id LIMIT %(limit)s
), item AS (
    SELECT n.ci_id, n.attempt + 1 AS attempt, i.product_id, i.to_version_id,
        CASE WHEN i.to_version_id IS NULL THEN i.from_version_id ELSE iv.version_id END AS from_version_id,
        i.way_back, i.position,
        CASE WHEN i.to_version_id IS NULL THEN iv.id IS NULL
            ELSE iv.version_id IS NOT DISTINCT FROM i.to_version_id END AS is_there
    FROM newest n
    JOIN distribution_deploymentitem i ON i.deployment_id = n.id
    LEFT JOIN cmdb_installedversion iv
        ON iv.ci_id = n.ci_id AND iv.product_id = i.product_id AND iv.valid_to IS NULL
), {NOBODY}, {WRITE} {HOW_MANY}
"""  # noqa: S608 - put together from constants


def _retry(
    batch: Batch,
    now: datetime,
    *,
    cis: Sequence[int] | None = None,
    codes: Sequence[str] | None = None,
    attempts: int | None = None,
    backoff: int | None = None,
) -> int:
    return write(_RETRY, batch, now, cis=cis, codes=codes, attempts=attempts, backoff=backoff, limit=steps.CHUNK)


def retry_failed(batch: Batch, *, now: datetime, ci_ids: Iterable[int] | None = None) -> int:
    """Writes the next attempt for each CI (of `ci_ids`, else of the batch) whose highest attempt failed, or was left
    out because the same content had failed before; how many.
    """
    cis, written = None if ci_ids is None else list(ci_ids), 0
    while made := _retry(batch, now, cis=cis):
        written += made
    return written


def count_retryable(batch_ids: Iterable[int]) -> int:
    """How many CIs `retry_failed` would give another attempt."""
    later = Deployment.objects.filter(batch=OuterRef("batch"), ci=OuterRef("ci"), attempt__gt=OuterRef("attempt"))
    failed = Q(state=DeploymentState.FAILED) | Q(state=DeploymentState.EXCLUDED, error_code=FAILED_BEFORE)
    return Deployment.objects.filter(failed, ~Exists(later), batch__in=list(batch_ids)).count()


def retry_listed(batch: Batch, *, codes: Iterable[str], attempts: int, backoff_seconds: int, now: datetime) -> int:
    """Writes the next attempt for each CI whose highest attempt failed with one of these error codes; how many, at most
    some thousand.

    At most `attempts` in all. It is offered after `backoff_seconds`, twice as long after each further attempt, and up
    to a fifth later by the CI's id.
    """
    return _retry(batch, now, codes=list(codes), attempts=attempts, backoff=backoff_seconds)


def let_due_go(batch_ids: Iterable[int], *, now: datetime) -> int:
    """Lets further attempts be offered whose time has come; how many, at most some thousand.

    Their offer deadline counts from now.
    """
    waiting = Deployment.objects.filter(state=DeploymentState.QUEUED, not_before__lte=now)
    due = waiting.filter(batch__in=list(batch_ids)).order_by("pk")[: steps.CHUNK]
    return waiting.filter(pk__in=due.values("pk")).update(not_before=None, moved_at=now)


def exclude_waiting(batch_ids: Iterable[int], *, now: datetime, reason: str) -> int:
    """Takes out CIs whose deployment still waits; how many, at most some thousand."""
    return len(_move(DeploymentState.EXCLUDED, "d.batch_id = ANY(%(ids)s)", list(batch_ids), now, reason))


def exclude_after_failure(batch: Batch, *, ci_id: int, now: datetime, reason: str) -> bool:
    """Takes a CI out whose highest attempt failed: a further attempt, excluded at once. False: none had failed."""
    with transaction.atomic():
        if not _retry(batch, now, cis=[ci_id]):
            return False
        _move(
            DeploymentState.EXCLUDED, "d.ci_id = %(ids)s AND d.batch_id = %(batch)s", ci_id, now, reason, batch=batch.pk
        )
        return True


def give_up(deployment_id: int, *, now: datetime, reason: str) -> bool:
    """Ends an attempt that waits for its time as failed, for good. False: it does not wait any more."""
    more = {"error_code": "%(given_up)s", "message": "%(reason)s"}
    values = {"given_up": GIVEN_UP}
    return bool(_move(DeploymentState.FAILED, "d.id = %(ids)s", deployment_id, now, reason, more, **values))


def _move(
    to_state: str,
    where: str,
    ids: object,
    now: datetime,
    reason: str,
    more: dict[str, str] | None = None,
    **values: object,
) -> list[int]:
    return steps.move_where(
        where,
        {"ids": ids, "reason": reason[:200], **values},
        to_state=to_state,
        kind=DeploymentEvent.Kind.ENGINE,
        now=now,
        details=[reason],
        assignments={"reason": "%(reason)s", **(more or {})},
        sources=[DeploymentState.QUEUED],
    )
