"""How a rollout would run on the clock: a small simulation on counts, not on CIs. Pure; seconds since its beginning.

A wave consists of crowds: CIs that behave alike. They ask within a poll interval, are offered it while their window is
open and the caps have room, and take as long as the spread of durations says. A cap works like a bucket that is full at
the beginning and is filled again as fast as CIs come to an end; so the number of steps depends on no size.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

Opening = tuple[float, float]
ALWAYS: tuple[Opening, ...] = ((0.0, math.inf),)

_STEPS = 160
_MOST_STEPS = 20_000
_TOLERANCE = 1e-6
_NORMAL = NormalDist()
_Z90 = _NORMAL.inv_cdf(0.9)
_SLICES = 8


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something takes: half stay below `p50`, nine of ten below `p90`; log-normal between and beyond.

    Beyond nine of ten the tail is at most e per standard deviation: a few devices that were away for days say nothing
    about those that are there.
    """

    p50: float
    p90: float

    def quantile(self, share: float) -> float:
        """The time that this share stays below, in seconds."""
        if self.p50 <= 0:
            return 0.0 if share <= 0.5 else self.p90
        sigma = math.log(max(self.p90 / self.p50, 1.0)) / _Z90
        z = _NORMAL.inv_cdf(share)
        return self.p50 * math.exp(sigma * min(z, _Z90) + min(sigma, 1.0) * max(z - _Z90, 0.0))

    @property
    def mean(self) -> float:
        return sum(self.quantile((i + 0.5) / _SLICES) for i in range(_SLICES)) / _SLICES

    def slower(self) -> "Spread":
        """As if the median took as long as the slowest tenth so far."""
        ratio = max(self.p90 / self.p50, 1.0) if self.p50 > 0 else 1.0
        return Spread(self.p90, self.p90 * ratio)

    def plus(self, other: "Spread") -> "Spread":
        return Spread(self.p50 + other.p50, self.p90 + other.p90)


@dataclass(frozen=True, slots=True)
class Crowd:
    """CIs of a wave that behave alike. `size` are those that change; `already` run the version,
    `excluded` do not get it, `lost` failed and will not by themselves.

    `asks_within`: seconds until each has asked once; `asks_at_opening`: the same for an offer that a closed window held
    back. `offers`: when it may be offered to them. `installs`: when they may install it, for those that fetch it
    before. `lanes`: how many a pushing channel serves at once.
    """

    size: int
    download: Spread
    total: Spread
    already: int = 0
    excluded: int = 0
    lost: int = 0
    asks_within: float = 0.0
    asks_at_opening: float = 0.0
    offers: tuple[Opening, ...] = ALWAYS
    installs: tuple[Opening, ...] = ALWAYS
    lanes: int | None = None
    bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Moment:
    """Of one wave: CIs that were offered it and that confirmed it so far, downloads just now, and their bytes/s."""

    at: float
    offered: float
    confirmed: float
    downloading: float
    rate: float


def next_open(openings: Sequence[Opening], at: float) -> float:
    """`at` if that is within an opening, else the beginning of the next one; infinite: never again."""
    place = bisect_right(openings, at, key=lambda opening: opening[0]) - 1
    if place >= 0 and at < openings[place][1]:
        return at
    return openings[place + 1][0] if place + 1 < len(openings) else math.inf


def both_open(one: Sequence[Opening], other: Sequence[Opening]) -> tuple[Opening, ...]:
    """When both are open; each is in order and without overlaps."""
    found = []
    i = j = 0
    while i < len(one) and j < len(other):
        begin, end = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if begin < end:
            found.append((begin, end))
        if one[i][1] <= other[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


class _Bucket:
    """Room under a cap: what is free, and what becomes free within a step."""

    def __init__(self, cap: int | None, mean: float) -> None:
        self._cap = float(cap) if cap is not None else math.inf
        self._free = self._cap
        self._rate = self._cap / max(mean, _TOLERANCE)

    def room(self, seconds: float) -> float:
        """How many may begin within so many seconds."""
        return self._free + self._rate * seconds

    def take(self, number: float, seconds: float) -> None:
        """So many began within so many seconds."""
        self._free = min(self.room(seconds) - number, self._cap)


def _ranks(size: int) -> list[tuple[float, float]]:
    """Quantiles that stand for the CIs of a crowd, each with its share; the slowest CI stands for itself."""
    if size <= _SLICES:
        return [((i + 0.7) / (size + 0.4), 1 / size) for i in range(size)]
    share = (1 - 1 / size) / _SLICES
    slices = [((i + 0.5) / _SLICES, share) for i in range(_SLICES)]
    return [*slices, ((size - 0.3) / (size + 0.4), 1 / size)]


@dataclass(slots=True)
class _Flow:
    """A crowd on its way."""

    crowd: Crowd
    begin: float
    started: float = 0.0
    confirmed: float = 0.0
    fetched: float = 0.0
    lane: _Bucket = field(init=False)
    rate: float = field(init=False)  # bytes per second of one download
    _opening: float = -1.0
    _base: float = 0.0
    _slices: list[tuple[float, float, float]] = field(init=False)  # share, download, what follows
    _cohorts: list[tuple[float, float]] = field(default_factory=list)
    _fetching: list[int] = field(init=False)
    _ending: list[int] = field(init=False)

    def __post_init__(self) -> None:
        crowd = self.crowd
        self.lane = _Bucket(crowd.lanes, crowd.total.mean)
        self.rate = crowd.bytes / max(crowd.download.mean, _TOLERANCE)
        self._slices = []
        for rank, share in _ranks(crowd.size):
            download = min(crowd.download.quantile(rank), crowd.total.quantile(rank))
            self._slices.append((share, download, crowd.total.quantile(rank) - download))
        self._fetching, self._ending = [0] * len(self._slices), [0] * len(self._slices)

    @property
    def left(self) -> float:
        return self.crowd.size - self.started

    @property
    def is_done(self) -> bool:
        return self.confirmed >= self.crowd.size - _TOLERANCE

    def wants(self, at: float, until: float) -> float:
        """How many ask until then and could be offered it, were there no caps."""
        if self.left <= _TOLERANCE or next_open(self.crowd.offers, at) > at:
            return 0.0
        place = bisect_right(self.crowd.offers, at, key=lambda opening: opening[0]) - 1
        opening = max(self.crowd.offers[place][0], self.begin)
        if opening != self._opening:
            self._opening, self._base = opening, self.started
        asks = self.crowd.asks_within if opening == self.begin else self.crowd.asks_at_opening
        share = 1.0 if asks <= until - opening else (until - opening) / asks
        ready = self._base + (self.crowd.size - self._base) * share
        return max(0.0, min(ready - self.started, self.lane.room(until - at)))

    def start(self, number: float, at: float, until: float) -> None:
        self.lane.take(number, until - at)
        if number > 0:
            self.started += number
            self._cohorts.append(((at + until) / 2, number))

    def pass_time(self, until: float) -> None:
        """Counts those that have fetched and that have confirmed it by then."""
        for i, (share, download, rest) in enumerate(self._slices):
            place = self._fetching[i]
            while place < len(self._cohorts) and self._cohorts[place][0] + download <= until:
                self.fetched += share * self._cohorts[place][1]
                place += 1
            self._fetching[i] = place
            place = self._ending[i]
            while place < self._fetching[i] and self._ends(place, download, rest) <= until:
                self.confirmed += share * self._cohorts[place][1]
                place += 1
            self._ending[i] = place

    def _ends(self, place: int, download: float, rest: float) -> float:
        return next_open(self.crowd.installs, self._cohorts[place][0] + download) + rest

    def next_event(self) -> float:
        """When the next ones of those under way have fetched it or come to an end."""
        events = [math.inf]
        for i, (_share, download, rest) in enumerate(self._slices):
            if self._fetching[i] < len(self._cohorts):
                events.append(self._cohorts[self._fetching[i]][0] + download)
            if self._ending[i] < self._fetching[i]:
                events.append(self._ends(self._ending[i], download, rest))
        return min(events)


def run_wave(
    crowds: Sequence[Crowd],
    *,
    start: float,
    max_in_flight: int | None = None,
    max_downloads: int | None = None,
    horizon: float = math.inf,
) -> list[Moment]:
    """The wave moment by moment, until every CI has confirmed; shorter when that takes longer than the horizon."""
    flows = [_Flow(crowd, start) for crowd in crowds if crowd.size]
    moments = [Moment(start, 0.0, 0.0, 0.0, 0.0)]
    if not flows:
        return moments
    size = sum(flow.crowd.size for flow in flows)
    mean = sum(flow.crowd.size * flow.crowd.total.mean for flow in flows) / size
    mean_download = sum(flow.crowd.size * flow.crowd.download.mean for flow in flows) / size
    buckets = [_Bucket(max_in_flight, mean), _Bucket(max_downloads, mean_download)]
    step = max(_longest(flows, size, mean, mean_download, max_in_flight, max_downloads) / _STEPS, 0.05)
    at = start
    for _ in range(_MOST_STEPS):
        if all(flow.is_done for flow in flows) or at > horizon:
            break
        until = _until(flows, at, step)
        if until == math.inf:
            break  # no window opens any more
        wanted = [flow.wants(at, until) for flow in flows]
        room = min(bucket.room(until - at) for bucket in buckets)
        part = min(1.0, room / sum(wanted)) if sum(wanted) > 0 else 0.0
        for bucket in buckets:
            bucket.take(sum(wanted) * part, until - at)
        for flow, number in zip(flows, wanted, strict=True):
            flow.start(number * part, at, until)
            flow.pass_time(until)
        if until - at > step:
            # What is passed over: nothing moves until shortly before its end.
            moments.append(replace(moments[-1], at=until - step / 2))
        at = until
        moments.append(_moment(at, flows, max_downloads))
    return moments


def _longest(
    flows: list[_Flow], size: int, mean: float, mean_download: float, in_flight: int | None, downloads: int | None
) -> float:
    """About how long the wave works, windows aside."""
    by_caps = [size * mean / in_flight if in_flight else 0.0, size * mean_download / downloads if downloads else 0.0]
    by_lanes = [flow.crowd.size * flow.crowd.total.mean / flow.crowd.lanes for flow in flows if flow.crowd.lanes]
    slowest = max(flow.crowd.total.quantile(_ranks(flow.crowd.size)[-1][0]) for flow in flows)
    return max(*by_caps, *by_lanes, *(flow.crowd.asks_within for flow in flows)) + slowest


def _until(flows: list[_Flow], at: float, step: float) -> float:
    """The end of the next step: at a boundary of a window; idle times are passed over at once."""
    opens = min((next_open(flow.crowd.offers, at) for flow in flows if flow.left > _TOLERANCE), default=math.inf)
    if opens > at:
        return min(opens, max(at + step, min(flow.next_event() for flow in flows)))
    boundaries = [
        edge
        for flow in flows
        if flow.left > _TOLERANCE
        for edge in _edges(flow.crowd.offers, at)
        if edge - at > _TOLERANCE
    ]
    return min(at + step, *boundaries)


def _edges(openings: Sequence[Opening], at: float) -> tuple[float, ...]:
    """The end of the present opening, or the beginning of the next one."""
    place = bisect_right(openings, at, key=lambda opening: opening[0]) - 1
    if place >= 0 and at < openings[place][1]:
        return (openings[place][1],)
    return (openings[place + 1][0],) if place + 1 < len(openings) else ()


def _moment(at: float, flows: list[_Flow], max_downloads: int | None) -> Moment:
    downloading = [max(0.0, flow.started - flow.fetched) for flow in flows]
    total = sum(downloading)
    part = min(1.0, max_downloads / total) if max_downloads is not None and total > 0 else 1.0
    rates = (number * flow.rate for number, flow in zip(downloading, flows, strict=True))
    return Moment(
        at,
        sum(flow.started for flow in flows),
        sum(flow.confirmed for flow in flows),
        min(total, max_downloads) if max_downloads is not None else total,
        sum(rates) * part,
    )
