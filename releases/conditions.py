"""Pure functions that give the verdict on a wave. They know numbers and a policy, no database and no clock.

The error threshold comes before the success threshold. The denominator is the wave's frozen size: an excluded CI is
counted as excluded, never dropped. Only confirmed success counts.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from distribution.services import Counts
from releases.policy import RolloutPolicy


@dataclass(frozen=True, slots=True)
class WaveNumbers:
    """What a verdict sees: CIs of the wave by how their latest deployment stands; incidents since the installation.

    `accepted` are those among failed, overdue and cancelled whose failure somebody decided to ignore; of them,
    `accepted_failed` have failed and `accepted_overdue` are overdue.
    """

    size: int
    confirmed: int
    failed: int
    overdue: int
    excluded: int
    cancelled: int
    under_way: int
    accepted: int = 0
    accepted_failed: int = 0
    accepted_overdue: int = 0
    incidents: int = 0
    accepted_incidents: int = 0
    failed_probes: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Accepted:
    """How many CIs of a wave have a failure that somebody decided to ignore: all, the failed, the overdue ones."""

    total: int = 0
    failed: int = 0
    overdue: int = 0


def numbers_of(counts: Counts, *, size: int, accepted: Accepted = Accepted()) -> WaveNumbers:
    """Folds the counts of a batch into the numbers of a verdict; `overdue` are open ones past a deadline."""
    return WaveNumbers(
        size=size,
        confirmed=counts.succeeded + counts.skipped,
        failed=counts.failed,
        overdue=counts.overdue,
        excluded=counts.excluded,
        cancelled=counts.cancelled + counts.superseded,
        under_way=counts.open - counts.overdue,
        accepted=accepted.total,
        accepted_failed=accepted.failed,
        accepted_overdue=accepted.overdue,
    )


def not_confirmed(numbers: WaveNumbers) -> int:
    """CIs that will not be confirmed by themselves: what somebody who resumes can accept."""
    return numbers.failed + numbers.overdue + numbers.cancelled


def lost(numbers: WaveNumbers, policy: RolloutPolicy) -> int:
    """CIs that failed, and overdue ones if the policy says so, whether or not somebody accepted them."""
    return numbers.failed + (numbers.overdue if policy.overdue_counts_as == "failure" else 0)


def failures(numbers: WaveNumbers, policy: RolloutPolicy) -> int:
    """How many CIs count as failed: those that failed, and overdue ones if the policy says so, less the accepted."""
    overdue = numbers.overdue - numbers.accepted_overdue if policy.overdue_counts_as == "failure" else 0
    return numbers.failed - numbers.accepted_failed + overdue


def sample(numbers: WaveNumbers, policy: RolloutPolicy) -> int:
    """How many CIs have an outcome that says something about the package: success, failure, or silence as one."""
    return numbers.confirmed + lost(numbers, policy)


def is_breached(numbers: WaveNumbers, policy: RolloutPolicy) -> bool:
    """Whether too many of the wave's CIs have failed, by share or by number, among enough that have an outcome.

    A wave that has come to rest is judged however small it is: nothing more will enlarge the sample.
    """
    if numbers.failed_probes:
        return True
    gate = policy.incident_gate
    if gate is not None and gate["then"] == "breach" and is_over_incidents(numbers, policy):
        return True
    if numbers.under_way and sample(numbers, policy) < policy.min_sample:
        return False
    failed = failures(numbers, policy)
    is_over_count = policy.error_count is not None and failed > policy.error_count
    return is_over_count or failed * 100 > policy.error_threshold * numbers.size


def is_over_incidents(numbers: WaveNumbers, policy: RolloutPolicy) -> bool:
    """Whether more incidents came up on the wave's CIs since the installation than its gate allows."""
    gate = policy.incident_gate
    return gate is not None and numbers.incidents - numbers.accepted_incidents > gate["count"]


def is_success_reached(numbers: WaveNumbers, policy: RolloutPolicy) -> bool:
    """Whether at least `success_threshold` percent of all the wave's CIs are confirmed.

    Excluded CIs and failures that somebody accepted do not hold a wave back; neither do overdue ones that the
    policy skips. An empty wave has nothing to wait for.
    """
    skipped = numbers.overdue - numbers.accepted_overdue if policy.overdue_counts_as == "skipped" else 0
    return (
        numbers.confirmed + numbers.excluded + numbers.accepted + skipped
    ) * 100 >= policy.success_threshold * numbers.size


def is_stuck(numbers: WaveNumbers, policy: RolloutPolicy) -> bool:
    """Nothing is under way any more, the threshold is not reached, and the failures are too few for a breach."""
    return numbers.under_way == 0 and not is_success_reached(numbers, policy) and not is_breached(numbers, policy)


def soak_ends_at(began_at: datetime, policy: RolloutPolicy, *, soaked_seconds: int = 0) -> datetime:
    """When the problem-free period after reaching the threshold is over, if nothing goes wrong until then.

    It began, or went on after a pause, at `began_at`; `soaked_seconds` had passed before that pause.
    """
    return began_at + timedelta(seconds=policy.soak_seconds - soaked_seconds)


def is_soak_over(began_at: datetime, now: datetime, policy: RolloutPolicy, *, soaked_seconds: int = 0) -> bool:
    """Whether the problem-free period is over."""
    return now >= soak_ends_at(began_at, policy, soaked_seconds=soaked_seconds)
