"""When a running rollout will be done, if it goes on as it went so far; and on what that rests."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from cmdb.models import ConfigurationItem
from distribution.counting import Counts
from releases.conditions import Accepted
from releases.dry_run.estimates import LEAST_DURATIONS
from releases.dry_run.forecast import run_rollout
from releases.dry_run.timeline import Crowd, Spread
from releases.models import Rollout, Wave
from releases.policy import RolloutPolicy
from releases.services.failures import accepted_of

# A device sleeps up to a tenth longer than it is told.
_JITTER = 1.1

# The newest ones only, and a few of those that wait: what is read does not grow with the fleet.
_TOOK = """
SELECT count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY took), percentile_cont(0.9) WITHIN GROUP (ORDER BY took)
FROM (
    SELECT extract(epoch FROM d.finished_at - d.offered_at)::float AS took
    FROM unnest(%(batches)s::bigint[]) AS b(id) CROSS JOIN LATERAL (
        SELECT finished_at, offered_at, moved_at FROM distribution_deployment
        WHERE batch_id = b.id AND state = 'succeeded' ORDER BY moved_at DESC LIMIT 500
    ) d WHERE d.offered_at IS NOT NULL ORDER BY d.moved_at DESC LIMIT 500
) newest
"""
_PUSHED = """
SELECT b.id, avg((ci.channel = %(pushed)s)::int)::float
FROM unnest(%(batches)s::bigint[]) AS b(id) CROSS JOIN LATERAL (
    SELECT ci_id FROM distribution_deployment WHERE batch_id = b.id AND state = 'queued' LIMIT 100
) d JOIN cmdb_configurationitem ci ON ci.id = d.ci_id GROUP BY b.id
"""


@dataclass(frozen=True, slots=True)
class ETA:
    """When its last wave will have passed: as half, and as nine of ten CIs so far took. None: unknown, `why` says why.

    `assumes` are the lines that it rests on.
    """

    typical: datetime | None = None
    slow: datetime | None = None
    why: str = ""
    assumes: tuple[str, ...] = ()


def eta_of(rollout: Rollout, waves: list[Wave], counts: dict[int, Counts], *, now: datetime) -> ETA | None:
    """None for one that has ended. Four statements at most; what is computed depends on no size."""
    if rollout.state not in Rollout.ACTIVE:
        return None
    if rollout.state != Rollout.State.RUNNING:
        return ETA(why=_("unknown while it is “%s”") % rollout.get_state_display())
    done = {Wave.State.PASSED, Wave.State.ROLLED_BACK}
    left = [wave for wave in waves if wave.kind == Wave.Kind.FORWARD and wave.state not in done]
    with connection.cursor() as cursor:
        cursor.execute(_TOOK, {"batches": [wave.batch_id for wave in waves if wave.kind == Wave.Kind.FORWARD]})
        measured, half, most = cursor.fetchone()
        if measured < LEAST_DURATIONS:
            return ETA(why=_("unknown until %d CIs have installed it") % LEAST_DURATIONS)
        asked: dict[str, Any] = {"batches": [wave.batch_id for wave in left]}
        asked["pushed"] = ConfigurationItem.Channel.ANSIBLE.value
        cursor.execute(_PUSHED, asked)
        pushed: dict[int, float] = dict(cursor.fetchall())
    accepted = accepted_of([wave.pk for wave in left])
    are_asking = any(part < 1 for part in pushed.values())
    policy = RolloutPolicy.from_json(rollout.policy)
    took = Spread(half, max(most, half))
    ends = [_end(left, counts, accepted, pushed, policy, spread, now) for spread in (took, took.slower())]
    if not all(math.isfinite(second) for second in ends):
        return ETA(why=_("unknown: at this rate a wave never reaches its threshold"))
    typical, slow = (now + timedelta(seconds=second) for second in ends)
    return ETA(typical, slow, assumes=tuple(_assumptions(policy, left, measured, half, most, are_asking)))


def _end(
    left: list[Wave],
    counts: dict[int, Counts],
    accepted: dict[int, Accepted],
    pushed: dict[int, float],
    policy: RolloutPolicy,
    took: Spread,
    now: datetime,
) -> float:
    """Seconds until the last of these waves has passed."""
    soaking = next((wave for wave in left if wave.state == Wave.State.SOAKING), None)
    rest = [wave for wave in left if wave is not soaking]
    at = 0.0
    if soaking is not None:
        soaked = float(soaking.soaked_seconds)
        if soaking.soak_started_at is not None:
            soaked += (now - soaking.soak_started_at).total_seconds()
        at = max(0.0, policy.soak_seconds - soaked)
    crowds = [_crowds(counts[wave.batch_id], accepted[wave.pk], pushed.get(wave.batch_id, 0.0), took) for wave in rest]
    return at + run_rollout(crowds, policy).ends if crowds else at


def _crowds(number: Counts, accepted: Accepted, pushed: float, took: Spread) -> list[Crowd]:
    """What is left of a wave: as if those under way began now, so rather too late than too early.

    What failed holds it back unless somebody accepted it; an overdue one that was accepted is waited for no more.
    """
    ended = number.succeeded + number.skipped
    excluded = number.excluded + accepted.total
    lost = number.failed + number.cancelled + number.superseded - (accepted.total - accepted.overdue)
    awaited = number.open - accepted.overdue
    by_push = round(awaited * pushed)
    nothing = Spread(0.0, 0.0)
    found = []
    for size, lanes, interval in (
        (awaited - by_push, None, settings.DDI_POLL_SECONDS * _JITTER),
        (by_push, settings.PUSH_RUNS * settings.PUSH_FORKS, 2.0),
    ):
        if size:
            found.append(Crowd(size, nothing, took, asks_within=interval * size / (size + 1), lanes=lanes))
    return [*found, Crowd(0, nothing, took, already=ended, excluded=excluded, lost=lost)]


def _assumptions(
    policy: RolloutPolicy, left: list[Wave], measured: int, half: float, most: float, are_asking: bool
) -> list[str]:
    lines = [
        ngettext(
            "From offer to proof: %(half)d s for half of the CIs, %(most)d s for nine of ten (its last %(n)d CI).",
            "From offer to proof: %(half)d s for half of the CIs, %(most)d s for nine of ten (its last %(n)d CIs).",
            measured,
        )
        % {"half": round(half), "most": round(most), "n": measured},
        _("Those under way count as if they began now. “If slow”: each takes as long as the slowest tenth so far."),
    ]
    if are_asking:
        lines.append(_("Devices ask every %d s, evenly spread.") % settings.DDI_POLL_SECONDS)
    waves = len(left)
    lines.append(
        ngettext(
            "%(n)d wave has not passed; it needs %(soak)s s without a problem.",
            "%(n)d waves have not passed; each needs %(soak)s s without a problem.",
            waves,
        )
        % {"n": waves, "soak": policy.soak_seconds}
    )
    lines.append(
        _("Failures stay within the thresholds; nobody stops it; gates, freezes and maintenance windows cost no time.")
    )
    return lines
