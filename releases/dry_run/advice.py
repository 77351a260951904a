"""What the dry run says in words: where a plan would not go as written, and which strategy it recommends. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from releases.dry_run.estimates import ASSUMED, ASSUMED_BYTES_PER_SECOND, ASSUMED_FAILURES, ASSUMED_REST, Estimate
from releases.dry_run.forecast import Forecast, Run
from releases.policy import RolloutPolicy

# With so few CIs a first wave shows no more than the whole.
FEW = 5
# An expectation below this is not worth a word.
_WORTH_SAYING = 0.5

RULE = gettext_lazy(
    "The first that applies decides. Big bang: at most 5 CIs. Phased: a CI, or the package, cannot go back. Big bang: "
    "an emergency. "
    "Phased: nothing was measured on this software. Phased: more failures are expected than the plan allows. "
    "Big bang: only that ends before the planned end. Otherwise phased."
)


@dataclass(frozen=True, slots=True)
class Advice:
    """The strategy that the rule recommends, and the reason in one sentence."""

    strategy: str
    text: str


def advise(
    big_bang: Forecast,
    phased: Forecast,
    *,
    targets: int,
    without_way_back: int,
    is_impossible: bool,
    is_measured: bool,
    is_emergency: bool,
    planned_end: datetime | None,
) -> Advice:
    """The recommendation by `RULE`; it looks at nothing else."""
    if targets <= FEW:
        text = ngettext(
            "Big bang: only %(n)d CI, so waves would show no more.",
            "Big bang: only %(n)d CIs, so waves would show no more.",
            targets,
        )
        return Advice("big_bang", text % {"n": targets})
    if without_way_back:
        text = ngettext("Phased: %(n)d CI cannot go back.", "Phased: %(n)d CIs cannot go back.", without_way_back)
        return Advice("phased", text % {"n": without_way_back})
    if is_impossible:
        return Advice("phased", _("Phased: nothing leads back from this package, as it says itself."))
    if is_emergency:
        return Advice("big_bang", _("Big bang: it is an emergency, and every CI can go back."))
    if not is_measured:
        return Advice("phased", _("Phased: this software was rolled out to too few CIs to know how it goes."))
    cautious = big_bang.expected_failures[1]
    if cautious * 100 > big_bang.policy.error_threshold * targets:
        text = _("Phased: up to %(n)d failures are expected, more than the %(p)d %% that the plan allows.")
        return Advice("phased", text % {"n": math.ceil(cautious), "p": big_bang.policy.error_threshold})
    if planned_end is not None and _ends_by(big_bang, planned_end) and not _ends_by(phased, planned_end):
        return Advice("big_bang", _("Big bang: phased it would not end before the planned end of its RFCs."))
    text = _("Phased: a bad version would reach %(few)d instead of %(many)d CIs.")
    return Advice("phased", text % {"few": phased.reached_if_bad, "many": big_bang.reached_if_bad})


def _ends_by(forecast: Forecast, moment: datetime) -> bool:
    return forecast.ends_at is not None and forecast.ends_at <= moment


def notes_on(
    policy: RolloutPolicy,
    run: Run,
    *,
    failures: Sequence[tuple[float, float]],
    silent: Sequence[int],
    latest: float | None,
) -> tuple[str, ...]:
    """Where it would stop or wait: failures against the thresholds, silent devices, closed windows, the planned end.

    `failures` and `silent` by wave; `latest` is the planned end in seconds since the beginning.
    """
    notes = []
    for wave, (likely, _cautious), quiet in zip(run.waves, failures, silent, strict=False):
        values = {
            "wave": wave.number, "failures": round(likely), "silent": quiet, "size": wave.size,
            "error": policy.error_threshold, "success": policy.success_threshold,
        }  # fmt: skip
        if likely >= _WORTH_SAYING and likely * 100 > policy.error_threshold * wave.size:
            notes.append(
                _("Wave %(wave)d would stop: %(failures)d of %(size)d CIs are expected to fail, %(error)d %% may.")
                % values
            )
        elif (likely >= _WORTH_SAYING or quiet) and not _can_pass(wave.size, likely, quiet, policy):
            notes.append(
                _(
                    "Wave %(wave)d would wait for a person: with %(failures)d expected failures and %(silent)d CIs "
                    "that were not heard of lately it does not reach %(success)d %%."
                )
                % values
            )
    if any(math.isinf(wave.reached) for wave in run.waves):
        notes.append(_("It never ends: the maintenance windows of some CIs are too short for the caps, or never open."))
    elif latest is not None and run.ends > latest:
        late = math.ceil((run.ends - latest) / 3600)
        text = ngettext(
            "It runs past the planned end of its RFCs by about %(n)d hour and would be paused there.",
            "It runs past the planned end of its RFCs by about %(n)d hours and would be paused there.",
            late,
        )
        notes.append(text % {"n": late})
    gates = len(run.waves) - 1
    if policy.manual_gate and gates:
        text = ngettext(
            "A person opens %(n)d wave; the time until he does comes on top.",
            "A person opens %(n)d waves; the time until he does comes on top.",
            gates,
        )
        notes.append(text % {"n": gates})
    return tuple(notes)


def _can_pass(size: int, failures: float, silent: int, policy: RolloutPolicy) -> bool:
    missing = failures + (silent if policy.overdue_counts_as == "failure" else 0)
    return (size - missing) * 100 >= policy.success_threshold * size


def assumptions_of(
    policy: RolloutPolicy, estimates: Sequence[Estimate], *, poll_seconds: int, waits: bool
) -> tuple[str, ...]:
    """What the figures take for granted; `waits`: other rollouts are open on some of the CIs."""
    lines = [
        _("It goes as planned: failures stay within the thresholds, no incident restarts a problem-free time."),
        _("Devices ask every %(n)d s, evenly spread; those with a closed window ask again within 30 s of its opening.")
        % {"n": poll_seconds},
        _(
            "Durations: half of the measured CIs stay below the first figure, nine of ten below the second; in between "
            "and beyond they are log-normal. Failures: the share so far, and the one that it does not exceed with 90 % "
            "confidence."
        ),
    ]
    if any(ASSUMED in (found.durations_from, found.failures_from) for found in estimates):
        lines.append(
            _(
                "Where nothing was measured: downloads of %(rate)d MB/s, %(rest)d s for installation and proof, for "
                "the slowest tenth a quarter of that rate and %(slow)d s; %(likely)d %% failures, with caution "
                "%(most)d %%."
            )
            % {
                "rate": ASSUMED_BYTES_PER_SECOND / 1e6,
                "rest": ASSUMED_REST.p50,
                "slow": ASSUMED_REST.p90,
                "likely": 100 * ASSUMED_FAILURES[0],
                "most": 100 * ASSUMED_FAILURES[1],
            }
        )
    if policy.mode == "soft":
        lines.append(_("Devices that may choose the moment do so at once."))
    if waits:
        lines.append(_("The time that it waits for other rollouts comes on top."))
    return tuple(lines)
