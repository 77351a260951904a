"""What one strategy would mean: its waves on the clock, the load, the CIs at risk and the mix of versions. Pure."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from releases.dry_run.timeline import ALWAYS, Crowd, Moment, Opening, next_open, run_wave
from releases.policy import RolloutPolicy

_POINTS = 120
# Beyond a year a time line says nothing.
HORIZON = 366 * 86400.0


@dataclass(frozen=True, slots=True)
class WaveRun:
    """A wave on the clock, in seconds since the beginning of the rollout. Infinite: it never comes so far."""

    number: int
    size: int
    already: int
    opens: float
    reached: float
    passes: float
    moments: tuple[Moment, ...]

    def at(self, second: float) -> Moment:
        """How far it is at this time, between two moments in proportion."""
        place = bisect_right(self.moments, second, key=lambda moment: moment.at)
        if place == 0:
            return Moment(second, 0.0, 0.0, 0.0, 0.0)
        if place == len(self.moments):
            return self.moments[-1]
        one, other = self.moments[place - 1], self.moments[place]
        part = (second - one.at) / (other.at - one.at)
        between = (a + (b - a) * part for a, b in zip(_numbers(one), _numbers(other), strict=True))
        return Moment(second, *between)


def _numbers(moment: Moment) -> tuple[float, float, float, float]:
    return moment.offered, moment.confirmed, moment.downloading, moment.rate


@dataclass(frozen=True, slots=True)
class Point:
    """The whole rollout at one time: CIs on the new version, CIs that got it without it being proven, and the load."""

    at: float
    updated: float
    at_risk: float
    downloading: float
    rate: float


@dataclass(frozen=True, slots=True)
class Run:
    """A strategy on the clock."""

    waves: tuple[WaveRun, ...]
    points: tuple[Point, ...]

    @property
    def ends(self) -> float:
        """When the last wave has passed and nothing is under way."""
        return max((max(wave.passes, wave.moments[-1].at) for wave in self.waves), default=0.0)

    @property
    def updated(self) -> float:
        """When the last CI has confirmed the version."""
        if any(math.isinf(wave.reached) for wave in self.waves):
            return math.inf
        return max((wave.moments[-1].at for wave in self.waves if len(wave.moments) > 1), default=0.0)

    @property
    def mixed_seconds(self) -> float | None:
        """How long two versions are in use: from the first confirmation to the last; None: for ever."""
        first = next((moment.at for wave in self.waves for moment in wave.moments if moment.confirmed > 0), None)
        if math.isinf(self.updated):
            return None
        return self.updated - first if first is not None else 0.0

    @property
    def most_downloads(self) -> int:
        return math.ceil(max((m.downloading for wave in self.waves for m in wave.moments), default=0.0) - 1e-6)

    @property
    def highest_rate(self) -> float:
        """Bytes per second."""
        return max((m.rate for wave in self.waves for m in wave.moments), default=0.0)

    @property
    def most_at_risk(self) -> int:
        return math.ceil(max((point.at_risk for point in self.points), default=0.0) - 1e-6)


def run_rollout(waves: Sequence[Sequence[Crowd]], policy: RolloutPolicy, *, allowed: Sequence[Opening] = ALWAYS) -> Run:
    """Runs the waves one after the other; each opens when the one before has passed, and not outside `allowed`.

    It goes as planned: failures stay within the thresholds, and nobody stops it.
    """
    at = 0.0
    runs = []
    for number, crowds in enumerate(waves, start=1):
        at = next_open(allowed, at)
        run = _run(number, crowds, policy, at)
        runs.append(run)
        at = run.passes
        if math.isinf(at):
            break
    end = max([wave.passes for wave in runs if wave.passes < math.inf] + [w.moments[-1].at for w in runs] + [0.0])
    return Run(tuple(runs), tuple(_points(runs, end)))


def _run(number: int, crowds: Sequence[Crowd], policy: RolloutPolicy, opens: float) -> WaveRun:
    already, excluded = sum(crowd.already for crowd in crowds), sum(crowd.excluded for crowd in crowds)
    size = sum(crowd.size + crowd.lost for crowd in crowds) + already + excluded
    if math.isinf(opens):
        return WaveRun(number, size, already, opens, opens, opens, (Moment(0.0, 0.0, 0.0, 0.0, 0.0),))
    moments = run_wave(
        crowds,
        start=opens,
        max_in_flight=policy.max_in_flight,
        max_downloads=policy.max_downloads,
        horizon=opens + HORIZON,
    )
    needed = math.ceil(policy.success_threshold * size / 100) - already - excluded
    reached = next((moment.at for moment in moments if moment.confirmed >= needed - 1e-3), math.inf)
    return WaveRun(number, size, already, opens, reached, reached + policy.soak_seconds, tuple(moments))


def _points(waves: Sequence[WaveRun], end: float) -> list[Point]:
    """Evenly spaced; of the load the highest within each step, so that no peak falls between two points."""
    if end <= 0:
        return []
    width = end / _POINTS
    peaks = [(0.0, 0.0)] * (_POINTS + 1)
    for wave in waves:
        for moment in wave.moments:
            place = min(math.ceil(moment.at / width), _POINTS)
            most, rate = peaks[place]
            peaks[place] = (max(most, moment.downloading), max(rate, moment.rate))
    points = []
    for place in range(_POINTS + 1):
        second = place * width
        seen = [(wave, wave.at(second)) for wave in waves]
        updated = sum(moment.confirmed + (wave.already if second >= wave.opens else 0) for wave, moment in seen)
        at_risk = sum(moment.offered for wave, moment in seen if wave.opens <= second < wave.passes)
        load = [(moment.downloading, moment.rate) for _wave, moment in seen]
        downloading = max(peaks[place][0], sum(number for number, _rate in load))
        rate = max(peaks[place][1], sum(rate for _number, rate in load))
        points.append(Point(second, updated, at_risk, downloading, rate))
    return points


def reached_if_bad(run: Run, policy: RolloutPolicy) -> int:
    """How many CIs would be offered a version that fails everywhere, until the first wave stops for its failures."""
    for wave in run.waves:
        if len(wave.moments) < 2:
            continue
        needed = math.floor(policy.error_threshold * wave.size / 100) + 1
        stops = next((m for m in wave.moments if m.confirmed >= needed - 1e-3), wave.moments[-1])
        return min(math.ceil(stops.offered - 1e-3), wave.size)
    return 0


@dataclass(frozen=True, slots=True)
class WaveTimes:
    """A wave by the calendar. `failures`: how many CIs are expected to fail, as so far and with caution."""

    number: int
    size: int
    already: int
    opens_at: datetime | None
    reached_at: datetime | None
    passes_at: datetime | None
    cautious_passes_at: datetime | None
    failures: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one strategy would mean. `run` goes as the median of what was measured, `cautious` as its slowest tenth.

    `failures` are the CIs expected to fail in each wave: as so far, and with caution. `reached_if_bad`: how many would
    be offered a version that fails everywhere. `notes` say where it would not go as planned.
    """

    policy: RolloutPolicy
    is_chosen: bool
    begins_at: datetime
    run: Run
    cautious: Run
    failures: tuple[tuple[float, float], ...]
    reached_if_bad: int
    notes: tuple[str, ...]

    @property
    def strategy(self) -> str:
        return self.policy.strategy

    @property
    def ends_at(self) -> datetime | None:
        """When it is complete; None: not within a year."""
        return self.moment(self.run.ends)

    @property
    def cautious_ends_at(self) -> datetime | None:
        return self.moment(self.cautious.ends)

    @property
    def updated_at(self) -> datetime | None:
        """When the last CI has the version."""
        return self.moment(self.run.updated)

    @property
    def expected_failures(self) -> tuple[float, float]:
        return sum(likely for likely, _ in self.failures), sum(cautious for _, cautious in self.failures)

    @property
    def waves(self) -> list[WaveTimes]:
        """Its waves; one that it does not come to is left out."""
        cautious = {wave.number: wave.passes for wave in self.cautious.waves}
        return [
            WaveTimes(
                number=wave.number,
                size=wave.size,
                already=wave.already,
                opens_at=self.moment(wave.opens),
                reached_at=self.moment(wave.reached),
                passes_at=self.moment(wave.passes),
                cautious_passes_at=self.moment(cautious.get(wave.number, math.inf)),
                failures=failures,
            )
            for wave, failures in zip(self.run.waves, self.failures, strict=False)
        ]

    def moment(self, second: float) -> datetime | None:
        """A second of the time line by the calendar; None: never."""
        return self.begins_at + timedelta(seconds=second) if math.isfinite(second) else None
