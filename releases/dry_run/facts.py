"""What is so now: the targets by wave and kind, what they run, who else wants them. A few statements, none writes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from changes.models import Freeze
from cmdb.models import MaintenanceWindow
from distribution.models import OPEN
from releases.models import Release

# A device that was not heard of for so many poll intervals, and at least an hour, is silent.
SILENT_POLLS = 10

_KINDS = """
WITH target AS (
    SELECT * FROM unnest(%(cis)s::bigint[], %(waves)s::int[]) AS t(id, wave)
), package AS (
    SELECT p.*, v."order" FROM unnest(%(products)s::bigint[], %(versions)s::bigint[]) AS p(product_id, version_id)
    JOIN software_version v ON v.id = p.version_id
), file AS (
    SELECT a.version_id, a.format, sum(a.size) AS bytes
    FROM software_artifact a WHERE a.version_id = ANY(%(versions)s) GROUP BY 1, 2
), fresh AS (
    SELECT * FROM unnest(%(fresh_cis)s::bigint[], %(fresh_products)s::bigint[]) AS f(ci_id, product_id)
), item AS (
    SELECT t.id AS ci_id, p.version_id, iv.version_id IS NOT DISTINCT FROM p.version_id AS is_there
    FROM target t CROSS JOIN package p
    LEFT JOIN cmdb_installedversion iv ON iv.ci_id = t.id AND iv.product_id = p.product_id AND iv.valid_to IS NULL
    LEFT JOIN software_version running ON running.id = iv.version_id
    WHERE iv.id IS NOT NULL AND (running.id IS NULL OR running."order" <= p."order")
        OR iv.id IS NULL AND (t.id, p.product_id) IN (SELECT ci_id, product_id FROM fresh)
), need AS (
    SELECT t.wave, c.ci_class_id, c.channel, coalesce(c.maintenance_window_id, kind.maintenance_window_id) AS window_id,
        c.channel = 'ddi' AND coalesce(profile.can_wait, true) AS can_wait, bool_and(item.is_there) AS is_there,
        t.id IN (SELECT unnest(%(excluded)s::bigint[])) AND NOT bool_and(item.is_there) AS is_excluded,
        coalesce(sum(file.bytes), 0) AS bytes,
        c.channel = 'ddi' AND coalesce(greatest(c.last_seen_at, c.attributes_at) < %(silent_since)s, true) AS is_silent
    FROM target t JOIN item ON item.ci_id = t.id
    JOIN cmdb_configurationitem c ON c.id = t.id JOIN cmdb_ciclass kind ON kind.id = c.ci_class_id
    LEFT JOIN cmdb_agentprofile profile ON profile.id = c.agent_profile_id
    LEFT JOIN file ON file.version_id = item.version_id AND file.format = coalesce(profile.takes, 'archive')
    GROUP BY t.wave, t.id, c.id, kind.id, profile.id
)
SELECT wave, ci_class_id, channel, window_id, can_wait,
    count(*) FILTER (WHERE NOT is_there AND NOT is_excluded), count(*) FILTER (WHERE is_there),
    count(*) FILTER (WHERE is_excluded), count(*) FILTER (WHERE is_silent AND NOT is_there AND NOT is_excluded),
    coalesce(sum(bytes) FILTER (WHERE NOT is_there AND NOT is_excluded), 0)::bigint
FROM need GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""
_PRESENT = """
SELECT p.name, iv.label, count(*)
FROM unnest(%(cis)s::bigint[]) AS t(id)
JOIN cmdb_installedversion iv ON iv.ci_id = t.id AND iv.valid_to IS NULL AND iv.product_id = ANY(%(products)s)
JOIN software_product p ON p.id = iv.product_id
GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2
"""
_OTHERS = """
WITH package AS (
    SELECT p.*, v."order" FROM unnest(%(products)s::bigint[], %(versions)s::bigint[]) AS p(product_id, version_id)
    JOIN software_version v ON v.id = p.version_id
), other AS (
    SELECT b.label, b.purpose, d.state, b.purpose = 'forward' AND NOT EXISTS (
        SELECT 1 FROM distribution_deploymentitem i JOIN software_version had ON had.id = i.to_version_id
        LEFT JOIN package p ON p.product_id = i.product_id AND p."order" >= had."order"
        WHERE i.deployment_id = d.id AND p.product_id IS NULL) AS is_covered
    FROM unnest(%(cis)s::bigint[]) AS t(id)
    JOIN distribution_deployment d ON d.ci_id = t.id AND d.state = ANY(%(open)s)
    JOIN distribution_batch b ON b.id = d.batch_id
    WHERE b.id <> ALL(%(own)s)
)
SELECT label, purpose, count(*), count(*) FILTER (WHERE state = 'queued'),
    count(*) FILTER (WHERE state = 'queued' AND is_covered),
    count(*) FILTER (WHERE state IN ('offered', 'downloading') AND is_covered)
FROM other GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """Targets of one wave that behave alike. `changing` get it, `already` run it, `excluded` do not get it.

    Of those that get it `silent` were not heard of lately.
    """

    wave: int
    ci_class: int
    channel: str
    window: int | None
    can_wait: bool
    changing: int
    already: int
    excluded: int
    silent: int
    bytes: int  # of all that change together

    @property
    def bytes_each(self) -> float:
        return self.bytes / self.changing if self.changing else 0.0


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another rollout with open deployments on the same CIs, and what would become of them.

    `superseded` would make way, `stopped` would be asked to stop; for the rest this rollout waits, CI by CI.
    """

    label: str
    purpose: str
    cis: int
    waiting: int
    superseded: int
    stopped: int

    @property
    def under_way(self) -> int:
        return self.cis - self.waiting

    @property
    def awaited(self) -> int:
        """CIs on which this rollout waits until the other one has ended."""
        return self.cis - self.superseded


def kinds_of(
    cis: Sequence[int],
    waves: Sequence[int],
    package: dict[int, int],
    *,
    fresh: Mapping[int, Iterable[int]],
    excluded: Sequence[int],
    now: datetime,
) -> list[Kind]:
    """The targets counted by wave and kind; `waves` are the numbers of their waves, in the order of `cis`.

    `excluded` are the targets that the freeze leaves out.
    """
    pairs = [(ci, product) for ci, products in fresh.items() for product in products]
    silence = max(timedelta(hours=1), timedelta(seconds=SILENT_POLLS * settings.DDI_POLL_SECONDS))
    rows = _rows(
        _KINDS,
        cis=cis,
        waves=waves,
        excluded=excluded,
        products=list(package),
        versions=list(package.values()),
        fresh_cis=[pair[0] for pair in pairs],
        fresh_products=[pair[1] for pair in pairs],
        silent_since=now - silence,
    )
    return [Kind(*row) for row in rows]


def present_versions(cis: Sequence[int], package: dict[int, int]) -> list[tuple[str, str, int]]:
    """What the targets run now: product, label, number of CIs."""
    return [(name, label, count) for name, label, count in _rows(_PRESENT, cis=cis, products=list(package))]


def conflicts_of(release: Release, cis: Sequence[int], package: dict[int, int], *, supersedes: bool) -> list[Conflict]:
    """Other rollouts and rollbacks that are queued or under way on the CIs."""
    rows = _rows(
        _OTHERS,
        cis=cis,
        products=list(package),
        versions=list(package.values()),
        own=list(release.rollouts.filter(waves__isnull=False).values_list("waves__batch", flat=True)),
        open=[str(state) for state in OPEN],
    )
    return [
        Conflict(label, purpose, number, waiting, *((superseded, stopped) if supersedes else (0, 0)))
        for label, purpose, number, waiting, superseded, stopped in rows
    ]


def openings_of(window: MaintenanceWindow, start: datetime, days: int) -> tuple[tuple[float, float], ...]:
    """When the window is open within so many days, in seconds since the start."""
    found: list[tuple[float, float]] = []
    at, until = start, start + timedelta(days=days)
    while at < until:
        begin, end = window.occurrence(at)
        if begin >= until:
            break
        first = max(0.0, (begin - start).total_seconds())
        # Occurrences that overlap are one opening.
        if found and first <= found[-1][1]:
            first = found.pop()[0]
        found.append((first, (end - start).total_seconds()))
        at = end
    return tuple(found)


def freezes_of(release: Release, start: datetime) -> tuple[Freeze, ...]:
    """The freezes that bind this release and are not over by then, the earliest first."""
    found = Freeze.objects.filter(ends_at__gt=start).order_by("starts_at", "pk")
    if release.release_type == Release.Type.EMERGENCY:
        found = found.filter(binds_emergencies=True)
    return tuple(found)


def openings_between(freezes: Iterable[Freeze], start: datetime) -> tuple[tuple[float, float], ...]:
    """When no freeze is in force, in seconds since the start; freezes come in the order of their beginning."""
    found, at = [], 0.0
    for freeze in freezes:
        begins = (freeze.starts_at - start).total_seconds()
        if begins > at:
            found.append((at, begins))
        at = max(at, (freeze.ends_at - start).total_seconds())
    return (*found, (at, math.inf))


def windows(ids: Iterable[int | None]) -> dict[int, MaintenanceWindow]:
    return MaintenanceWindow.objects.in_bulk([key for key in ids if key is not None])


def _rows(statement: str, **params: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, {name: list(v) if isinstance(v, tuple) else v for name, v in params.items()})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
