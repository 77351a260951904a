"""The verdict on a wave as pure functions: error before success, nothing dropped from the denominator."""

from dataclasses import fields, replace
from datetime import timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from distribution.services import Counts
from releases import conditions
from releases.conditions import WaveNumbers
from releases.policy import RolloutPolicy
from tests.factories import NOW

KINDS = ("confirmed", "failed", "overdue", "excluded", "cancelled", "under_way")
POLICIES = st.builds(
    RolloutPolicy,
    success_threshold=st.integers(1, 100),
    error_threshold=st.integers(0, 100),
    overdue_counts_as=st.sampled_from(["failure", "skipped"]),
)


@st.composite
def numbers(draw: st.DrawFn) -> WaveNumbers:
    """Any wave: its CIs in any distribution over the kinds, some of the failures accepted."""
    values = {kind: draw(st.integers(0, 30)) for kind in KINDS}
    accepted = {kind: draw(st.integers(0, values[kind])) for kind in ("failed", "overdue", "cancelled")}
    return WaveNumbers(
        size=sum(values.values()),
        accepted=sum(accepted.values()),
        accepted_failed=accepted["failed"],
        accepted_overdue=accepted["overdue"],
        **values,
    )


def all_accepted(wave: WaveNumbers) -> WaveNumbers:
    lost = conditions.not_confirmed(wave)
    return replace(wave, accepted=lost, accepted_failed=wave.failed, accepted_overdue=wave.overdue)


@given(numbers(), POLICIES)
def test_one_more_failure_never_helps(wave: WaveNumbers, policy: RolloutPolicy) -> None:
    assume(wave.confirmed)
    worse = replace(wave, confirmed=wave.confirmed - 1, failed=wave.failed + 1)
    assert conditions.failures(worse, policy) == conditions.failures(wave, policy) + 1
    assert conditions.is_breached(worse, policy) or not conditions.is_breached(wave, policy)
    assert conditions.is_success_reached(wave, policy) or not conditions.is_success_reached(worse, policy)


@given(numbers(), POLICIES)
def test_one_more_confirmed_ci_never_hurts(wave: WaveNumbers, policy: RolloutPolicy) -> None:
    assume(wave.under_way)
    better = replace(wave, confirmed=wave.confirmed + 1, under_way=wave.under_way - 1)
    assert not conditions.is_breached(better, policy) or conditions.is_breached(wave, policy)
    assert conditions.is_success_reached(better, policy) or not conditions.is_success_reached(wave, policy)


@given(numbers(), POLICIES)
def test_a_stuck_wave_is_neither_breached_nor_successful_and_nothing_moves(
    wave: WaveNumbers, policy: RolloutPolicy
) -> None:
    if conditions.is_stuck(wave, policy):
        assert wave.under_way == 0
        assert not conditions.is_breached(wave, policy)
        assert not conditions.is_success_reached(wave, policy)


@given(numbers(), POLICIES)
def test_a_wave_at_rest_always_has_a_verdict(wave: WaveNumbers, policy: RolloutPolicy) -> None:
    wave = replace(wave, size=wave.size - wave.under_way, under_way=0)
    verdicts = (
        conditions.is_breached(wave, policy),
        conditions.is_success_reached(wave, policy),
        conditions.is_stuck(wave, policy),
    )
    assert any(verdicts)


@given(numbers(), POLICIES)
def test_when_everything_lost_is_accepted_nothing_counts_as_failed_and_the_rest_decides(
    wave: WaveNumbers, policy: RolloutPolicy
) -> None:
    wave = replace(all_accepted(wave), size=wave.size - wave.under_way, under_way=0)
    assert conditions.failures(wave, policy) == 0
    assert conditions.is_success_reached(wave, policy)


@given(numbers(), POLICIES, st.integers(1, 5))
def test_what_was_accepted_does_not_hide_what_fails_later(wave: WaveNumbers, policy: RolloutPolicy, later: int) -> None:
    wave = replace(all_accepted(wave), under_way=wave.under_way + later)
    worse = replace(wave, failed=wave.failed + later, under_way=wave.under_way - later)
    assert conditions.failures(worse, policy) == later


@given(st.integers(1, 100), st.integers(0, 100), st.integers(0, 100))
def test_thresholds_are_exact_percentages_of_the_frozen_size(size: int, failed: int, threshold: int) -> None:
    assume(failed <= size)
    wave = WaveNumbers(size, size - failed, failed, 0, 0, 0, 0)
    assert conditions.is_breached(wave, RolloutPolicy(error_threshold=threshold)) == (failed / size > threshold / 100)
    if threshold:
        reached = conditions.is_success_reached(wave, RolloutPolicy(success_threshold=threshold))
        assert reached == ((size - failed) * 100 >= threshold * size)


@pytest.mark.parametrize(
    ("wave", "policy", "breached", "reached", "stuck"),
    [
        # size, confirmed, failed, overdue, excluded, cancelled, under way
        ((4, 3, 1, 0, 0, 0, 0), {"error_threshold": 25}, False, False, True),
        ((4, 3, 1, 0, 0, 0, 0), {"error_threshold": 24, "success_threshold": 75}, True, True, False),
        ((4, 3, 0, 1, 0, 0, 0), {"error_threshold": 20}, True, False, False),
        ((4, 3, 0, 1, 0, 0, 0), {"error_threshold": 20, "overdue_counts_as": "skipped"}, False, True, False),
        ((4, 3, 0, 0, 1, 0, 0), {"error_threshold": 0}, False, True, False),
        ((4, 3, 0, 0, 0, 1, 0), {"error_threshold": 0}, False, False, True),
        ((4, 3, 0, 0, 0, 0, 1), {"error_threshold": 0}, False, False, False),
        ((0, 0, 0, 0, 0, 0, 0), {}, False, True, False),
        # … and of them accepted: all, failed, overdue
        ((4, 2, 1, 1, 0, 0, 0, 2, 1, 1), {"error_threshold": 0}, False, True, False),
        ((4, 1, 2, 1, 0, 0, 0, 2, 1, 1), {"error_threshold": 0}, True, False, False),
        ((4, 2, 1, 0, 0, 1, 0, 1, 1, 0), {"error_threshold": 0}, False, False, True),
        ((4, 2, 1, 0, 0, 1, 0, 1, 0, 0), {"error_threshold": 0}, True, False, False),
    ],
)
def test_examples(wave: tuple[int, ...], policy: dict[str, int], breached: bool, reached: bool, stuck: bool) -> None:
    values, rules = WaveNumbers(*wave), RolloutPolicy(**policy)  # type: ignore[arg-type]
    assert conditions.is_breached(values, rules) is breached
    assert conditions.is_success_reached(values, rules) is reached
    assert conditions.is_stuck(values, rules) is stuck


@given(st.builds(Counts, **{f.name: st.integers(0, 9) for f in fields(Counts) if f.name not in ("total", "overdue")}))
def test_every_ci_is_counted_once(counts: Counts) -> None:
    counts = replace(counts, total=counts.open + counts.terminal, overdue=min(2, counts.open))
    wave = conditions.numbers_of(counts, size=counts.total)
    assert sum(getattr(wave, kind) for kind in KINDS) == counts.total
    assert wave.confirmed == counts.succeeded + counts.skipped, "closed but not proven is not success"


@given(st.integers(1, 10**6))
def test_the_soak_is_over_exactly_after_its_seconds(seconds: int) -> None:
    policy = RolloutPolicy(soak_seconds=seconds)
    assert conditions.is_soak_over(NOW, NOW + timedelta(seconds=seconds), policy)
    assert not conditions.is_soak_over(NOW, NOW + timedelta(seconds=seconds, microseconds=-1), policy)
