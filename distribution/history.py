"""What past deployments took and how many failed: quantiles by product, CI class and channel, in one statement.

The basis of forecasts. Only deployments to production CIs count, only the newest, so that the cost does not grow with
the years.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connection

from distribution.models import Batch, DeploymentState

# The newest deployments of the products, and as many of any product; a few thousand give stable quantiles.
SAMPLE = 10_000

# Ended, or overdue and so as good as failed; what was cancelled or superseded tells nothing about the software.
_TELLS = """
b.purpose = %(forward)s AND b.mode <> %(download_only)s
AND (d.state = %(succeeded)s AND d.offered_at IS NOT NULL OR d.state = %(failed)s
    OR d.overdue_at IS NOT NULL AND d.finished_at IS NULL)
"""
_MEASURED = f"""
WITH of_products AS (
    SELECT DISTINCT i.deployment_id AS id FROM distribution_deploymentitem i
    WHERE i.product_id = ANY(%(products)s) AND i.to_version_id IS NOT NULL
    ORDER BY id DESC LIMIT 3 * %(sample)s
), chosen AS (
    (SELECT d.id, true AS is_same FROM of_products JOIN distribution_deployment d USING (id)
        JOIN distribution_batch b ON b.id = d.batch_id WHERE {_TELLS} ORDER BY d.id DESC LIMIT %(sample)s)
    UNION ALL
    (SELECT d.id, EXISTS (SELECT 1 FROM distribution_deploymentitem i
            WHERE i.deployment_id = d.id AND i.product_id = ANY(%(products)s))
        FROM distribution_deployment d JOIN distribution_batch b ON b.id = d.batch_id
        WHERE {_TELLS} ORDER BY d.id DESC LIMIT %(sample)s)
), deployment AS (
    SELECT d.*, c.ci_class_id, c.channel, chosen.is_same, coalesce(p.takes, 'archive') AS takes
    FROM (SELECT DISTINCT * FROM chosen) chosen JOIN distribution_deployment d USING (id)
    JOIN cmdb_configurationitem c ON c.id = d.ci_id
    LEFT JOIN cmdb_agentprofile p ON p.id = c.agent_profile_id
), bytes AS (
    SELECT d.id, sum(a.size) AS bytes FROM deployment d
    JOIN distribution_deploymentitem i ON i.deployment_id = d.id
    JOIN software_artifact a ON a.version_id = i.to_version_id AND a.format = d.takes
    GROUP BY d.id
), seconds AS (
    SELECT d.ci_class_id, d.channel, d.is_same, bytes.bytes,
        d.state = %(failed)s AS has_failed, d.state <> %(failed)s AND d.state <> %(succeeded)s AS is_silent,
        CASE WHEN d.state = %(succeeded)s THEN extract(epoch FROM d.finished_at - d.offered_at) END AS total,
        CASE WHEN d.state = %(succeeded)s THEN extract(epoch FROM fetched.at - d.offered_at) END AS download,
        CASE WHEN d.state = %(succeeded)s THEN extract(epoch FROM d.closed_at - fetched.at) END AS install,
        CASE WHEN d.state = %(succeeded)s THEN extract(epoch FROM d.finished_at - d.closed_at) END AS confirmation
    FROM deployment d LEFT JOIN bytes ON bytes.id = d.id
    LEFT JOIN LATERAL (
        SELECT min(e.at) AS at FROM distribution_deploymentevent e
        WHERE e.deployment_id = d.id AND e.to_state = 'installing' AND e.from_state <> 'installing'
    ) fetched ON true
)
SELECT GROUPING(is_same, ci_class_id), is_same, ci_class_id, channel, count(*), count(total),
    count(*) FILTER (WHERE has_failed), count(*) FILTER (WHERE is_silent),
    percentile_cont(%(shares)s) WITHIN GROUP (ORDER BY total),
    percentile_cont(%(shares)s) WITHIN GROUP (ORDER BY download),
    percentile_cont(%(shares)s) WITHIN GROUP (ORDER BY install),
    percentile_cont(%(shares)s) WITHIN GROUP (ORDER BY confirmation),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY bytes) FILTER (WHERE download IS NOT NULL)
FROM seconds
GROUP BY GROUPING SETS ((is_same, ci_class_id, channel), (ci_class_id, channel), (channel))
"""  # noqa: S608 - put together from constants

PRODUCT, CLASS, CHANNEL = "product", "class", "channel"
_LEVELS = {0: PRODUCT, 2: CLASS, 3: CHANNEL}
Quantiles = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """Past deployments of one kind. `level` says what they have in common with what is asked about.

    Each pair is the time in seconds that half of them and nine of ten stayed below; None: nobody reported that step.
    Download from the offer on, installation until the device closed, confirmation until the proof; `total`: all of it.
    """

    level: str
    ci_class: int | None
    channel: str
    ended: int
    succeeded: int
    failed: int
    silent: int
    total: Quantiles | None
    download: Quantiles | None
    install: Quantiles | None
    confirmation: Quantiles | None
    bytes: float | None


def measured(product_ids: Iterable[int]) -> list[Measured]:
    """How deployments went so far: of these products by class and channel, of any product by class and channel, and
    by channel alone. Levels without any deployment are left out.
    """
    params: dict[str, Any] = {
        "products": list(product_ids),
        "sample": SAMPLE,
        "shares": [0.5, 0.9],
        "forward": Batch.Purpose.FORWARD.value,
        "download_only": Batch.Mode.DOWNLOAD_ONLY.value,
        "succeeded": DeploymentState.SUCCEEDED.value,
        "failed": DeploymentState.FAILED.value,
    }
    found = []
    with connection.cursor() as cursor:
        cursor.execute(_MEASURED, params)
        for grouping, is_same, ci_class, channel, *counts_and_times in cursor.fetchall():
            level = _LEVELS[grouping]
            if level == PRODUCT and not is_same:
                continue
            ended, succeeded, failed, silent, total, download, install, confirmation, size = counts_and_times
            found.append(
                Measured(
                    level=level,
                    ci_class=ci_class,
                    channel=channel,
                    ended=ended,
                    succeeded=succeeded,
                    failed=failed,
                    silent=silent,
                    total=_pair(total),
                    download=_pair(download),
                    install=_pair(install),
                    confirmation=_pair(confirmation),
                    bytes=float(size) if size is not None else None,
                )
            )
    return found


def _pair(value: list[float] | None) -> Quantiles | None:
    return (float(value[0]), float(value[1])) if value is not None and value[0] is not None else None
