"""A rollout over time: how many CIs run the new version, and how many came to it or failed how fast.

Counted in SQL by what the index of deployments holds (batch, state, when it moved): no deployment is read, no event.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from releases.models import Rollout, Wave
from tickets.charts import Chart, Mark, Series

# Seconds that one column may stand for: so that a chart has about as many as this.
_WIDTHS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400, 604_800)
_MOST_COLUMNS = 40
# A minute, an hour, a day.
_UNITS = (60, 3600, 86_400)
# Beyond this many waves their numbers would stand on each other.
_MOST_MARKS = 12

_ENDS = """
SELECT batch_id, state, floor(extract(epoch FROM moved_at) / %(width)s)::bigint AS column_number, count(*)
FROM distribution_deployment
WHERE batch_id = ANY(%(batches)s) AND state = ANY(%(states)s)
GROUP BY batch_id, state, column_number
"""
_LAST_END = """
SELECT max(newest.moved_at)
FROM unnest(%(batches)s::bigint[]) AS b(id) CROSS JOIN unnest(%(states)s::text[]) AS s(state)
CROSS JOIN LATERAL (
    SELECT moved_at FROM distribution_deployment d WHERE d.batch_id = b.id AND d.state = s.state
    ORDER BY moved_at DESC LIMIT 1) newest
"""
_STATES = ["succeeded", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Census:
    """Columns of `width` seconds from `begin` on. `updated`: CIs on the new version at the end of each column;
    `installed`, `failed`, `returned`: how many came to that end within it. `elapsed`: seconds of each that lie between
    the beginning and the end of the rollout.
    """

    begin: datetime
    width: int
    total: int
    updated: list[int]
    installed: list[int]
    failed: list[int]
    returned: list[int]
    elapsed: list[float]

    @property
    def moments(self) -> list[datetime]:
        """The beginning of each column."""
        return [self.begin + timedelta(seconds=self.width * number) for number in range(len(self.updated))]

    @property
    def unit(self) -> int:
        """Seconds that rates are told for, not below a column's width: so a rate is zero only where nothing came."""
        return next((unit for unit in _UNITS if self.width <= unit), _UNITS[-1])

    def rates(self, ends: Sequence[int]) -> list[float]:
        """How many per `unit` in each column."""
        return [self.unit * count / seconds for count, seconds in zip(ends, self.elapsed, strict=True)]


def census_of(rollout: Rollout, waves: Sequence[Wave], *, now: datetime) -> Census:
    """The rollout until now, or until its last CI has ended; two statements, whatever its size."""
    batches = {wave.batch_id: wave.kind for wave in waves}
    asked: dict[str, Any] = {"batches": list(batches), "states": _STATES}
    with connection.cursor() as cursor:
        cursor.execute(_LAST_END, asked)
        last = cursor.fetchone()[0]
        end = now if rollout.finished_at is None else max(rollout.finished_at, last or rollout.finished_at)
        end = max(end, rollout.started_at)  # the clock of another host may be behind that of the one that started it
        span = max((end - rollout.started_at).total_seconds(), 1)
        width = next((one for one in _WIDTHS if span / one < _MOST_COLUMNS), _WIDTHS[-1])
        cursor.execute(_ENDS, {**asked, "width": width})
        rows = cursor.fetchall()
    first, beyond = int(rollout.started_at.timestamp() // width), int(end.timestamp() // width) + 1
    ends: dict[str, Counter[int]] = {name: Counter() for name in ("updated", "installed", "failed", "returned")}
    for batch, state, number, count in rows:
        place = min(max(number, first), beyond - 1) - first
        if batches[batch] == Wave.Kind.ROLLBACK:
            if state == "succeeded":
                ends["returned"][place] += count
        elif state == "failed":
            ends["failed"][place] += count
        else:
            ends["updated"][place] += count
            if state == "succeeded":
                ends["installed"][place] += count
    columns = range(beyond - first)
    updated, so_far = [], 0
    for place in columns:
        so_far += ends["updated"][place] - ends["returned"][place]
        updated.append(max(so_far, 0))
    installed, failed, returned = (
        [ends[name][place] for place in columns] for name in ("installed", "failed", "returned")
    )
    total = rollout.target_count or sum(wave.size for wave in waves if wave.kind == Wave.Kind.FORWARD)
    begin = datetime.fromtimestamp(first * width, UTC)
    elapsed = [float(width)] * len(columns)
    elapsed[0] -= (rollout.started_at - begin).total_seconds()
    elapsed[-1] -= (begin + timedelta(seconds=width * len(columns)) - end).total_seconds()
    elapsed = [max(seconds, 1.0) for seconds in elapsed]
    return Census(begin, width, max(total, *updated), updated, installed, failed, returned, elapsed)


def charts_of(census: Census, waves: Sequence[Wave]) -> list[Chart]:
    """The versions over time and the installations per minute, hour or day."""
    names = [_name(moment, census) for moment in census.moments]
    length = census.width * len(names)
    opened = [wave for wave in waves if wave.started_at and wave.kind == Wave.Kind.FORWARD]
    marks = [
        Mark((wave.started_at - census.begin).total_seconds() / length, str(wave.number))
        for wave in (opened if len(opened) <= _MOST_MARKS else [])
        if wave.started_at
    ]
    rest = [census.total - count for count in census.updated]
    rates = [
        Series(_("installed"), "green", census.rates(census.installed)),
        Series(_("failed"), "red", census.rates(census.failed)),
    ]
    if any(census.returned):
        rates.append(Series(_("gone back"), "violet", census.rates(census.returned)))
    titles = dict(
        zip(
            _UNITS,
            (_("Installations per minute"), _("Installations per hour"), _("Installations per day")),
            strict=True,
        )
    )
    return [
        Chart(
            _("CIs by version; the numbers above are the waves"),
            names,
            [
                Series(_("new version"), "green", census.updated, "area"),
                Series(_("not, or not any more"), "neutral", rest, "area"),
            ],
            marks=marks,
            first=_("From"),
        ),
        Chart(titles[census.unit], names, rates, decimals=1 if census.width > census.unit else 0, first=_("From")),
    ]


def _name(moment: datetime, census: Census) -> str:
    local = localtime(moment)
    if census.width >= 86_400:
        return date_format(local, "MONTH_DAY_FORMAT")
    if census.width * len(census.updated) > 86_400:
        return f"{date_format(local, 'MONTH_DAY_FORMAT')} {local:%H:%M}"
    return date_format(local, "H:i" if census.width >= 60 else "H:i:s")
