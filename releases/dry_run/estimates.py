"""What one CI is expected to take: measured where there is enough of it, else assumed, and which of the two it is."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _

from distribution.history import CHANNEL, CLASS, PRODUCT, Measured
from releases.dry_run.timeline import Spread

ASSUMED = "assumed"
LEVELS = (PRODUCT, CLASS, CHANNEL)
LEVEL_LABELS = {
    PRODUCT: _("these products on this class and channel"),
    CLASS: _("any software on this class and channel"),
    CHANNEL: _("any software on this channel"),
    ASSUMED: _("assumed: nothing measured"),
}
# With fewer successes quantiles, with fewer ends a share of failures, say too little.
LEAST_DURATIONS = 5
LEAST_ENDS = 20

ASSUMED_BYTES_PER_SECOND = 1_000_000.0
ASSUMED_REST = Spread(90.0, 300.0)
ASSUMED_FAILURES = (0.02, 0.10)
# The time for a smaller file is that for asking, not for the bytes.
_TELLING_BYTES = 1_000_000.0
_Z90 = 1.2816


@dataclass(frozen=True, slots=True)
class Estimate:
    """For CIs of one class and channel. `failures` and `cautious_failures` are shares of the CIs.

    `durations_from` and `failures_from` are levels; the numbers beside them say how many deployments were measured.
    """

    download: Spread
    total: Spread
    durations_from: str
    durations_measured: int
    failures: float
    cautious_failures: float
    failures_from: str
    failures_measured: int
    is_download_assumed: bool = False

    @property
    def durations_label(self) -> str:
        return str(LEVEL_LABELS[self.durations_from])

    @property
    def failures_label(self) -> str:
        return str(LEVEL_LABELS[self.failures_from])

    @property
    def failures_percent(self) -> float:
        return 100 * self.failures

    @property
    def cautious_percent(self) -> float:
        return 100 * self.cautious_failures

    def slower(self) -> "Estimate":
        """Every CI as slow as the slowest tenth so far."""
        return Estimate(
            self.download.slower(), self.total.slower(), self.durations_from, self.durations_measured, self.failures,
            self.cautious_failures, self.failures_from, self.failures_measured, self.is_download_assumed,
        )  # fmt: skip


def estimate(
    measured: Iterable[Measured], *, ci_class: int, channel: str, size: float, overdue_fails: bool = True
) -> Estimate:
    """The nearest level that has enough: product, class and channel; class and channel; channel; an assumption.

    `size` are the bytes that a CI fetches. `overdue_fails`: CIs that never answered count as failures.
    """
    levels = {
        row.level: row
        for row in measured
        if row.channel == channel and (row.level == CHANNEL or row.ci_class == ci_class)
    }
    rows = [levels[level] for level in LEVELS if level in levels]
    timed = next((row for row in rows if row.succeeded >= LEAST_DURATIONS and row.total is not None), None)
    counted = next((row for row in rows if row.ended >= LEAST_ENDS), None)
    download, total = _durations(timed, size)
    likely, cautious = ASSUMED_FAILURES if counted is None else _failures(counted, overdue_fails)
    return Estimate(
        download=download,
        total=total,
        durations_from=timed.level if timed is not None else ASSUMED,
        durations_measured=timed.succeeded if timed is not None else 0,
        failures=likely,
        cautious_failures=cautious,
        failures_from=counted.level if counted is not None else ASSUMED,
        failures_measured=counted.ended if counted is not None else 0,
        is_download_assumed=timed is None or timed.download is None,
    )


def _assumed_download(size: float) -> Spread:
    """One megabyte a second, for the slowest tenth a quarter of it."""
    return Spread(size / ASSUMED_BYTES_PER_SECOND, 4 * size / ASSUMED_BYTES_PER_SECOND)


def _durations(row: Measured | None, size: float) -> tuple[Spread, Spread]:
    """Download and the whole, for so many bytes. A larger file than those measured takes longer in proportion."""
    assumed = _assumed_download(size)
    if row is None or row.total is None:
        return assumed, assumed.plus(ASSUMED_REST)
    total = Spread(*row.total)
    if row.download is None:
        return Spread(min(assumed.p50, total.p50), min(assumed.p90, total.p90)), total
    before = after = Spread(*row.download)
    if row.bytes is not None and size > row.bytes:
        if row.bytes >= _TELLING_BYTES:
            after = Spread(before.p50 * size / row.bytes, before.p90 * size / row.bytes)
        else:
            after = before.plus(_assumed_download(size - row.bytes))
    return after, Spread(total.p50 + after.p50 - before.p50, total.p90 + after.p90 - before.p90)


def _failures(row: Measured, overdue_fails: bool) -> tuple[float, float]:
    """The share of failures so far, and the one that it does not exceed with 90 % confidence (Wilson's bound)."""
    n = row.ended
    share = (row.failed + (row.silent if overdue_fails else 0)) / n
    middle = share + _Z90**2 / (2 * n)
    reach = _Z90 * math.sqrt(share * (1 - share) / n + _Z90**2 / (4 * n * n))
    return share, min(1.0, (middle + reach) / (1 + _Z90**2 / n))
