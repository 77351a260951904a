"""Where an entry stands on a calendar page: pure layout in whole cells, in the reader's zone.

Pages place everything by classes (`static/portal/calendar.css`), since the policy allows no style attributes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo

from itsm_portal.calendar.entries import Entry

# Bars of a week in a month, entries beside each other in a week's day, and lanes of a row of the time line.
MONTH_LANES, DAY_LANES, ROW_LANES = 4, 3, 5
# A quarter of an hour is a row of the week; the least height is two of them.
QUARTERS = 96
LEAST_QUARTERS = 2
# The time line: so many days, in slots of three hours; the least width is two of them.
LINE_DAYS, SLOTS_PER_DAY = 14, 8
LEAST_SLOTS = 2
ONE_DAY = timedelta(days=1)


@dataclass(slots=True)
class Day:
    """A cell of the month or a column of the week. `more`: entries that have no room."""

    date: date
    is_today: bool
    is_outside: bool = False
    more: int = 0
    blocks: list["Block"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bar:
    """An entry over whole columns, counted from 1. `has_past` and `has_future`: it goes on outside."""

    entry: Entry
    column: int
    span: int
    lane: int
    has_past: bool
    has_future: bool


@dataclass(frozen=True, slots=True)
class Block:
    """A part of an entry in a day: rows of quarters of an hour, counted from 1; `lane` of `lanes` beside each other."""

    entry: Entry
    row: int
    span: int
    lane: int
    lanes: int


@dataclass(slots=True)
class Week:
    """Seven days, and the bars over them."""

    days: list[Day]
    bars: list[Bar]

    @property
    def lanes(self) -> int:
        return max((bar.lane for bar in self.bars), default=0)


def day_start(day: date, zone: tzinfo) -> datetime:
    """Midnight of a day by the reader's clock."""
    return datetime.combine(day, time(), tzinfo=zone)


def monday_of(day: date) -> date:
    return day - timedelta(days=day.weekday())


def month_days(day: date) -> list[date]:
    """The Mondays of the weeks that have a day of this month."""
    first = day.replace(day=1)
    monday, found = monday_of(first), []
    while monday < first or (monday.month, monday.year) == (first.month, first.year):
        found.append(monday)
        monday += timedelta(days=7)
    return found


def days_of(entry: Entry, zone: tzinfo) -> tuple[date, date]:
    """First and last day of an entry; one that ends at midnight does not reach the next day."""
    first = entry.start.astimezone(zone).date()
    last = (entry.end - timedelta(microseconds=1)).astimezone(zone).date()
    return first, max(first, last)


def month_week(monday: date, entries: Iterable[Entry], zone: tzinfo, *, today: date, month: int | None) -> Week:
    """A week of the month; what has no room is counted in its days."""
    days = [
        Day(day, day == today, is_outside=month is not None and day.month != month)
        for day in (monday + timedelta(days=offset) for offset in range(7))
    ]
    spans = []
    for entry in entries:
        first, last = days_of(entry, zone)
        if first <= days[-1].date and last >= monday:
            spans.append((entry, (first - monday).days, (last - monday).days))
    bars = []
    for entry, first_day, last_day, lane in _lanes(spans, columns=7):
        column, end = max(first_day, 0), min(last_day, 6)
        if lane > MONTH_LANES:
            for index in range(column, end + 1):
                days[index].more += 1
            continue
        bars.append(Bar(entry, column + 1, end - column + 1, lane, first_day < 0, last_day > 6))
    # As people read them: day by day.
    return Week(days, sorted(bars, key=lambda bar: (bar.column, bar.lane)))


def _lanes(spans: list[tuple[Entry, int, int]], *, columns: int) -> list[tuple[Entry, int, int, int]]:
    """Gives each span the first lane that is free over all its columns; the longest and earliest first."""
    spans.sort(key=lambda span: (max(span[1], 0), -(min(span[2], columns - 1) - max(span[1], 0)), span[0].start))
    taken: list[int] = []  # up to which column each lane is used
    found = []
    for entry, first, last in spans:
        begin, end = max(first, 0), min(last, columns - 1)
        lane = next((index for index, used in enumerate(taken) if used < begin), len(taken))
        if lane == len(taken):
            taken.append(end)
        else:
            taken[lane] = end
        found.append((entry, first, last, lane + 1))
    return found


def week(monday: date, entries: Sequence[Entry], zone: tzinfo, *, today: date) -> Week:
    """A week by the hour: what lasts a day or longer as bars above, the rest as blocks in its days."""
    found = month_week(monday, [e for e in entries if e.end - e.start >= ONE_DAY], zone, today=today, month=None)
    short = [entry for entry in entries if entry.end - entry.start < ONE_DAY]
    for day in found.days:
        begin, end = day_start(day.date, zone), day_start(day.date + ONE_DAY, zone)
        parts = [entry for entry in short if entry.start < end and entry.end > begin]
        _place(day, parts, zone)
    return found


def _place(day: Day, entries: list[Entry], zone: tzinfo) -> None:
    """Entries that overlap stand beside each other, at most `DAY_LANES`; the rest is counted."""
    rows = sorted(((*_rows(day.date, entry, zone), entry) for entry in entries), key=lambda row: (row[0], -row[1]))
    cluster: list[tuple[int, int, int, Entry]] = []
    ends: list[int] = []

    def close() -> None:
        lanes = min(len(ends), DAY_LANES)
        day.blocks += [Block(entry, row, span, lane, lanes) for row, span, lane, entry in cluster]
        cluster.clear()
        ends.clear()

    for row, span, entry in rows:
        if ends and row >= max(ends):
            close()
        lane = next((index for index, end in enumerate(ends) if end <= row), len(ends))
        if lane >= DAY_LANES:
            day.more += 1
            continue
        if lane == len(ends):
            ends.append(row + span)
        else:
            ends[lane] = row + span
        cluster.append((row, span, lane + 1, entry))
    close()


def _rows(day: date, entry: Entry, zone: tzinfo) -> tuple[int, int]:
    """First row and number of rows of an entry on a day, by the clock on the wall."""
    start, end = entry.start.astimezone(zone), entry.end.astimezone(zone)
    first = _quarter(start) if start.date() == day else 0
    last = _quarter(end) + bool(end.minute % 15 or end.second) if end.date() == day else QUARTERS
    first = min(first, QUARTERS - LEAST_QUARTERS)
    return first + 1, max(last - first, LEAST_QUARTERS)


def _quarter(moment: datetime) -> int:
    return moment.hour * 4 + moment.minute // 15


@dataclass(frozen=True, slots=True)
class LineRow:
    """A row of the time line: windows lie as bands below the bars; `more` have no room."""

    label: str
    url: str
    bands: list[Bar]
    bars: list[Bar]
    more: int


def line_row(
    label: str, url: str, first: date, entries: Iterable[Entry], windows: Iterable[Entry], zone: tzinfo
) -> LineRow:
    """Places what concerns one resource; `first` is the first day of the line."""
    bars, more = [], 0
    for bar in _slots(first, entries, zone):
        if bar.lane > ROW_LANES:
            more += 1
        else:
            bars.append(bar)
    return LineRow(label, url, _slots(first, windows, zone), bars, more)


def _slots(first: date, entries: Iterable[Entry], zone: tzinfo) -> list[Bar]:
    columns = LINE_DAYS * SLOTS_PER_DAY
    spans = []
    for entry in entries:
        begin, end = _slot(first, entry.start, zone), _slot(first, entry.end - timedelta(microseconds=1), zone)
        if begin < columns and end >= 0:
            spans.append((entry, begin, max(begin + LEAST_SLOTS - 1, end)))
    bars = []
    for entry, begin, end, lane in _lanes(spans, columns=columns):
        column, last = max(begin, 0), min(end, columns - 1)
        bars.append(Bar(entry, column + 1, last - column + 1, lane, begin < 0, end >= columns))
    return sorted(bars, key=lambda bar: (bar.column, bar.lane))


def _slot(first: date, moment: datetime, zone: tzinfo) -> int:
    local = moment.astimezone(zone)
    return (local.date() - first).days * SLOTS_PER_DAY + local.hour * SLOTS_PER_DAY // 24
