"""Set-based writing of deployments: forward and back. Each is one statement for up to some thousand
CIs.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from distribution import steps
from distribution.failures import IS_FORWARD, failed_text
from distribution.models import TERMINAL, Batch, DeploymentState, WayBack
from distribution.ways_back import can_go

# Reads `item`(ci_id, attempt, product_id, to_version_id, from_version_id, way_back, position, is_there) and
# `failed`(ci_id, why): CIs that are left out.
WRITE = """
target AS (
    SELECT ci_id, attempt, bool_and(is_there) AS is_there FROM item GROUP BY ci_id, attempt
), wanted AS (
    SELECT ci_id, attempt, coalesce(why, '') AS why,
        CASE WHEN is_there THEN 'skipped' WHEN why IS NOT NULL THEN 'excluded' ELSE 'queued' END AS state
    FROM target LEFT JOIN failed USING (ci_id)
), made AS (
    INSERT INTO distribution_deployment
        (batch_id, ci_id, attempt, state, state_before_cancel, weight, created_at, moved_at, finished_at,
         not_before, error_code, message, reports, reason)
    SELECT %(batch)s, ci_id, attempt, state, '', %(weight)s, %(now)s, %(now)s,
        CASE WHEN state <> 'queued' THEN %(now)s::timestamptz END,
        -- Twice as long after each attempt, and up to a fifth more by the CI's id, so that not all come at once.
        CASE WHEN state = 'queued' THEN %(now)s::timestamptz + %(backoff)s::float8 * 2 ^ least(attempt - 2, 10)
            * (1 + (ci_id * 7919 %% 1000) / 5000.0) * interval '1 second' END,
        CASE WHEN state = 'excluded' THEN 'failed_before' ELSE '' END, '', 0,
        CASE WHEN state = 'excluded' THEN left(why, 200) ELSE '' END
    FROM wanted ORDER BY ci_id
    ON CONFLICT (batch_id, ci_id, attempt) DO NOTHING
    RETURNING id, ci_id, state, reason
), items AS (
    INSERT INTO distribution_deploymentitem
        (deployment_id, product_id, to_version_id, from_version_id, way_back, position)
    SELECT made.id, item.product_id, item.to_version_id, item.from_version_id, item.way_back, item.position
    FROM made JOIN item USING (ci_id) ORDER BY made.id, item.position
), brought AS (
    -- Once for each version: the batch is not opened yet when its first deployments are written.
    UPDATE distribution_batch b SET versions = b.versions || news.versions
    FROM (
        SELECT array_agg(DISTINCT item.to_version_id) AS versions
        FROM distribution_batch b, made JOIN item USING (ci_id)
        WHERE b.id = %(batch)s AND item.to_version_id IS NOT NULL AND item.to_version_id <> ALL(b.versions)
    ) news
    WHERE b.id = %(batch)s AND b.purpose = 'forward' AND news.versions IS NOT NULL
), events AS (
    INSERT INTO distribution_deploymentevent
        (deployment_id, kind, from_state, to_state, at, execution, result, details, is_duplicate)
    SELECT id, kind, from_state, to_state, %(now)s, '', '', details, false
    FROM (
        SELECT id, 1 AS step, 'created' AS kind, '' AS from_state, 'queued' AS to_state, '[]'::jsonb AS details
        FROM made
        UNION ALL SELECT id, 2, 'engine', 'queued', state, CASE WHEN reason = '' THEN '[]'::jsonb
            ELSE jsonb_build_array(reason) END FROM made WHERE state <> 'queued'
    ) history
    ORDER BY id, step
)
"""
HOW_MANY = "SELECT count(*) FROM made"

NOBODY = "failed AS (SELECT NULL::bigint AS ci_id, NULL::text AS why WHERE false)"
# CIs on which the newest try of the same content failed, unless a person ordered another one.
_FAILED = f"""
failed AS (
    SELECT ci_id, why FROM (
        SELECT DISTINCT ON (d.ci_id) d.ci_id, d.state,
            replace(replace(%(failed_text)s::text, '{{rollout}}', b.label),
                '{{code}}', concat_ws(' ', nullif(d.error_code, ''), d.message)) AS why
        FROM distribution_deployment d JOIN distribution_batch b ON b.id = d.batch_id AND {IS_FORWARD}
        WHERE d.ci_id IN (SELECT item.ci_id FROM item) AND d.ci_id <> ALL(%(again)s::bigint[])
            AND d.state IN ('failed', 'succeeded') AND d.batch_id <> %(batch)s AND NOT EXISTS (
                SELECT 1 FROM distribution_deploymentitem had WHERE had.deployment_id = d.id
                    AND (d.ci_id, had.product_id, had.to_version_id) NOT IN (
                        SELECT item.ci_id, item.product_id, item.to_version_id FROM item))
        ORDER BY d.ci_id, d.finished_at DESC, d.id DESC
    ) newest WHERE state = 'failed'
)"""  # noqa: S608 - put together from constants

_FORWARD = f"""
WITH package AS (
    SELECT * FROM unnest(%(products)s::bigint[], %(versions)s::bigint[], %(positions)s::int[], %(ways_back)s::text[])
        AS p(product_id, version_id, position, way_back)
), fresh AS (
    SELECT * FROM unnest(%(fresh_cis)s::bigint[], %(fresh_products)s::bigint[]) AS f(ci_id, product_id)
), item AS (
    SELECT ci.id AS ci_id, 1 AS attempt, p.product_id, p.version_id AS to_version_id,
        iv.version_id AS from_version_id,
        CASE WHEN %(or_reinstall)s::boolean AND p.way_back IN ('script', 'snapshot') AND NOT EXISTS (
            SELECT 1 FROM cmdb_configurationitem able WHERE able.id = ci.id AND {can_go("able", "p.way_back")})
            THEN 'reinstall' ELSE p.way_back END AS way_back,
        p.position, iv.version_id IS NOT DISTINCT FROM p.version_id AS is_there
    FROM unnest(%(cis)s::bigint[]) AS ci(id)
    CROSS JOIN package p
    JOIN software_version wanted ON wanted.id = p.version_id
    LEFT JOIN cmdb_installedversion iv
        ON iv.ci_id = ci.id AND iv.product_id = p.product_id AND iv.valid_to IS NULL
    LEFT JOIN software_version running ON running.id = iv.version_id
    -- Forward never means an older version: such an item is left out.
    WHERE iv.id IS NOT NULL AND (running.id IS NULL OR running."order" <= wanted."order")
        OR iv.id IS NULL AND EXISTS (SELECT 1 FROM fresh WHERE fresh.ci_id = ci.id AND fresh.product_id = p.product_id)
), {_FAILED}, {WRITE} {HOW_MANY}
"""  # noqa: S608 - put together from constants


def _has_changed(d: str) -> str:
    """Whether the deployment `d`, which its device was given, changed its CI or may have."""
    return f"""({d}.state IN ('succeeded', 'confirming') OR EXISTS (
        SELECT 1 FROM distribution_deploymentitem i
        JOIN cmdb_installedversion iv
            ON iv.ci_id = {d}.ci_id AND iv.version_id = i.to_version_id AND iv.valid_to IS NULL
        WHERE i.deployment_id = {d}.id))"""  # noqa: S608 - put together from constants


# The newest deployment of each CI that its device was given, if it changed the CI or may have; with a way back for each
# of its items. One that was skipped says nothing: an earlier rollout of those batches had brought the version.
_CHANGED = f"""
newest AS (
    SELECT DISTINCT ON (d.ci_id) d.id, d.ci_id, d.state, d.created_at
    FROM distribution_deployment d JOIN distribution_batch b ON b.id = d.batch_id
    WHERE b.mode <> 'download_only' AND d.batch_id = ANY(%(forward)s)
        AND (%(cis)s::bigint[] IS NULL OR d.ci_id = ANY(%(cis)s::bigint[]))
        AND (%(only)s::bigint IS NULL OR d.ci_id IN (
            SELECT o.ci_id FROM distribution_deployment o WHERE o.batch_id = %(only)s::bigint))
        AND (d.offered_at IS NOT NULL OR d.state = 'succeeded')
    ORDER BY d.ci_id, d.id DESC
), changed AS (
    SELECT n.* FROM newest n WHERE {_has_changed("n")}
), without_way_back AS (
    SELECT c.ci_id FROM changed c
    JOIN distribution_deploymentitem i ON i.deployment_id = c.id
    WHERE i.way_back = 'impossible' OR i.way_back IN ('script', 'snapshot') AND NOT EXISTS (
            SELECT 1 FROM cmdb_configurationitem able WHERE able.id = c.ci_id AND {can_go("able", "i.way_back")})
        OR i.from_version_id IS NULL AND (EXISTS (
            SELECT 1 FROM cmdb_configurationitem ci JOIN cmdb_agentprofile p ON p.id = ci.agent_profile_id
            WHERE ci.id = c.ci_id AND NOT p.can_remove)
        OR EXISTS (
            SELECT 1 FROM cmdb_installedversion iv
            WHERE iv.ci_id = c.ci_id AND iv.product_id = i.product_id AND iv.valid_from <= c.created_at
                AND (iv.valid_to IS NULL OR iv.valid_to > c.created_at)))
)
"""  # noqa: S608 - put together from constants
_COUNT_CHANGED = f"""
WITH {_CHANGED}
SELECT count(*), count(*) FILTER (WHERE ci_id IN (SELECT ci_id FROM without_way_back)) FROM changed
"""  # noqa: S608 - put together from constants
_ROLLBACK = f"""
WITH {_CHANGED}, item AS (
    SELECT c.ci_id, 1 AS attempt, i.product_id, i.from_version_id AS to_version_id,
        i.to_version_id AS from_version_id, i.way_back, i.position,
        c.state <> 'confirming' AND CASE WHEN i.from_version_id IS NULL THEN iv.id IS NULL
            ELSE iv.version_id IS NOT DISTINCT FROM i.from_version_id END AS is_there
    FROM changed c
    JOIN distribution_deploymentitem i ON i.deployment_id = c.id
    LEFT JOIN cmdb_installedversion iv
        ON iv.ci_id = c.ci_id AND iv.product_id = i.product_id AND iv.valid_to IS NULL
    WHERE c.ci_id NOT IN (SELECT ci_id FROM without_way_back)
), {NOBODY}, {WRITE} {HOW_MANY}
"""  # noqa: S608 - put together from constants
# The next CIs that may have to go back and that the rollback does not have yet. That is asked CI by CI (`+ 0`: by the
# index of CIs), as statistics know nothing of a batch that is being written.
_NEXT = f"""
SELECT DISTINCT found.ci_id FROM distribution_batch b CROSS JOIN LATERAL (
    SELECT d.ci_id FROM distribution_deployment d
    WHERE d.batch_id = b.id AND d.ci_id > %(after)s AND d.ci_id <= %(last)s
        AND (d.offered_at IS NOT NULL OR d.state = 'succeeded')
        AND (%(is_behind)s::boolean OR (
            SELECT back.id FROM distribution_deployment back
            WHERE back.ci_id = d.ci_id AND back.batch_id + 0 = %(batch)s LIMIT 1) IS NULL)
        AND (%(only)s::bigint IS NULL OR EXISTS (
            SELECT 1 FROM distribution_deployment o WHERE o.batch_id = %(only)s::bigint AND o.ci_id = d.ci_id))
        AND {_has_changed("d")}
    ORDER BY d.ci_id LIMIT %(limit)s
) found
WHERE b.id = ANY(%(forward)s) AND b.mode <> 'download_only'
ORDER BY found.ci_id LIMIT %(limit)s
"""  # noqa: S608 - put together from constants
# Reads an index in its order and stops, where it takes few rows for all there are and would read and sort them all.
_IN_ORDER = "SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)"
_IN_ANY_ORDER = "SET LOCAL enable_sort TO DEFAULT; SET LOCAL enable_bitmapscan TO DEFAULT"
_LAST = 2**63 - 1
# What `queue_rollback` goes by: how many deployments have come to their end, and what CIs say that they run.
_SEEN = """
SELECT (SELECT count(*) FROM distribution_deployment d
        WHERE d.batch_id = ANY(%(forward)s) AND d.state = ANY(%(closed)s)),
    (SELECT coalesce(max(iv.id), 0) FROM cmdb_installedversion iv),
    EXISTS (
        SELECT 1 FROM (
            SELECT iv.version_id FROM cmdb_installedversion iv WHERE iv.id > %(after)s ORDER BY iv.id OFFSET 0) recent
        WHERE recent.version_id IN (SELECT unnest(b.versions) FROM distribution_batch b WHERE b.id = ANY(%(forward)s)))
"""


def write(statement: str, batch: Batch, now: datetime, *, backoff: int | None = None, **params: Any) -> int:
    """Carries out a statement that ends in `WRITE`; how many deployments it wrote. `backoff` in seconds: not sooner."""
    values = {"batch": batch.pk, "weight": batch.weight, "now": now, "backoff": backoff, **params}
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.fetchone()[0])


def queue_deployments(
    batch: Batch,
    *,
    ci_ids: Sequence[int],
    package: Sequence[tuple[int, int, int]],
    fresh: Mapping[int, Iterable[int]] | None = None,
    ways_back: Mapping[int, str] | None = None,
    or_reinstall: bool = False,
    again: Iterable[int] = (),
    now: datetime,
) -> int:
    """Writes the first attempt of each CI that has a product of the package, or gets one in `fresh` {ci:
    products}.

    `package` is (product, version, position), `ways_back` says for products how a CI leaves the version again, and
    `or_reinstall` that those whose agent cannot do that itself are reinstalled. A CI
    that already runs every version of its items is `skipped` at once; one on which the same content failed before is
    `excluded`, unless a person ordered to try `again` there. Returns how many were written; CIs that have theirs
    already are left alone. Pass at most some thousand CIs.
    """
    pairs = [(ci, product) for ci, products in (fresh or {}).items() for product in products]
    return write(
        _FORWARD,
        batch,
        now,
        cis=list(dict.fromkeys(ci_ids)),
        products=[item[0] for item in package],
        versions=[item[1] for item in package],
        positions=[item[2] for item in package],
        ways_back=[(ways_back or {}).get(item[0], WayBack.REINSTALL) for item in package],
        or_reinstall=or_reinstall,
        again=list(again),
        failed_text=failed_text(),
        fresh_cis=[pair[0] for pair in pairs],
        fresh_products=[pair[1] for pair in pairs],
    )


def queue_rollback(
    batch: Batch,
    *,
    forward_batch_ids: Iterable[int],
    only_of: int | None = None,
    ci_ids: Iterable[int] | None = None,
    left_out: Callable[[list[int]], Collection[int]] | None = None,
    now: datetime,
) -> int:
    """Writes, for each CI that those batches changed or may have changed, the deployment back to what it ran
    before.

    Taken from the newest deployment per CI that its device was given: succeeded, closed by the device but not
    confirmed, or ended otherwise while the CI runs one of its versions. A product that was not there before is
    removed. A CI is left out when it has no way back: the package says so, its agent cannot remove or cannot go the
    way that the package names, or it ran a version before that the media library does not know. A CI that is back
    already is `skipped`. `only_of`: only CIs of this batch. `left_out` says which of some CIs do not go back.
    Returns how many were written, at most some thousand: repeat it until it writes nothing.
    """
    forward = list(forward_batch_ids)
    chunks = _to_go_back(batch, forward, only_of) if ci_ids is None else [list(ci_ids)]
    for chunk in chunks:
        cis = sorted(set(chunk) - set(left_out(chunk))) if left_out is not None else chunk
        if cis and (written := write(_ROLLBACK, batch, now, forward=forward, only=only_of, cis=cis)):
            return written
    return 0


def _to_go_back(batch: Batch, forward: list[int], only_of: int | None) -> Iterator[list[int]]:
    """Chunks of CIs by id: those behind the last one that was queued; then, from the start, who came late."""
    values = {"forward": forward, "batch": batch.pk, "only": only_of, "limit": steps.CHUNK}
    last = "SELECT coalesce(max(ci_id), 0) FROM distribution_deployment WHERE batch_id = %(batch)s"
    queued = _read_in_order(last, values)[0]
    for after, last_ci in ((queued, _LAST), (0, queued)):
        cis = [after]
        while cis:
            place = {"after": cis[-1], "last": last_ci, "is_behind": last_ci == _LAST}
            cis = _read_in_order(_NEXT, {**values, **place})
            yield cis
            if len(cis) < steps.CHUNK:
                break


def _read_in_order(statement: str, values: Mapping[str, Any]) -> list[int]:
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        cursor.execute(_IN_ORDER)
        cursor.execute(statement, values)
        found = [row[0] for row in cursor.fetchall()]
        cursor.execute(_IN_ANY_ORDER)
    return found


def seen_for_rollback(forward_batch_ids: Iterable[int], *, after: int | None) -> tuple[int, int, bool]:
    """What can lead to further ways back: how many deployments have ended or wait for their proof; the id of the newest
    record of what a CI runs; whether one behind `after` says that a CI runs one of the versions.
    """
    closed = [str(state) for state in (*TERMINAL, DeploymentState.CONFIRMING)]
    since = _LAST if after is None else after
    with connection.cursor() as cursor:
        cursor.execute(_SEEN, {"forward": list(forward_batch_ids), "closed": closed, "after": since})
        ended, newest, has_said = cursor.fetchone()
    return int(ended), int(newest), bool(has_said)


def count_changed(
    forward_batch_ids: Iterable[int], *, ci_ids: Iterable[int] | None = None, only_of: int | None = None
) -> tuple[int, int]:
    """How many CIs `queue_rollback` would concern now, and how many of them have no way back."""
    cis = None if ci_ids is None else list(ci_ids)
    with connection.cursor() as cursor:
        cursor.execute(
            _COUNT_CHANGED,
            {"forward": list(forward_batch_ids), "cis": cis, "only": only_of},
        )
        changed, lost = cursor.fetchone()
    return int(changed), int(lost)
