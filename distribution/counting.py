"""How far batches are: one aggregate over the highest attempt per CI. Nothing of it is kept: what a decision sees was
counted for it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Max

from distribution.models import LIVE, OPEN, TERMINAL, Deployment, DeploymentEvent, DeploymentState

# All of them by the index; less those that have a further attempt, and the overdue ones beside it: both are few, and
# have indexes of their own. An earlier attempt has ended, so it is not overdue.
_COUNTS = """
SELECT batch_id, state, sum(number)::int, sum(overdue)::int FROM (
    SELECT batch_id, state, count(*) AS number, 0 AS overdue
    FROM distribution_deployment WHERE batch_id = ANY(%(batches)s) GROUP BY batch_id, state
    UNION ALL
    SELECT batch_id, state, -count(*), 0 FROM (
        SELECT DISTINCT d.id, d.batch_id, d.state
        FROM distribution_deployment later JOIN distribution_deployment d
            ON d.batch_id = later.batch_id AND d.ci_id = later.ci_id AND d.attempt < later.attempt
        WHERE later.batch_id = ANY(%(batches)s) AND later.attempt > 1
    ) earlier GROUP BY batch_id, state
    UNION ALL
    SELECT batch_id, state, 0, count(*)
    FROM distribution_deployment
    WHERE batch_id = ANY(%(batches)s) AND overdue_at IS NOT NULL AND finished_at IS NULL GROUP BY batch_id, state
) parts
GROUP BY batch_id, state
"""
# Both by an index alone.
_UNDER_WAY = """
SELECT (SELECT count(*) FROM distribution_deployment WHERE batch_id = ANY(%(batches)s) AND state = ANY(%(open)s))
    - (SELECT count(*) FROM distribution_deployment
        WHERE batch_id = ANY(%(batches)s) AND overdue_at IS NOT NULL AND finished_at IS NULL)
"""
# By the index, state by state: whatever PostgreSQL believes, at the end hardly any are open.
_HAS_OPEN = """
SELECT EXISTS (
    SELECT 1 FROM unnest(%(batches)s::bigint[]) AS b(id) CROSS JOIN unnest(%(open)s::text[]) AS s(state)
    CROSS JOIN LATERAL (
        SELECT 1 FROM distribution_deployment d WHERE d.batch_id = b.id AND d.state = s.state
        ORDER BY d.moved_at LIMIT 1) one)
"""
# For each state of each batch one look at the end of its part of the index.
_NEWEST_MOVES = """
SELECT b.id, s.state, newest.moved_at
FROM unnest(%(batches)s::bigint[]) AS b(id) CROSS JOIN unnest(%(states)s::text[]) AS s(state)
CROSS JOIN LATERAL (
    SELECT d.moved_at FROM distribution_deployment d WHERE d.batch_id = b.id AND d.state = s.state
    ORDER BY d.moved_at DESC LIMIT 1) newest
ORDER BY b.id, s.state
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """CIs by the state of their highest attempt. `overdue` is no state: it counts open ones among them."""

    queued: int = 0
    offered: int = 0
    downloading: int = 0
    installing: int = 0
    confirming: int = 0
    cancelling: int = 0
    unknown: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    superseded: int = 0
    excluded: int = 0
    skipped: int = 0
    overdue: int = 0
    total: int = 0

    @property
    def live(self) -> int:
        """CIs with a deployment under way."""
        return sum(getattr(self, state) for state in LIVE)

    @property
    def open(self) -> int:
        """CIs whose deployment has not ended: waiting or under way."""
        return self.queued + self.live

    @property
    def terminal(self) -> int:
        """CIs whose deployment has ended."""
        return sum(getattr(self, state) for state in TERMINAL)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Counts)})


def counts(batch_ids: Iterable[int]) -> dict[int, Counts]:
    """The counts of each batch; an empty batch has zeros."""
    ids = list(batch_ids)
    found: dict[int, dict[str, int]] = {batch_id: {"total": 0, "overdue": 0} for batch_id in ids}
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, {"batches": ids})
        for batch_id, state, number, overdue in cursor.fetchall():
            numbers = found[batch_id]
            numbers[state] = number
            numbers["total"] += number
            numbers["overdue"] += overdue
    return {batch_id: Counts(**numbers) for batch_id, numbers in found.items()}


def under_way(batch_ids: Iterable[int]) -> int:
    """How many deployments of these batches are open and not overdue."""
    return int(_look_at_open(_UNDER_WAY, batch_ids))


def has_open(batch_ids: Iterable[int]) -> bool:
    """Whether any deployment of these batches is open, overdue or not."""
    return bool(_look_at_open(_HAS_OPEN, batch_ids))


def _look_at_open(statement: str, batch_ids: Iterable[int]) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"batches": list(batch_ids), "open": [str(state) for state in OPEN]})
        return cursor.fetchone()[0]


def ended(batch_ids: Iterable[int]) -> int:
    """How many deployments of these batches have ended, every attempt. It only grows: what has ended stays so."""
    rows = Deployment.objects.filter(batch__in=list(batch_ids), state__in=[state.value for state in TERMINAL])
    return rows.count()


def newest_moves(batch_ids: Iterable[int]) -> list[tuple[int, str, datetime]]:
    """When a deployment of each batch came to each state last; the effort depends on the number of batches only."""
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST_MOVES, {"batches": list(batch_ids), "states": DeploymentState.values})
        return list(cursor.fetchall())


def log_position() -> int:
    """Id of the newest event of any deployment; 0 without one."""
    return DeploymentEvent.objects.aggregate(newest=Max("pk"))["newest"] or 0
