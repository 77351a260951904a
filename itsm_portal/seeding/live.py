"""The rollout that is under way: made by the verbs, its targets frozen by the engine, its devices played."""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from changes import services as changes
from itsm_portal.seeding.world import World, make_version
from releases import services as releases
from releases.executor import advance_rollouts
from releases.models import Release, Rollout, Wave

POLICY = {
    "strategy": "phased",
    "waves": [{"percent": 10}, {"percent": 40}, {"rest": True}],
    "soak_seconds": 60,
    "error_threshold": 20,
    "success_threshold": 90,
}
BEGAN = timedelta(hours=3)
# Devices ask within half an hour, fetch it in seconds and install it in minutes; five of a thousand fail.
SPAN = timedelta(minutes=30)

_PLAY = """
WITH timed AS (
    SELECT d.id, %(begin)s + random() * %(span)s AS offered, (5 + 20 * random()) * interval '1 s' AS fetching,
        (60 + 240 * random()) * interval '1 s' AS installing, random() < 0.005 AS is_bad
    FROM distribution_deployment d WHERE d.batch_id = %(batch)s AND d.state = 'queued'
), due AS (
    SELECT id, offered, offered + fetching AS fetched, offered + fetching + installing AS ended, is_bad,
        CASE WHEN offered + fetching + installing <= %(until)s THEN 3 WHEN offered + fetching <= %(until)s THEN 2
            ELSE 1 END AS reports
    FROM timed WHERE offered <= %(until)s
), moved AS (
    UPDATE distribution_deployment d SET offered_at = offered, reports = due.reports,
        state = CASE due.reports WHEN 1 THEN 'downloading' WHEN 2 THEN 'installing'
            ELSE CASE WHEN is_bad THEN 'failed' ELSE 'succeeded' END END,
        error_code = CASE WHEN due.reports = 3 AND is_bad THEN 'install_failed' ELSE '' END,
        moved_at = CASE due.reports WHEN 1 THEN offered WHEN 2 THEN fetched ELSE ended END,
        reported_at = CASE due.reports WHEN 1 THEN offered WHEN 2 THEN fetched ELSE ended END,
        closed_at = CASE due.reports WHEN 3 THEN ended END, finished_at = CASE due.reports WHEN 3 THEN ended END
    FROM due WHERE due.id = d.id
    RETURNING d.id, d.ci_id, d.state, offered, fetched, ended, due.reports
), step AS (
    SELECT id, 1 AS n, 'offered' AS kind, 'queued' AS before, 'offered' AS after, offered AS at, '' AS said FROM moved
    UNION ALL SELECT id, 2, 'report', 'offered', 'downloading', offered, 'download' FROM moved
    UNION ALL SELECT id, 3, 'report', 'downloading', 'installing', fetched, 'proceeding' FROM moved WHERE reports > 1
    UNION ALL SELECT id, 4, 'report', 'installing', state, ended, 'closed' FROM moved WHERE reports > 2
), told AS (
    INSERT INTO distribution_deploymentevent
        (deployment_id, kind, from_state, to_state, at, execution, result, details, is_duplicate)
    SELECT id, kind, before, after, at, said, '', '[]'::jsonb, false FROM step ORDER BY id, n
)
SELECT count(*) FROM moved
"""
_END_OLD = """
UPDATE cmdb_installedversion i SET valid_to = d.finished_at
FROM distribution_deployment d JOIN distribution_deploymentitem t ON t.deployment_id = d.id
WHERE d.batch_id = %(batch)s AND d.state = 'succeeded'
    AND i.ci_id = d.ci_id AND i.product_id = t.product_id AND i.valid_to IS NULL
"""
_BEGIN_NEW = """
INSERT INTO cmdb_installedversion (ci_id, product_id, version_id, label, valid_from, source, is_drift)
SELECT d.ci_id, t.product_id, t.to_version_id, v.label, d.finished_at, %(source)s, false
FROM distribution_deployment d JOIN distribution_deploymentitem t ON t.deployment_id = d.id
JOIN software_version v ON v.id = t.to_version_id
WHERE d.batch_id = %(batch)s AND d.state = 'succeeded' ORDER BY d.id
"""


def start_live_rollout(world: World) -> Rollout:
    """A rollout of a new version to every CI: its first wave is done, its second one half-way.

    Refusals of the verbs are raised as they are, for instance while another rollout of the product is under way.
    """
    begin = world.now - BEGAN
    rollout = releases.start_rollout(_approved_release(world, begin), actor=world.cast["starter"], now=begin)
    _settle(begin)
    with connection.cursor() as cursor:
        cursor.execute("SELECT setseed(%s)", [world.random.random()])
    _play(rollout, 1, begin, until=begin + 2 * SPAN)
    _settle(begin + 2 * SPAN)
    _settle(begin + 3 * SPAN)
    _play(rollout, 2, world.now - SPAN, until=world.now - SPAN / 3)
    rollout.refresh_from_db()
    return rollout


def _settle(now: datetime) -> None:
    """The engine's ticks until nothing moves any more."""
    while advance_rollouts(now=now, budget_seconds=600):
        pass


def _play(rollout: Rollout, number: int, begin: datetime, *, until: datetime) -> None:
    wave = Wave.objects.get(rollout=rollout, kind=Wave.Kind.FORWARD, number=number)
    params: dict[str, Any] = {
        "batch": wave.batch_id,
        "begin": begin,
        "span": SPAN,
        "until": until,
        "source": rollout.number,
    }
    with connection.cursor() as cursor:
        for statement in (_PLAY, _END_OLD, _BEGIN_NEW):
            cursor.execute(statement, params)


def _approved_release(world: World, now: datetime) -> Release:
    """Through all gates; the test on a copy is skipped by a recorded exception."""
    cast, product = world.cast, world.products[-1]
    version = make_version(world, product, f"2.{product.versions.count()}", now)
    change = changes.draft_change(
        actor=cast["author"], now=now, title=f"{product.name} {version.label}", products=[product],
        implementation_plan="Roll it out in waves.", test_plan="On a copy.", backout_plan="Roll back.",
    )  # fmt: skip
    changes.submit_change(change, actor=cast["author"], now=now)
    changes.assess_change(change, actor=cast["assessor"], now=now, risk="low", risk_reason="Done before.")
    changes.approve_change(change, actor=cast["board"], now=now)
    planned = {"planned_start": now - timedelta(minutes=1), "planned_end": now + timedelta(days=30)}
    changes.schedule_change(change, actor=cast["assessor"], now=now, **planned)
    release = releases.draft_release(
        actor=cast["engineer"], now=now, title=f"{product.name} {version.label}", changes=[change], versions=[version],
        policy=POLICY,
    )  # fmt: skip
    left_out = {other.pk: "Another time." for other in releases.left_out_changes(release)}
    releases.plan_release(release, actor=cast["engineer"], now=now, left_out=left_out)
    releases.build_release(release, actor=cast["engineer"], now=now)
    releases.skip_test(release, actor=cast["tester"], now=now, reason="Seeded: nothing of it is real.")
    releases.approve_release(release, actor=cast["approver"], now=now)
    return release
