"""Looking for free time between what is taken. Pure: intervals of UTC times, each with its end left out."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

Interval = tuple[datetime, datetime]

STEP = timedelta(minutes=15)


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """In order, those that overlap or touch each other as one."""
    found: list[Interval] = []
    for begin, end in sorted(intervals):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def common(one: Sequence[Interval], other: Sequence[Interval]) -> list[Interval]:
    """What both have; each is merged."""
    found, i, j = [], 0, 0
    while i < len(one) and j < len(other):
        begin, end = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if begin < end:
            found.append((begin, end))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return found


def free_times(after: datetime, until: datetime, *, busy: Iterable[Interval]) -> list[Interval]:
    """What is left of [after, until)."""
    found, at = [], after
    for begin, end in merged(busy):
        if begin > at:
            found.append((at, min(begin, until)))
        at = max(at, end)
        if at >= until:
            return found
    return [*found, (at, until)]


def first_fits(times: Iterable[Interval], length: timedelta, *, count: int) -> list[Interval]:
    """The first places for something so long, at full quarters of an hour; in the same gap a day apart."""
    found: list[Interval] = []
    for begin, end in times:
        start = _next_quarter(begin)
        while start + length <= end and len(found) < count:
            found.append((start, start + length))
            start += timedelta(days=1)
    return found


def _next_quarter(moment: datetime) -> datetime:
    rest = (moment - datetime(2000, 1, 1, tzinfo=UTC)) % STEP
    return moment + (STEP - rest) if rest else moment
