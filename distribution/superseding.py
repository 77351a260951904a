"""What a newer rollout does to the deployments of older ones on the same CIs.

Waiting → superseded; fetched or downloading → its device is asked to stop, and the new one waits; installing → the new
one waits behind it. A deployment is superseded only by one that brings each of its products in the same or a later
version, and never when it brings a version that must not be skipped.
"""

from collections.abc import Iterable
from datetime import datetime

from django.db import connection, transaction

from accounts import language
from distribution.models import LIVE, OPEN, Batch, DeploymentEvent, DeploymentState
from distribution.steps import move_where

_FORWARD = "EXISTS (SELECT 1 FROM distribution_batch b WHERE b.id = d.batch_id AND b.purpose = 'forward')"
# The CI runs a later version of one of its products: to install it would be a step back.
_OVERTAKEN = f"""
d.batch_id = ANY(%(batches)s) AND {_FORWARD} AND EXISTS (
    SELECT 1 FROM distribution_deploymentitem i JOIN software_version wanted ON wanted.id = i.to_version_id
    JOIN cmdb_installedversion iv ON iv.ci_id = d.ci_id AND iv.product_id = i.product_id AND iv.valid_to IS NULL
    JOIN software_version running ON running.id = iv.version_id
    WHERE i.deployment_id = d.id AND running."order" > wanted."order")
"""  # noqa: S608 - put together from constants
# Whether any CI runs a later version of what the batches bring, as far as they say what they bring. Mostly none does,
# and nobody who waits has to be looked at.
_IS_AHEAD = """
SELECT EXISTS (
    SELECT 1 FROM distribution_batch b WHERE b.id = ANY(%(batches)s) AND b.purpose = 'forward' AND (
        b.versions IS NULL OR EXISTS (
            SELECT 1 FROM software_version wanted
            JOIN software_version running ON running.product_id = wanted.product_id AND running."order" > wanted."order"
            WHERE wanted.id = ANY(b.versions) AND EXISTS (
                SELECT 1 FROM cmdb_installedversion iv WHERE iv.product_id = running.product_id
                    AND iv.version_id = running.id AND iv.valid_to IS NULL))))
"""
# Each product of `d` comes in the same or a later version by `newer`.
_BRINGS_ALL = """NOT EXISTS (
    SELECT 1 FROM distribution_deploymentitem old JOIN software_version had ON had.id = old.to_version_id
    WHERE old.deployment_id = d.id AND NOT EXISTS (
        SELECT 1 FROM distribution_deploymentitem new JOIN software_version gets ON gets.id = new.to_version_id
        WHERE new.deployment_id = newer.id AND new.product_id = old.product_id AND gets."order" >= had."order"))"""
# What must not be skipped is never superseded: it ends when the CI runs it or something later.
_NO_STEP = """NOT EXISTS (
    SELECT 1 FROM distribution_deploymentitem i JOIN software_version step ON step.id = i.to_version_id
    WHERE i.deployment_id = d.id AND step.must_not_skip)"""
_OLDER = f"""
{_FORWARD} AND {_NO_STEP} AND EXISTS (
    SELECT 1 FROM distribution_deployment newer
    WHERE newer.batch_id = ANY(%(batches)s) AND newer.ci_id = d.ci_id AND newer.id > d.id
        AND newer.batch_id <> d.batch_id AND newer.state = 'queued' AND {_BRINGS_ALL})
"""  # noqa: S608 - put together from constants
# Of a rollout that is over: a newer one has reached the CI and brings each of its products as well.
_LEFT_BEHIND = f"""
d.batch_id = ANY(%(batches)s) AND {_FORWARD} AND {_NO_STEP} AND EXISTS (
    SELECT 1 FROM distribution_deployment newer JOIN distribution_batch nb ON nb.id = newer.batch_id
    WHERE newer.ci_id = d.ci_id AND newer.id > d.id AND newer.batch_id <> d.batch_id
        AND nb.purpose = 'forward' AND nb.mode <> 'download_only' AND nb.opened_at IS NOT NULL
        AND newer.state NOT IN ('failed', 'cancelled', 'superseded', 'excluded') AND {_BRINGS_ALL})
"""  # noqa: S608 - put together from constants
_DISPLACED = f"""
SELECT count(*) FILTER (WHERE d.state = 'queued'), count(*) FILTER (WHERE d.state IN ('offered', 'downloading')),
    count(*) FILTER (WHERE d.state NOT IN ('queued', 'offered', 'downloading', 'cancelling'))
FROM distribution_deployment d WHERE d.state = ANY(%(open)s) AND {_OLDER}
"""  # noqa: S608 - put together from constants
_BEHIND = """
SELECT b.label, count(*) FROM distribution_deployment ahead
JOIN distribution_deployment d ON d.ci_id = ahead.ci_id AND d.batch_id = %(batch)s AND d.state = 'queued'
JOIN distribution_batch b ON b.id = ahead.batch_id
WHERE ahead.batch_id = ANY(%(others)s) AND ahead.state = ANY(%(live)s)
GROUP BY b.label ORDER BY b.label
"""


def supersede_overtaken(batch_ids: Iterable[int], *, now: datetime) -> int:
    """Ends waiting forward deployments whose CI runs a later version by now; how many, at most some thousand."""
    batches = list(batch_ids)
    with connection.cursor() as cursor:
        cursor.execute(_IS_AHEAD, {"batches": batches})
        is_ahead = cursor.fetchone()[0]
    reason = language.gettext("The CI runs a later version already.")
    return len(_supersede(_OVERTAKEN, {"batches": batches}, reason, now)) if is_ahead else 0


def supersede_left_behind(batch_ids: Iterable[int], *, now: datetime) -> int:
    """Ends what still waits to catch up with a rollout that is over, once a newer one has reached its CI; how many, at
    most some thousand.
    """
    reason = language.gettext("A newer rollout has reached the CI.")
    return len(_supersede(_LEFT_BEHIND, {"batches": list(batch_ids)}, reason, now))


def supersede_older(batch: Batch, *, now: datetime) -> tuple[int, int]:
    """Makes way for the waiting deployments of this batch; how many were superseded, and asked to stop.

    At most some thousand: repeat it until it does nothing.
    """
    reason = language.gettext("Superseded by %s.") % batch.label
    params: dict[str, object] = {"batches": [batch.pk], "reason": reason[:200]}
    with transaction.atomic():
        superseded = _supersede(_OLDER, params, reason, now)
        stopping = move_where(
            _OLDER,
            params,
            to_state=DeploymentState.CANCELLING,
            kind=DeploymentEvent.Kind.ENGINE,
            now=now,
            details=[reason],
            assignments={"reason": "%(reason)s", "state_before_cancel": "picked.state"},
            sources=[DeploymentState.OFFERED, DeploymentState.DOWNLOADING],
        )
    return len(superseded), len(stopping)


def displaced_by(batch_ids: Iterable[int]) -> tuple[int, int, int]:
    """What `supersede_older` would do now for these batches: end, ask to stop, and leave alone because it is further.

    Writes nothing; one statement.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DISPLACED, {"batches": list(batch_ids), "open": [str(state) for state in OPEN]})
        ended, stopping, kept = cursor.fetchone()
    return int(ended), int(stopping), int(kept)


def _supersede(where: str, params: dict[str, object], reason: str, now: datetime) -> list[int]:
    return move_where(
        where,
        {**params, "reason": reason[:200]},
        to_state=DeploymentState.SUPERSEDED,
        kind=DeploymentEvent.Kind.ENGINE,
        now=now,
        details=[reason],
        assignments={"reason": "%(reason)s"},
        sources=[DeploymentState.QUEUED],
    )


def waits_behind(batch: Batch, others: Iterable[int]) -> list[tuple[str, int]]:
    """Whose deployments, of these other batches, are under way on CIs that this one waits for: label, number of CIs."""
    keys = list(others)
    if not keys:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_BEHIND, {"batch": batch.pk, "others": keys, "live": [str(state) for state in LIVE]})
        return [(label, number) for label, number in cursor.fetchall()]
