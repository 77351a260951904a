"""Who is not done, and why: the newest deployment of each CI that has not brought the version, with the first reason
that applies. A page of them takes one further statement, however large the fleet is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from distribution.failures import failed_since
from distribution.models import LIVE, OPEN, Deployment, DeploymentState
from distribution.overdue import SEEN_STEP_SECONDS
from distribution.signed import is_signed
from distribution.windows import IS_OPEN

_OTHER = """
(SELECT b2.label FROM distribution_deployment o JOIN distribution_batch b2 ON b2.id = o.batch_id
    WHERE o.ci_id = d.ci_id AND o.state = ANY(%(live)s) LIMIT 1)
"""
_AHEAD = """
(SELECT b2.label FROM distribution_deployment o JOIN distribution_batch b2 ON b2.id = o.batch_id AND b2.is_open
    WHERE o.ci_id = d.ci_id AND o.state = 'queued' AND (o.weight, -o.id) > (d.weight, -d.id)
    ORDER BY o.weight DESC, o.id LIMIT 1)
"""
_FULL = """
b.max_in_flight <= (SELECT count(*) FROM distribution_deployment o WHERE o.batch_id = b.id AND o.overdue_at IS NULL
        AND o.state = ANY(%(live)s))
    OR b.max_downloads <= (SELECT count(*) FROM distribution_deployment o WHERE o.batch_id = b.id
        AND o.overdue_at IS NULL AND o.state IN ('offered', 'downloading'))
"""
_WHY = f"""
SELECT d.id, CASE
    WHEN ci.lifecycle IN ('retired', 'disposed') THEN 'retired'
    WHEN d.state = 'confirming' THEN 'not_confirmed'
    WHEN d.state = 'cancelling' THEN 'not_answered'
    WHEN d.state = 'unknown' THEN 'unknown'
    WHEN d.state <> 'queued' THEN CASE
        WHEN d.state = 'offered' AND NOT {IS_OPEN} THEN 'window'
        WHEN ci.channel = 'ddi' AND d.overdue_at IS NOT NULL
            AND (ci.last_seen_at IS NULL OR ci.last_seen_at <= d.moved_at + make_interval(secs => %(step)s))
            THEN 'silent'
        WHEN d.overdue_at IS NOT NULL THEN 'stuck'
        ELSE 'under_way' END
    WHEN EXISTS (SELECT 1 FROM distribution_deploymentitem i JOIN software_version v ON v.id = i.to_version_id
        WHERE i.deployment_id = d.id AND v.state <> 'ready') THEN 'not_ready'
    WHEN EXISTS (SELECT 1 FROM distribution_deploymentitem i WHERE i.deployment_id = d.id AND NOT EXISTS (
        SELECT 1 FROM software_artifact a WHERE a.version_id = i.to_version_id
            AND a.format = coalesce(profile.takes, 'archive'))
        AND i.to_version_id IS NOT NULL) THEN 'no_file'
    WHEN ci.channel = 'ansible' AND NOT EXISTS (SELECT 1 FROM cmdb_connection c WHERE c.ci_id = ci.id)
        THEN 'no_connection'
    WHEN ci.channel = 'ddi' AND ci.agent_id IS NULL THEN 'no_agent'
    WHEN NOT {is_signed("d")} THEN 'not_signed'
    WHEN EXISTS (SELECT 1 FROM distribution_deploymentitem i JOIN cmdb_installedversion iv ON iv.ci_id = d.ci_id
            AND iv.product_id = i.product_id AND iv.valid_to IS NULL
        WHERE i.deployment_id = d.id AND iv.is_drift AND iv.valid_from > d.created_at
            AND iv.version_id IS DISTINCT FROM i.from_version_id AND iv.version_id IS DISTINCT FROM i.to_version_id)
        THEN 'drift'
    WHEN {failed_since("d")} THEN 'failed_before'
    WHEN {_OTHER} IS NOT NULL THEN 'other'
    WHEN NOT b.is_open THEN 'closed'
    WHEN {_AHEAD} IS NOT NULL THEN 'ahead'
    WHEN NOT {IS_OPEN} AND (ci.channel <> 'ddi' OR NOT coalesce(profile.can_wait, true)) THEN 'window'
    WHEN ci.channel = 'ddi' AND ci.last_seen_at IS NULL THEN 'never_seen'
    WHEN ci.channel = 'ddi' AND ci.last_seen_at < greatest(b.opened_at, d.created_at) THEN 'silent'
    WHEN {_FULL} THEN 'no_room'
    ELSE 'next' END AS code,
    coalesce({_OTHER}, {_AHEAD}, '') AS other,
    CASE WHEN d.state = 'queued' THEN greatest(b.opened_at, d.created_at)
        ELSE coalesce(d.closed_at, d.moved_at) END AS since,
    ci.last_seen_at
FROM distribution_deployment d
JOIN distribution_batch b ON b.id = d.batch_id
JOIN cmdb_configurationitem ci ON ci.id = d.ci_id
LEFT JOIN cmdb_agentprofile profile ON profile.id = ci.agent_profile_id
WHERE d.id = ANY(%(ids)s)
"""  # noqa: S608 - put together from constants

# `{since}`, `{seen}`, `{other}` and `{text}` are filled in.
REASONS: dict[str, str | Promise] = {
    "retired": gettext_lazy("The CI is retired."),
    "not_confirmed": gettext_lazy("Closed by the device, but what it runs is not confirmed since {since}."),
    "not_answered": gettext_lazy("Asked to stop; no answer since {since}."),
    "unknown": gettext_lazy("A push run was lost at {since}; the host is read first."),
    "window": gettext_lazy("It waits for its maintenance window."),
    "silent": gettext_lazy("Not seen since {seen}."),
    "never_seen": gettext_lazy("Its agent was never seen."),
    "stuck": gettext_lazy("Last seen at {seen}, but without progress since {since}."),
    "under_way": gettext_lazy("Under way since {since}."),
    "not_ready": gettext_lazy("A version is not, or no longer, ready in the media library."),
    "no_file": gettext_lazy("There is no file of the format that its agent takes."),
    "no_connection": gettext_lazy("Its channel has no connection."),
    "no_agent": gettext_lazy("It has no agent."),
    "not_signed": gettext_lazy("Not signed, or the signature has expired."),
    "drift": gettext_lazy("Somebody else changed it since; a person has to look first."),
    "failed_before": gettext_lazy("{text}"),
    "other": gettext_lazy("It waits for {other}, which is under way on it."),
    "ahead": gettext_lazy("{other} comes first on it."),
    "closed": gettext_lazy("Nothing is offered just now."),
    "no_room": gettext_lazy("It waits for room: as many CIs as may be are under way."),
    "next": gettext_lazy("It gets it when it asks next."),
    "failed": gettext_lazy("Failed: {text}"),
    "reverted": gettext_lazy("It runs the version of before again: {text}"),
    "cancelled": gettext_lazy("Cancelled: {text}"),
    "superseded": gettext_lazy("{text}"),
    "excluded": gettext_lazy("Left out: {text}"),
}


@dataclass(frozen=True, slots=True)
class Straggler:
    """A CI that does not have it, and why: a code for programs, a text for people, since when it stands so."""

    deployment: Deployment
    code: str
    text: str
    since: datetime
    last_seen_at: datetime | None


def stragglers(batch_ids: Iterable[int], user: object) -> QuerySet[Deployment]:
    """The newest deployment of each CI of opened batches that has not brought the version; CIs that he may see."""
    later = Deployment.objects.filter(batch=OuterRef("batch"), ci=OuterRef("ci"), attempt__gt=OuterRef("attempt"))
    rows = Deployment.objects.visible_to(user).filter(batch__in=list(batch_ids), batch__opened_at__isnull=False)
    rows = rows.exclude(state__in=[DeploymentState.SUCCEEDED, DeploymentState.SKIPPED]).exclude(Exists(later))
    return rows.select_related("ci", "batch").order_by("ci_id", "pk")


def explain(deployments: Sequence[Deployment], *, now: datetime) -> list[Straggler]:
    """The reason of each; one statement for all of them."""
    still_open = [deployment.pk for deployment in deployments if deployment.state in OPEN]
    params: dict[str, Any] = {
        "ids": still_open,
        "now": now,
        "live": [str(state) for state in LIVE],
        "step": SEEN_STEP_SECONDS,
        "signed": settings.REQUIRE_SIGNATURES,
    }
    with connection.cursor() as cursor:
        cursor.execute(_WHY, params)
        found = {row[0]: (row[1], row[2], row[3], row[4]) for row in cursor.fetchall()}
    return [_open(d, *found[d.pk]) if d.pk in found else _ended(d) for d in deployments]


def _open(deployment: Deployment, code: str, other: str, since: datetime, seen: datetime | None) -> Straggler:
    text = str(REASONS[code]).format(
        since=_when(since),
        seen=_when(seen),
        other=other,
        text=_("It failed on this CI meanwhile, by another rollout."),
    )
    return Straggler(deployment, code, text, since, seen)


def _ended(deployment: Deployment) -> Straggler:
    code = str(deployment.state)
    if deployment.error_code in ("failed_before", "reverted"):
        code = deployment.error_code
    said = [deployment.error_code, deployment.message] if deployment.state == DeploymentState.FAILED else []
    text = ": ".join(filter(None, said)) or deployment.reason or "–"
    since = deployment.finished_at or deployment.moved_at
    return Straggler(deployment, code, str(REASONS[code]).format(text=text), since, deployment.ci.last_seen_at)


def _when(moment: datetime | None) -> str:
    return date_format(localtime(moment), "SHORT_DATETIME_FORMAT") if moment is not None else "–"
