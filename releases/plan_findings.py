"""What is wrong, or at least surprising, about a release's plan, before anybody approves or starts it.

An error means that the rollout would be refused, stop at once, or never do what the plan asks for; a warning, that
somebody should look. Each says what to do. None names a CI: who may see which is for the page that lists them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from changes.models import Freeze
from cmdb.models import MaintenanceWindow
from releases.models import Release, RolloutException
from releases.policy import RolloutPolicy
from releases.selector import TargetSelector
from releases.services.content import release_hash
from releases.services.log import cis_text
from releases.targets import before_a_step, target_cis, unable_to_go_back, without_way_back
from releases.wave_plan import PlannedWave, planned_waves, shared_with
from releases.windows import STAMP, planned_time
from tickets.exceptions import ConditionRefused

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a plan: `level` is error or warning, `code` is for machines, `text` says what to do."""

    level: str
    code: str
    text: str


def findings(release: Release, *, now: datetime, planned: list[PlannedWave] | None = None) -> list[Finding]:
    """Everything that is to be said about the plan as it stands now; errors first.

    `planned` spares asking for the waves once more.
    """
    waves = planned_waves(release) if planned is None else planned
    policy = RolloutPolicy.from_json(release.policy)
    found = [
        *_thresholds(policy, [wave.size for wave in waves]),
        *_named(release),
        *_waves(release, waves),
        *_steps(release),
        *_ways_back(release),
        *_windows(release, now),
    ]
    return sorted(found, key=lambda finding: finding.level != ERROR)


def check_plan(release: Release, planned: list[PlannedWave], *, now: datetime) -> None:
    """Refuses a start whose rollout would stop at once, or could never do what the plan asks for.

    What else is an error (no target, no way back) the start refuses itself, with the names of the CIs.
    """
    sizes = [wave.size for wave in planned]
    found = [*_thresholds(RolloutPolicy.from_json(release.policy), sizes), *_steps(release), *_windows(release, now)]
    errors = [finding for finding in found if finding.level == ERROR]
    if errors:
        raise ConditionRefused(" ".join(finding.text for finding in errors), code=errors[0].code)


# --- thresholds --------------------------------------------------------------------------------
def _thresholds(policy: RolloutPolicy, sizes: list[int]) -> Iterator[Finding]:
    largest = max(sizes, default=0)
    if policy.min_sample > largest > 0:
        yield Finding(
            WARNING,
            "sample_too_large",
            _(
                "min_sample is %(sample)d, but the largest wave has %(cis)s: failures are judged only when a wave has "
                "come to rest. Set it to at most the size of the first waves."
            )
            % {"sample": policy.min_sample, "cis": cis_text(largest)},
        )
    count_stops = policy.error_count is not None and policy.error_count < max(largest, 1)
    if policy.error_threshold == 100 and not count_stops:
        yield Finding(
            ERROR if policy.on_error != "pause" else WARNING,
            "never_stops",
            _(
                "With an error threshold of 100 % nothing ever counts as too many failures. Lower it, or set "
                "error_count below the size of the waves."
            ),
        )
    elif policy.error_count is not None and policy.error_count >= largest > 0:
        yield Finding(
            WARNING,
            "count_without_effect",
            ngettext(
                "No wave has more than %(count)d CI, so that error_count never stops one. Lower it or leave it out.",
                "No wave has more than %(count)d CIs, so that error_count never stops one. Lower it or leave it out.",
                policy.error_count,
            )
            % {"count": policy.error_count},
        )
    if policy.error_count == 0 < policy.error_threshold:
        yield Finding(
            WARNING,
            "percentage_without_effect",
            _(
                "error_count is 0, so that the first failure stops a wave and the error threshold of %(percent)d %% "
                "has no effect. Set the threshold to 0, or raise error_count."
            )
            % {"percent": policy.error_threshold},
        )
    missed = 100 - policy.success_threshold
    if policy.on_error != "pause" and policy.error_threshold > missed and policy.error_threshold < 100:
        yield Finding(
            WARNING,
            "gap_between_thresholds",
            _(
                "A wave passes with at most %(missed)d %% of its CIs missing, but is rolled back only above "
                "%(percent)d %% of failures: between them it just stops and waits for a person. Set the error "
                "threshold to %(missed)d."
            )
            % {"missed": missed, "percent": policy.error_threshold},
        )


# --- targets -----------------------------------------------------------------------------------
def _named(release: Release) -> Iterator[Finding]:
    """CIs and products that somebody named and that would get, or be, nothing."""
    selector = TargetSelector.from_json(release.targets)
    named = {*selector.cis, *selector.fresh} - {*selector.exclude}
    reached = target_cis(release).filter(pk__in=named).count() if named else 0
    if reached < len(named):
        text = _(
            "The targets name %(named)s, of which %(lost)d would get nothing: not in operation, without an agent, "
            "outside of the classes or groups that are named as well, or they run none of the products, or a newer "
            "version. Take them out of the plan, or see to them first."
        )
        values = {"named": cis_text(len(named)), "lost": len(named) - reached}
        yield Finding(WARNING, "named_get_nothing", text % values)
    fresh = {product for products in selector.fresh.values() for product in products}
    if fresh and fresh - set(release.items.values_list("product", flat=True)):
        text = _("A product that is to be installed anew is not in the package. Put it in, or take it out of the plan.")
        yield Finding(WARNING, "fresh_not_in_package", text)


# --- waves -------------------------------------------------------------------------------------
def _waves(release: Release, waves: list[PlannedWave]) -> Iterator[Finding]:
    if not any(wave.size for wave in waves):
        text = _("No CI matches: there is nothing to roll out to. Look at the package and at the targets.")
        yield Finding(ERROR, "no_targets", text)
        return
    for index, wave in enumerate(waves):
        if wave.named is None:
            if not wave.size and "rest" not in wave.rule:
                text = _("Wave %(n)d would be empty: the waves before it take every target. Leave it out.")
                yield Finding(WARNING, "wave_empty", text % {"n": wave.position})
        elif not wave.named:
            text = _("Wave %(n)d would be empty: none of the targets fits it. Leave it out, or name others.")
            yield Finding(WARNING, "wave_empty", text % {"n": wave.position})
        elif (lost := len(wave.rule.get("cis", ())) - wave.named) > 0:
            text = ngettext(
                "Of the CIs that wave %(n)d names, %(lost)d is no target, and gets nothing. Name others.",
                "Of the CIs that wave %(n)d names, %(lost)d are no targets, and get nothing. Name others.",
                lost,
            )
            yield Finding(WARNING, "named_no_target", text % {"n": wave.position, "lost": lost})
        elif wave.size < wave.named:
            yield _overlap(wave, shared_with(wave, waves[:index], release))


def _overlap(wave: PlannedWave, shares: dict[int, int]) -> Finding:
    if not wave.size and len(shares) == 1:
        (other,) = shares
        text = ngettext(
            "Wave %(n)d would be empty because its only CI is in wave %(other)d. Leave one of them out.",
            "Wave %(n)d would be empty because all its %(cis)d CIs are in wave %(other)d. Leave one of them out.",
            wave.named or 0,
        )
        return Finding(WARNING, "wave_empty", text % {"n": wave.position, "cis": wave.named, "other": other})
    parts = ", ".join(_("%(cis)s in wave %(n)d") % {"cis": cis_text(n), "n": other} for other, n in shares.items())
    values = {"n": wave.position, "cis": wave.named, "parts": parts, "left": wave.size}
    if not wave.size:
        text = _("Wave %(n)d would be empty because its %(cis)d CIs are in earlier ones: %(parts)s. Leave it out.")
        return Finding(WARNING, "wave_empty", text % values)
    text = _(
        "Of the %(cis)d CIs that fit wave %(n)d, earlier ones take %(parts)s; %(left)d are left for it. Put it before "
        "them if that is not meant."
    )
    return Finding(WARNING, "waves_overlap", text % values)


# --- steps -------------------------------------------------------------------------------------
def _steps(release: Release) -> Iterator[Finding]:
    if skipping := before_a_step(release).count():
        text = _(
            "%(cis)s would skip a version that must not be skipped: they run an older one. Roll that version out to "
            "them first, or exclude them."
        )
        yield Finding(ERROR, "step_skipped", text % {"cis": cis_text(skipping)})


# --- ways back ---------------------------------------------------------------------------------
def _ways_back(release: Release) -> Iterator[Finding]:
    accepted = RolloutException.objects.filter(
        release=release,
        kind=RolloutException.Kind.NO_WAY_BACK,
        content_hash=release_hash(release),
        ci__isnull=False,
    )
    lost = without_way_back(release).aggregate(
        refused=Count("pk", filter=~Q(pk__in=accepted.values("ci"))),
        accepted=Count("pk", filter=Q(pk__in=accepted.values("ci"))),
    )
    if unable := unable_to_go_back(release).exclude(pk__in=accepted.values("ci")).count():
        finding = _unable(release, unable)
        yield finding
        lost["refused"] -= unable if finding.level == ERROR else 0
    if lost["refused"] > 0:
        text = _(
            "%(cis)s could not go back. Put their present version into the media library, exclude them, or have an "
            "exception recorded."
        )
        yield Finding(ERROR, "no_way_back", text % {"cis": cis_text(lost["refused"])})
    if lost["accepted"]:
        text = _("%(cis)s could not go back, which was accepted: a breach cannot take the package off them.")
        yield Finding(WARNING, "no_way_back_accepted", text % {"cis": cis_text(lost["accepted"])})


def _unable(release: Release, unable: int) -> Finding:
    if RolloutPolicy.from_json(release.policy).or_reinstall:
        text = _(
            "%(cis)s have an agent that cannot go the way back that the package names: they would get the version of "
            "before again, and nothing else that the package changed is undone."
        )
        return Finding(WARNING, "way_back_reinstalls", text % {"cis": cis_text(unable)})
    text = _(
        "%(cis)s have an agent that does not say that it can go the way back that the package names. Update their "
        "agents, exclude them, have an exception recorded, or let the plan reinstall them."
    )
    return Finding(ERROR, "way_back_unsupported", text % {"cis": cis_text(unable)})


# --- windows -----------------------------------------------------------------------------------
def _windows(release: Release, now: datetime) -> Iterator[Finding]:
    """The planned time of the RFCs, and the maintenance windows of the CIs within it."""
    if release.release_type == Release.Type.EMERGENCY:
        return  # bound to neither
    start, end = planned_time(release)
    if end is not None and end <= now:
        text = _("The planned end of its RFCs has passed: %(end)s. The rollout would stop at once. Move it.")
        yield Finding(ERROR, "planned_end_passed", text % {"end": end.strftime(STAMP)})
        return
    if start is not None and end is not None and end <= start:
        text = _(
            "Its RFCs leave no common time: the latest begins at %(start)s, the earliest ends at %(end)s. Move one."
        )
        yield Finding(ERROR, "planned_times_apart", text % {"start": start.strftime(STAMP), "end": end.strftime(STAMP)})
        return
    since = max(now, start) if start is not None else now
    yield from _freezes(since, end)
    if end is None:
        return
    for window, number in _windows_of_targets(release):
        if window.occurrence(since)[0] >= end:
            text = _(
                "%(cis)s may be changed only in “%(window)s”, which does not open between %(start)s and %(end)s: they "
                "would be left behind. Move the planned time of the RFCs, or exclude them."
            )
            values = {
                "cis": cis_text(number),
                "window": window,
                "start": since.strftime(STAMP),
                "end": end.strftime(STAMP),
            }
            yield Finding(WARNING, "window_never_opens", text % values)


def _freezes(since: datetime, end: datetime | None) -> Iterator[Finding]:
    """Freezes that lie in the planned time; where it has no end, the one that is in force at its beginning."""
    found = Freeze.objects.filter(ends_at__gt=since).order_by("starts_at")
    free_from = since
    for freeze in found.filter(starts_at__lt=end) if end is not None else found.filter(starts_at__lte=since):
        if freeze.starts_at <= free_from:
            free_from = max(free_from, freeze.ends_at)
        text = _("The freeze “%(name)s” (%(start)s to %(end)s) lies in the planned time: the rollout waits meanwhile.")
        text %= {"name": freeze.name, "start": freeze.starts_at.strftime(STAMP), "end": freeze.ends_at.strftime(STAMP)}
        yield Finding(WARNING, "freeze", text)
    if end is not None and free_from >= end:
        text = _("Freezes cover all of the planned time of its RFCs: the rollout could never offer anything. Move it.")
        yield Finding(ERROR, "always_frozen", text)


def _windows_of_targets(release: Release) -> list[tuple[MaintenanceWindow, int]]:
    """The maintenance windows of the targets, each with the number of targets that have it."""
    window = Coalesce("maintenance_window", "ci_class__maintenance_window")
    rows = target_cis(release).order_by().annotate(window_id=window).filter(window_id__isnull=False)
    numbers = dict(rows.values_list("window_id").annotate(n=Count("pk")))
    return [(found, numbers[found.pk]) for found in MaintenanceWindow.objects.filter(pk__in=numbers)]
