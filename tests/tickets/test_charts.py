"""Charts: what is drawn stands in the table, on a scale that people can read."""

import pytest

from tickets.charts import Chart, Mark, Series, bars


def chart(*series: Series, **values) -> Chart:
    count = len(series[0].values)
    return Chart("Changes", [f"day {n}" for n in range(1, count + 1)], series, **values)


@pytest.mark.parametrize(
    ("most", "steps"),
    [(0, [0, 1]), (1, [0, 1]), (2, [0, 1, 2]), (7, [0, 5, 10]), (30, [0, 10, 20, 30]), (100_000, [0, 50_000, 100_000])],
)
def test_the_scale_has_few_round_numbers(most: int, steps: list[int]) -> None:
    assert chart(Series("failed", "red", [most])).steps == steps


def test_bars_stand_on_each_other_and_a_line_does_not() -> None:
    stacked = chart(Series("good", "green", [6, 1]), Series("bad", "red", [4, 0]))
    assert stacked.steps[-1] == 10
    good, bad = stacked.shapes
    assert good.path.startswith("M50.0 100.0V40.0")
    assert bad.path == "M50.0 40.0V0.0h400.0V40.0z"
    assert chart(Series("good", "green", [6], "line"), Series("bad", "red", [4], "line")).steps[-1] == 6


def test_a_missing_value_is_a_gap_and_not_a_zero() -> None:
    gap = chart(Series("rate", "red", [1, None, 3, 3], "line"), unit="%", decimals=1)
    assert gap.shapes[0].path.count("M") == 2
    assert [values[0] for _name, values in gap.rows] == ["1.0 %", "–", "3.0 %", "3.0 %"]


def test_two_charts_on_one_scale_are_comparable() -> None:
    low = chart(Series("load", "blue", [2, 1], "area"), highest=10)
    assert low.shapes[0].path.startswith("M0.0 80.0L1000.0 90.0")


def test_it_tells_in_words_what_it_shows() -> None:
    shown = chart(Series("failed", "red", [2, 9, 4], "line"))
    assert shown.summary == "failed: at most 9, at last 4"
    assert chart(Series("failed", "red", [None, None])).is_empty
    assert not chart(Series("failed", "red", [0, 0])).is_empty


def test_many_columns_have_few_names_and_marks_stay_within_the_picture() -> None:
    long = chart(Series("failed", "red", [1] * 40), marks=[Mark(0, "1"), Mark(1, "2")])
    assert len(long.labels) <= 5
    assert [(mark.at, mark.anchor) for mark in long.upright] == [(0, "start"), (100, "end")]


def test_bars_share_a_scale_and_what_never_ends_fills_its_line() -> None:
    found = bars([("a", "blue", 50.0, "50 s"), ("b", "green", 200.0, "200 s"), ("c", "red", None, "never")])
    assert [bar.percent for bar in found] == [25.0, 100.0, 100.0]
