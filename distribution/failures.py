"""What failed on a CI: it is not offered there again by itself, and a device that fell back counts as failed.

The same content has failed when a deployment failed that brought nothing but what this one brings: of several products
nobody knows which one it was, so another version of one of them is another content. A later success takes it back.
"""

from collections.abc import Iterable
from datetime import datetime

from django.db import connection
from django.utils.translation import gettext as _

from accounts import language
from distribution.models import Deployment, DeploymentEvent, DeploymentState
from distribution.steps import move_where

FAILED_BEFORE = "failed_before"
REVERTED = "reverted"
IS_FORWARD = "b.purpose = 'forward' AND b.mode <> 'download_only'"


def failed_since(d: str) -> str:
    """Whether the content of the forward deployment `d` failed on its CI, in another batch, since `d` was queued.

    What failed before that was looked at when it was queued.
    """
    return f"""
    EXISTS (
        SELECT 1 FROM distribution_deployment f JOIN distribution_batch b ON b.id = f.batch_id AND {IS_FORWARD}
        JOIN distribution_batch own ON own.id = {d}.batch_id AND own.purpose = 'forward'
        WHERE f.ci_id = {d}.ci_id AND f.state = 'failed' AND f.finished_at > {d}.created_at
            AND f.batch_id <> {d}.batch_id AND NOT EXISTS (
                SELECT 1 FROM distribution_deploymentitem had WHERE had.deployment_id = f.id AND NOT EXISTS (
                    SELECT 1 FROM distribution_deploymentitem has WHERE has.deployment_id = {d}.id
                        AND has.product_id = had.product_id AND has.to_version_id = had.to_version_id)))
"""  # noqa: S608 - put together from constants


# CIs of waiting deployments on which anything else has failed since their batch was made, or a day before: for clocks
# that were set back. Who of them is left out says `failed_since`.
_SUSPECTS = f"""
WITH own AS MATERIALIZED (
    SELECT id, created_at FROM distribution_batch WHERE id = ANY(%(batches)s) AND purpose = 'forward'
), failed AS MATERIALIZED (
    SELECT f.ci_id, f.batch_id FROM distribution_deployment f JOIN distribution_batch b ON b.id = f.batch_id
    WHERE f.state = 'failed' AND f.finished_at > (SELECT min(created_at) FROM own) - interval '1 day' AND {IS_FORWARD}
)
SELECT DISTINCT d.ci_id FROM failed
JOIN distribution_deployment d ON d.ci_id = failed.ci_id AND d.batch_id <> failed.batch_id AND d.state = 'queued'
WHERE d.batch_id IN (SELECT id FROM own)
"""  # noqa: S608 - put together from constants
_REVERT = """
WITH made AS (
    INSERT INTO distribution_deployment
        (batch_id, ci_id, attempt, state, state_before_cancel, weight, created_at, moved_at, finished_at,
         error_code, message, reports, reason)
    SELECT batch_id, ci_id, attempt + 1, 'failed', '', weight, %(now)s, %(now)s, %(now)s, %(code)s, %(message)s, 0, ''
    FROM distribution_deployment WHERE id = %(id)s
    RETURNING id
), items AS (
    INSERT INTO distribution_deploymentitem
        (deployment_id, product_id, to_version_id, from_version_id, way_back, position)
    SELECT made.id, i.product_id, i.to_version_id, i.from_version_id, i.way_back, i.position
    FROM made, distribution_deploymentitem i WHERE i.deployment_id = %(id)s ORDER BY i.position
)
INSERT INTO distribution_deploymentevent
    (deployment_id, kind, from_state, to_state, at, execution, result, details, is_duplicate)
SELECT made.id, h.kind, h.from_state, h.to_state, %(now)s, '', '', h.details, false
FROM made, (
    SELECT 1 AS step, 'created' AS kind, '' AS from_state, 'queued' AS to_state, '[]'::jsonb AS details
    UNION ALL SELECT 2, 'attributes', 'queued', 'failed', jsonb_build_array(%(message)s::text)
) h ORDER BY h.step
"""


def failed_text() -> str:
    """Why a CI is left out; the statement that finds it fills in `{rollout}` and `{code}`."""
    return _("It failed on this CI before, in {rollout}: {code}")


def exclude_failed(batch_ids: Iterable[int], *, now: datetime) -> int:
    """Leaves out what waits and has failed on its CI meanwhile, by another rollout; how many, at most some thousand."""
    batches = list(batch_ids)
    with connection.cursor() as cursor:
        cursor.execute(_SUSPECTS, {"batches": batches})
        suspects = [row[0] for row in cursor.fetchall()]
    if not suspects:
        return 0
    reason = language.gettext("It failed on this CI meanwhile, by another rollout.")
    excluded = move_where(
        f"d.batch_id = ANY(%(batches)s) AND d.ci_id = ANY(%(suspects)s) AND {failed_since('d')}",
        {"batches": batches, "suspects": suspects, "reason": reason[:200], "code": FAILED_BEFORE},
        to_state=DeploymentState.EXCLUDED,
        kind=DeploymentEvent.Kind.ENGINE,
        now=now,
        details=[reason],
        assignments={"reason": "%(reason)s", "error_code": "%(code)s"},
        sources=[DeploymentState.QUEUED],
    )
    return len(excluded)


def record_reverted(deployment: Deployment, *, message: str, now: datetime) -> None:
    """Notes that the device of a succeeded deployment runs again what it ran before.

    A deployment that has ended stays as it is: the finding is a failed attempt of its own, which was never offered.
    The caller has locked the CI.
    """
    with connection.cursor() as cursor:
        cursor.execute(_REVERT, {"id": deployment.pk, "code": REVERTED, "message": message[:512], "now": now})
