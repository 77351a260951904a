"""Deployments that passed a deadline of their batch: marked, they count in the verdict and stay open for catch-up."""

from collections.abc import Iterable
from datetime import datetime

from django.db import connection

from distribution import steps
from distribution.models import LIVE, OPEN, DeploymentState
from distribution.windows import had_its_window

# Polls are recorded in steps of so many seconds, and a little late: a CI is not silent for that.
SEEN_STEP_SECONDS = 30
_SEEN_DELAY_SECONDS = 10

# Each state is looked at by its index, from the oldest on: whatever PostgreSQL believes to know about how many there
# are, it does not go through all deployments.
_OVERDUE = f"""
WITH batch AS MATERIALIZED (
    SELECT b.*, EXISTS (
        SELECT 1 FROM unnest(%(states)s::text[]) AS s(state) CROSS JOIN LATERAL (
            SELECT other.moved_at FROM distribution_deployment other
            WHERE other.batch_id = b.id AND other.state = s.state ORDER BY other.moved_at DESC LIMIT 1) newest
        WHERE newest.moved_at > %(now)s - make_interval(secs => b.offer_deadline)) AS has_moved
    FROM distribution_batch b WHERE b.id = ANY(%(batches)s)
), due AS (
    SELECT found.* FROM batch b CROSS JOIN LATERAL (
        SELECT d.id, d.moved_at FROM distribution_deployment d JOIN cmdb_configurationitem ci ON ci.id = d.ci_id
        WHERE d.batch_id = b.id AND d.state = 'queued'
            AND d.moved_at <= %(now)s - make_interval(secs => b.offer_deadline) AND d.overdue_at IS NULL
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
        ORDER BY d.moved_at LIMIT %(limit)s
    ) found WHERE b.is_open
    UNION
    SELECT found.* FROM batch b
    CROSS JOIN unnest('{{offered,downloading,installing,cancelling,unknown}}'::text[]) AS s(state) CROSS JOIN LATERAL (
        SELECT d.id, d.moved_at FROM distribution_deployment d
        WHERE d.batch_id = b.id AND d.state = s.state
            AND d.moved_at <= %(now)s - make_interval(secs => b.progress_deadline) AND d.overdue_at IS NULL
            AND (d.state IN ('cancelling', 'unknown') OR {had_its_window("d.moved_at", "b.progress_deadline")})
        ORDER BY d.moved_at LIMIT %(limit)s
    ) found
    UNION
    -- Since its device closed it.
    SELECT found.* FROM batch b CROSS JOIN LATERAL (
        SELECT d.id, d.moved_at FROM distribution_deployment d
        WHERE d.batch_id = b.id AND d.state = 'confirming'
            AND d.moved_at <= %(now)s - make_interval(secs => b.confirm_deadline) AND d.overdue_at IS NULL
        ORDER BY d.moved_at LIMIT %(limit)s
    ) found
    UNION
    -- Whatever it waits for: turn, room, window or device.
    SELECT found.* FROM batch b CROSS JOIN unnest(%(open)s::text[]) AS s(state) CROSS JOIN LATERAL (
        SELECT d.id, d.moved_at FROM distribution_deployment d
        WHERE d.batch_id = b.id AND d.state = s.state AND d.overdue_at IS NULL
            AND d.created_at <= %(now)s - make_interval(secs => b.total_deadline)
        ORDER BY d.moved_at LIMIT %(limit)s
    ) found
    WHERE b.total_deadline IS NOT NULL AND (b.is_open OR s.state <> 'queued')
        AND coalesce(b.opened_at <= %(now)s - make_interval(secs => b.total_deadline), true)
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


def mark_overdue(batch_ids: Iterable[int], *, now: datetime) -> int:
    """Marks open deployments that passed a deadline of their batch; they stay open for catch-up. How many were new, at
    most some thousand.

    Not offered: counted since the batch was opened, unless the CI is busy with another deployment, or asks
    while the cap has no room. Under way: since the last change of state, so a device that reports the same
    for ever is overdue. Closed but not confirmed: since it was closed. In all: since the batch was opened, whatever it
    waits for.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _OVERDUE,
            {
                "batches": list(batch_ids),
                "now": now,
                "limit": steps.CHUNK,
                "live": [str(state) for state in LIVE],
                "open": [str(state) for state in OPEN],
                "states": list(DeploymentState.values),
                "seen_step": SEEN_STEP_SECONDS + _SEEN_DELAY_SECONDS,
            },
        )
        return cursor.rowcount
