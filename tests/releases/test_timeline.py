"""The time line of the dry run: a simulation on counts."""

import math

import pytest

from releases.dry_run.forecast import reached_if_bad, run_rollout
from releases.dry_run.timeline import ALWAYS, Crowd, Spread, both_open, next_open, run_wave
from releases.policy import RolloutPolicy

EXACT = Spread(60, 60)
HOUR, DAY = 3600.0, 86400.0


def crowd(size: int, **values) -> Crowd:
    return Crowd(**{"size": size, "download": Spread(20, 20), "total": EXACT, **values})


def end(moments) -> float:
    return moments[-1].at


def test_without_caps_everybody_is_done_after_the_poll_interval_and_one_duration() -> None:
    moments = run_wave([crowd(1000, asks_within=300)], start=0)
    assert end(moments) == pytest.approx(360, rel=0.05)
    assert moments[-1].confirmed == pytest.approx(1000)
    # Arrivals at 1000/300 s, each downloading for 20 s.
    assert max(m.downloading for m in moments) == pytest.approx(1000 / 300 * 20, rel=0.15)


@pytest.mark.parametrize(("size", "cap"), [(100, 10), (1000, 10), (100_000, 10), (50, 7)])
def test_a_cap_makes_it_last_as_many_turns_as_it_needs(size: int, cap: int) -> None:
    moments = run_wave([crowd(size)], start=0, max_in_flight=cap)
    assert end(moments) == pytest.approx(60 * size / cap, rel=0.12)
    capped = run_wave([crowd(size)], start=0, max_downloads=cap)
    assert end(capped) == pytest.approx(20 * size / cap + 40, rel=0.12)
    assert max(m.downloading for m in capped) <= cap


def test_the_number_of_steps_does_not_grow_with_the_fleet() -> None:
    few, many = (run_wave([crowd(size)], start=0, max_in_flight=5) for size in (1000, 1_000_000))
    assert len(many) < 1.5 * len(few) + 10
    assert len(many) < 2000


def test_a_closed_window_holds_the_offers_back() -> None:
    nightly = tuple((day * DAY + 2 * HOUR, day * DAY + 4 * HOUR) for day in range(10))
    moments = run_wave([crowd(100, offers=nightly, asks_at_opening=30)], start=0)
    assert next(m.at for m in moments if m.offered > 0) >= 2 * HOUR
    assert end(moments) == pytest.approx(2 * HOUR + 90, rel=0.05)


def test_what_does_not_fit_into_a_window_goes_on_in_the_next_one() -> None:
    nightly = tuple((day * DAY, day * DAY + HOUR) for day in range(10))
    # 60 in an hour, so 150 need three nights.
    moments = run_wave([crowd(150, offers=nightly)], start=0, max_in_flight=1)
    assert 2 * DAY < end(moments) < 2 * DAY + HOUR
    assert all(m.confirmed <= 130 for m in moments if m.at < 2 * DAY)


def test_who_waits_itself_fetches_before_the_window_and_installs_in_it() -> None:
    moments = run_wave([crowd(10, installs=((HOUR, 2 * HOUR),))], start=0)
    assert max(m.downloading for m in moments if m.at > 60) == 0
    assert all(m.confirmed == 0 for m in moments if m.at < HOUR)
    assert end(moments) == pytest.approx(HOUR + 40, rel=0.02)


def test_a_window_that_never_opens_again_ends_the_time_line_without_an_end() -> None:
    moments = run_wave([crowd(10, offers=((0, 1),))], start=5)
    assert moments[-1].confirmed == 0
    run = run_rollout([[crowd(10, offers=((0, 1),), asks_within=100)]], RolloutPolicy(waves=({"rest": True},)))
    assert math.isinf(run.waves[0].reached)
    assert math.isinf(run.ends)
    assert run.mixed_seconds is None


def test_the_slowest_of_many_takes_longer_than_the_slowest_of_few() -> None:
    spread = Spread(60, 120)
    few, many = (end(run_wave([crowd(size, total=spread)], start=0)) for size in (5, 5000))
    assert 80 < few < 150
    assert many > 2 * few


def test_a_push_channel_serves_so_many_at_once() -> None:
    moments = run_wave([crowd(100, lanes=20)], start=0)
    assert end(moments) == pytest.approx(300, rel=0.12)


def test_the_median_and_the_slowest_tenth_come_back_from_the_spread() -> None:
    spread = Spread(60, 300)
    assert spread.quantile(0.5) == pytest.approx(60)
    assert spread.quantile(0.9) == pytest.approx(300)
    assert spread.slower().quantile(0.5) == pytest.approx(300)
    assert Spread(0, 0).quantile(0.99) == 0


def test_openings_are_found_and_cut() -> None:
    assert next_open(((10, 20), (30, 40)), 15) == 15
    assert next_open(((10, 20), (30, 40)), 20) == 30
    assert math.isinf(next_open(((10, 20),), 20))
    assert both_open(((0, 10), (20, 30)), ((5, 25),)) == ((5, 10), (20, 25))
    assert both_open(ALWAYS, ((5, 25),)) == ((5, 25),)


POLICY = RolloutPolicy(soak_seconds=600, error_threshold=10)


def test_waves_follow_each_other_after_their_problem_free_time() -> None:
    run = run_rollout([[crowd(1)], [crowd(25)], [crowd(74)]], POLICY)
    opens = [wave.opens for wave in run.waves]
    assert opens == pytest.approx([0, 660, 1320], rel=0.05)
    assert run.ends == pytest.approx(1980, rel=0.05)
    assert run.updated == pytest.approx(1380, rel=0.05)
    assert run.mixed_seconds == pytest.approx(1320, rel=0.05)
    # Those of a wave that has passed are not at risk any more.
    assert run.most_at_risk == 74
    assert run.points[-1].updated == pytest.approx(100)
    assert run.points[-1].at_risk == 0


def test_a_version_that_fails_everywhere_reaches_the_first_wave_only() -> None:
    phased = run_rollout([[crowd(1)], [crowd(99)]], POLICY)
    assert reached_if_bad(phased, POLICY) == 1
    at_once = run_rollout([[crowd(100, asks_within=300)]], POLICY)
    # 11 have failed after 33 + 60 s; by then 31 have asked.
    assert 28 <= reached_if_bad(at_once, POLICY) <= 34


def test_who_runs_it_already_counts_towards_the_threshold() -> None:
    run = run_rollout([[crowd(0, already=10)], [crowd(5, already=95)]], POLICY)
    assert run.waves[0].reached == 0
    assert run.points[-1].updated == pytest.approx(110)
    assert run.most_at_risk == 5
