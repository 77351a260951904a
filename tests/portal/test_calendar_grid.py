"""Where entries stand on the calendar: whole cells, in the reader's zone, and what has no room is counted."""

import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cmdb.windows import occurrence, occurrences
from itsm_portal.calendar import grid
from itsm_portal.calendar.entries import Entry
from itsm_portal.calendar.planned_waves import earliest_waves

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = date(2026, 11, 2)
HOUR = timedelta(hours=1)


def entry(start: datetime, hours: float, key: str = "chg-1") -> Entry:
    return Entry("change", key, key.upper(), "Title", "scheduled", "scheduled", start, start + hours * HOUR, "/x/")


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def test_a_month_has_all_weeks_that_have_a_day_of_it() -> None:
    assert grid.month_days(date(2026, 11, 15)) == [date(2026, 10, 26) + timedelta(days=7 * n) for n in range(6)]
    assert len(grid.month_days(date(2027, 2, 1))) == 4


def test_a_bar_goes_over_its_days_by_the_clock_of_the_reader() -> None:
    late = entry(at(3, 22, 30), 1)  # 23:30 to 0:30 in Berlin
    week = grid.month_week(MONDAY, [late], BERLIN, today=MONDAY, month=11)
    assert [(bar.column, bar.span, bar.lane) for bar in week.bars] == [(2, 2, 1)]
    week = grid.month_week(MONDAY, [late], ZoneInfo("UTC"), today=MONDAY, month=11)
    assert [(bar.column, bar.span) for bar in week.bars] == [(2, 1)]
    until_midnight = entry(at(3, 20), 4)
    week = grid.month_week(MONDAY, [until_midnight], ZoneInfo("UTC"), today=MONDAY, month=11)
    assert [bar.span for bar in week.bars] == [1]


def test_what_goes_on_outside_the_week_says_so() -> None:
    long = entry(at(1, 12), 24 * 30)
    bar = grid.month_week(MONDAY, [long], BERLIN, today=MONDAY, month=11).bars[0]
    assert (bar.column, bar.span, bar.has_past, bar.has_future) == (1, 7, True, True)


def test_a_day_shows_four_and_counts_the_rest() -> None:
    many = [entry(at(4, 8), 1, f"chg-{n}") for n in range(1000)]
    week = grid.month_week(MONDAY, many, BERLIN, today=MONDAY, month=11)
    assert [(bar.column, bar.lane) for bar in week.bars] == [(3, lane) for lane in (1, 2, 3, 4)]
    assert [day.more for day in week.days] == [0, 0, 996, 0, 0, 0, 0]


def test_no_two_bars_of_a_week_stand_on_each_other() -> None:
    some = [entry(at(2 + n % 5, n % 24), 1 + (n * 7) % 60, f"chg-{n}") for n in range(60)]
    for week in (
        grid.month_week(MONDAY, some, BERLIN, today=MONDAY, month=11),
        grid.week(MONDAY, some, BERLIN, today=MONDAY),
    ):
        cells = [(bar.lane, column) for bar in week.bars for column in range(bar.column, bar.column + bar.span)]
        assert len(cells) == len(set(cells))
        for day in week.days:
            parts = [
                (row, block.lane / block.lanes)
                for block in day.blocks
                for row in range(block.row, block.row + block.span)
            ]
            assert len(parts) == len(set(parts))
            assert all(block.row + block.span <= grid.QUARTERS + 1 for block in day.blocks)


def test_the_hours_of_a_week_are_quarters_and_midnight_divides() -> None:
    week = grid.week(MONDAY, [entry(at(3, 22, 40), 1.5), entry(at(5, 9, 7), 0.1, "chg-2")], BERLIN, today=MONDAY)
    # 23:40 to 1:10 in Berlin; an entry of six minutes is still half an hour high.
    assert [(d.date.day, b.row, b.span) for d in week.days for b in d.blocks] == [(3, 95, 2), (4, 1, 5), (5, 41, 2)]


def test_the_day_of_the_clock_change_is_drawn_by_the_clock_on_the_wall() -> None:
    sunday = date(2026, 10, 25)  # 3:00 becomes 2:00
    week = grid.week(grid.monday_of(sunday), [entry(datetime(2026, 10, 25, 9, tzinfo=UTC), 1)], BERLIN, today=sunday)
    assert [(block.row, block.span) for block in week.days[6].blocks] == [(41, 4)]


def test_a_row_of_the_time_line_has_slots_of_three_hours() -> None:
    zone = ZoneInfo("UTC")
    row = grid.line_row("srv", "", MONDAY, [entry(at(2, 5), 2), entry(at(16, 5), 1, "chg-2")], (), zone)
    assert [(bar.column, bar.span) for bar in row.bars] == [(2, 2)]
    nine = [entry(at(4, 1), 1, f"chg-{n}") for n in range(9)]
    row = grid.line_row("srv", "", MONDAY, nine, [entry(at(3, 22), 6)], zone)
    assert (len(row.bars), row.more) == (5, 4)
    assert [(bar.column, bar.span) for bar in row.bands] == [(16, 3)]


def test_every_place_that_the_layout_gives_has_its_class() -> None:
    text = (Path(__file__).parents[2] / "static" / "portal" / "calendar-places.css").read_text()
    there = set(re.findall(r"^  \.([a-z0-9-]+) ", text, re.MULTILINE))
    columns, quarters = range(1, grid.LINE_DAYS * grid.SLOTS_PER_DAY + 1), range(1, grid.QUARTERS + 1)
    wanted = {f"{name}-{n}" for name in ("at", "for") for n in columns}
    wanted |= {f"{name}-{n}" for name in ("from", "rows") for n in quarters}
    wanted |= {f"lane-{n}" for n in range(1, max(grid.MONTH_LANES, grid.ROW_LANES) + 1)}
    wanted |= {f"part-{n}-{of}" for of in range(1, grid.DAY_LANES + 1) for n in range(1, of + 1)}
    assert there == wanted


def test_planned_waves_open_one_problem_free_period_after_the_other() -> None:
    policy = {"waves": [{"count": 1}, {"rest": True}], "soak_seconds": 7200}
    spans = earliest_waves(policy, (), start=at(2, 9), now=at(1, 0))
    assert [(span.number, span.start, span.end) for span in spans] == [
        (1, at(2, 9), at(2, 11)), (2, at(2, 11), at(2, 13)),
    ]  # fmt: skip
    assert earliest_waves({"waves": "nonsense"}, (), start=at(2, 9), now=at(1, 0)) == []


@pytest.mark.parametrize("weekdays", ["1", "15", "1234567"])
def test_all_occurrences_of_a_window_are_those_that_one_finds_one_by_one(weekdays: str) -> None:
    after, before = datetime(2026, 10, 20, 3, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC)
    shape = (weekdays, time(22, 30), timedelta(hours=5), "Europe/Berlin")
    one_by_one, moment = [], after
    while (found := occurrence(*shape, moment))[0] < before:
        one_by_one.append(found)
        moment = found[1]
    assert occurrences(*shape, after, before) == one_by_one
