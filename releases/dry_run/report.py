"""The dry run of a release: what its rollout would do, computed for both strategies. It writes nothing.

Targets are read once; everything else is counted by a few statements over them, whatever their number.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from django.conf import settings

from changes.models import Freeze
from cmdb.models import CIClass, ConfigurationItem
from distribution.history import PRODUCT, Measured, measured
from distribution.models import WayBack
from releases.dry_run.advice import Advice, advise, assumptions_of, notes_on
from releases.dry_run.estimates import Estimate, estimate
from releases.dry_run.facts import (
    Conflict,
    Kind,
    conflicts_of,
    freezes_of,
    kinds_of,
    openings_between,
    openings_of,
    present_versions,
    windows,
)
from releases.dry_run.forecast import Forecast, Run, reached_if_bad, run_rollout
from releases.dry_run.timeline import ALWAYS, Crowd, Opening, both_open
from releases.dry_run.waves import wave_numbers
from releases.models import Release, RolloutException
from releases.plan_findings import Finding
from releases.policy import RolloutPolicy
from releases.selector import TargetSelector
from releases.services.content import release_hash
from releases.targets import failed_before, target_cis, without_way_back
from releases.waves import REST
from releases.windows import planned_time

# Windows are looked up so far ahead.
WINDOW_DAYS = 120
# A device sleeps up to a tenth longer than it is told, and asks often before its window opens.
_JITTER = 1.1
_ASKS_AT_OPENING = 30.0
# A push run begins with the next tick.
_PUSH_WAIT = 2.0


@dataclass(frozen=True, slots=True)
class Basis:
    """What the figures of one class and channel rest on."""

    ci_class: str
    channel: str
    cis: int
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class DryRun:
    """What would happen if the rollout started now, as a big bang and phased."""

    now: datetime
    begins_at: datetime
    planned_end: datetime | None
    targets: int
    already: int
    failed_before: int
    silent: int
    without_way_back: int
    accepted_without_way_back: int
    bytes: int
    present: list[tuple[str, str, int]]
    conflicts: list[Conflict]
    freezes: tuple[Freeze, ...]
    basis: list[Basis]
    assumptions: tuple[str, ...]
    big_bang: Forecast
    phased: Forecast
    advice: Advice
    # What `releases.plan_findings` says about the plan; whoever shows it asks for it.
    findings: tuple[Finding, ...] = ()

    @property
    def forecasts(self) -> tuple[Forecast, Forecast]:
        return self.big_bang, self.phased

    @property
    def chosen(self) -> Forecast:
        return self.phased if self.phased.is_chosen else self.big_bang


def dry_run(release: Release, *, now: datetime) -> DryRun:
    """Computes what a rollout of the release's present plan would do, beginning now or at its planned start."""
    policy = RolloutPolicy.from_json(release.policy)
    big_bang, phased = strategies(policy)
    package = dict(release.items.order_by("position").values_list("product_id", "version_id"))
    cis = list(target_cis(release).values_list("pk", flat=True))
    fresh = TargetSelector.from_json(release.targets).fresh
    failed = list(failed_before(release).values_list("pk", flat=True))
    kinds = kinds_of(cis, wave_numbers(cis, phased), package, fresh=fresh, excluded=failed, now=now)
    begins_at, planned_end = _planned_time(release, now)
    scene = _Scene(release, kinds, measured(package), policy, begins_at)
    lost = without_way_back(release)
    accepted = release.exceptions.filter(
        kind=RolloutException.Kind.NO_WAY_BACK, content_hash=release_hash(release), ci__in=lost.values("pk")
    )
    forecasts = [
        scene.forecast(one, is_chosen=one.strategy == policy.strategy, planned_end=planned_end)
        for one in (big_bang, phased)
    ]
    lost_count = lost.count()
    conflicts = conflicts_of(release, cis, package, supersedes=policy.supersede)
    basis = scene.basis()
    return DryRun(
        now=now,
        begins_at=begins_at,
        planned_end=planned_end,
        targets=len(cis),
        already=sum(kind.already for kind in kinds),
        failed_before=sum(kind.excluded for kind in kinds),
        silent=sum(kind.silent for kind in kinds),
        without_way_back=lost_count,
        accepted_without_way_back=accepted.count() if lost_count else 0,
        bytes=sum(kind.bytes for kind in kinds),
        present=present_versions(cis, package),
        conflicts=conflicts,
        freezes=tuple(freeze for freeze in scene.freezes if freeze.starts_at <= _latest_end(forecasts)),
        basis=basis,
        assumptions=assumptions_of(
            policy,
            [row.estimate for row in basis],
            poll_seconds=settings.DDI_POLL_SECONDS,
            waits=any(conflict.awaited for conflict in conflicts),
        ),
        big_bang=forecasts[0],
        phased=forecasts[1],
        advice=advise(
            *forecasts,
            targets=len(cis),
            without_way_back=lost_count,
            is_impossible=release.items.filter(way_back=WayBack.IMPOSSIBLE).exists(),
            is_measured=_is_measured(basis),
            is_emergency=release.release_type == Release.Type.EMERGENCY,
            planned_end=planned_end,
        ),
    )


def _latest_end(forecasts: Iterable[Forecast]) -> datetime:
    """When the slower strategy ends; for one that never ends, the end of time."""
    return max(forecast.ends_at or datetime.max.replace(tzinfo=UTC) for forecast in forecasts)


def _is_measured(basis: list[Basis]) -> bool:
    """Whether there is experience with this software itself, for most of its CIs."""
    known = sum(row.cis for row in basis if row.estimate.failures_from == PRODUCT)
    return known * 2 > sum(row.cis for row in basis)


def strategies(policy: RolloutPolicy) -> tuple[RolloutPolicy, RolloutPolicy]:
    """The plan as a big bang and phased: the one that is chosen, and the other with the same thresholds and caps.

    Where a big bang is chosen, the phased one has the usual waves: one CI, a quarter, the rest.
    """
    if policy.strategy == "phased":
        return replace(policy, strategy="big_bang", waves=(REST,)), policy
    return policy, replace(policy, strategy="phased", waves=RolloutPolicy().waves)


def _planned_time(release: Release, now: datetime) -> tuple[datetime, datetime | None]:
    """When the first wave could open, and the earliest planned end; an emergency waits for neither."""
    if release.release_type == Release.Type.EMERGENCY:
        return now, None
    start, end = planned_time(release)
    return max(now, start or now), end


class _Scene:
    """Who takes part, how long they take, and when they may."""

    def __init__(
        self, release: Release, kinds: list[Kind], history: list[Measured], policy: RolloutPolicy, begins_at: datetime
    ) -> None:
        self.kinds = kinds
        self.begins_at = begins_at
        self._policy = policy
        self._history = history
        self._ignores_windows = release.release_type == Release.Type.EMERGENCY
        found = windows({kind.window for kind in kinds})
        self._openings = {key: openings_of(window, begins_at, WINDOW_DAYS) for key, window in found.items()}
        self.freezes = freezes_of(release, begins_at)
        self._allowed = openings_between(self.freezes, begins_at)
        self._estimates: dict[tuple[int, str], Estimate] = {}
        for (ci_class, channel), members in _by_class(kinds).items():
            changing = sum(kind.changing for kind in members)
            size = sum(kind.bytes for kind in members) / changing if changing else 0.0
            self._estimates[ci_class, channel] = estimate(
                history,
                ci_class=ci_class,
                channel=channel,
                size=size,
                overdue_fails=policy.overdue_counts_as == "failure",
            )

    def basis(self) -> list[Basis]:
        """On what the figures rest, for each class and channel, the largest first."""
        names = dict(CIClass.objects.filter(pk__in={kind.ci_class for kind in self.kinds}).values_list("pk", "name"))
        rows = [
            Basis(
                names[ci_class],
                str(ConfigurationItem.Channel(channel).label),
                sum(kind.changing for kind in members),
                self._estimates[ci_class, channel],
            )
            for (ci_class, channel), members in _by_class(self.kinds).items()
        ]
        return sorted(rows, key=lambda row: (-row.cis, row.ci_class, row.channel))

    def forecast(self, policy: RolloutPolicy, *, is_chosen: bool, planned_end: datetime | None) -> Forecast:
        waves = self._waves(policy.strategy == "phased")
        typical, cautious = (self._run(waves, policy, slow=slow) for slow in (False, True))
        failures = [self._failures(wave) for wave in waves]
        return Forecast(
            policy=policy,
            is_chosen=is_chosen,
            begins_at=self.begins_at,
            run=typical,
            cautious=cautious,
            failures=tuple(failures),
            reached_if_bad=reached_if_bad(typical, policy),
            notes=notes_on(
                policy,
                typical,
                failures=failures,
                silent=[sum(kind.silent for kind in wave) for wave in waves],
                latest=(planned_end - self.begins_at).total_seconds() if planned_end is not None else None,
            ),
        )

    def _waves(self, is_phased: bool) -> list[list[Kind]]:
        waves: dict[int, list[Kind]] = defaultdict(list)
        for kind in self.kinds:
            waves[kind.wave if is_phased else 1].append(kind)
        return [waves[number] for number in sorted(waves)]

    def _run(self, waves: list[list[Kind]], policy: RolloutPolicy, *, slow: bool) -> Run:
        return run_rollout(
            [[self._crowd(kind, slow=slow) for kind in wave] for wave in waves], policy, allowed=self._allowed
        )

    def _crowd(self, kind: Kind, *, slow: bool) -> Crowd:
        found = self._estimates[kind.ci_class, kind.channel]
        found = found.slower() if slow else found
        offers = self._allowed
        installs: tuple[Opening, ...] = ALWAYS
        if kind.window is not None and not self._ignores_windows:
            if kind.can_wait:
                installs = self._openings[kind.window]
            else:
                offers = both_open(self._openings[kind.window], self._allowed)
        is_pushed = kind.channel == ConfigurationItem.Channel.ANSIBLE
        asks = _PUSH_WAIT if is_pushed else settings.DDI_POLL_SECONDS * _JITTER
        return Crowd(
            size=kind.changing,
            already=kind.already,
            excluded=kind.excluded,
            download=found.download,
            total=found.total,
            # The last of few to ask does so before the interval is over.
            asks_within=asks * kind.changing / (kind.changing + 1),
            asks_at_opening=min(asks, _ASKS_AT_OPENING) if offers is not self._allowed else asks,
            offers=offers,
            installs=installs,
            lanes=settings.PUSH_RUNS * settings.PUSH_FORKS if is_pushed else None,
            bytes=kind.bytes_each,
        )

    def _failures(self, wave: Iterable[Kind]) -> tuple[float, float]:
        """How many CIs of the wave are expected to fail: as so far, and with caution."""
        likely = cautious = 0.0
        for kind in wave:
            found = self._estimates[kind.ci_class, kind.channel]
            likely += kind.changing * found.failures
            cautious += kind.changing * found.cautious_failures
        return likely, cautious


def _by_class(kinds: Iterable[Kind]) -> dict[tuple[int, str], list[Kind]]:
    members: dict[tuple[int, str], list[Kind]] = defaultdict(list)
    for kind in kinds:
        members[kind.ci_class, kind.channel].append(kind)
    return members
