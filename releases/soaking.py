"""The problem-free period of a wave: it begins when the success threshold is met, begins anew with each failure and
each qualifying incident, and stands still while the rollout is paused (`services.soak_clock`)."""

from datetime import datetime

from django.utils.translation import gettext as _

from releases import conditions
from releases.gates import Incidents, incidents_since_installation
from releases.models import Rollout, RolloutEvent, Wave
from releases.policy import RolloutPolicy
from releases.services.log import log
from tickets.lifecycle import move


def begin(rollout: Rollout, wave: Wave, numbers: conditions.WaveNumbers, policy: RolloutPolicy, now: datetime) -> None:
    """The wave's threshold is met: its problem-free period begins."""
    known = {
        "soak_failures": conditions.lost(numbers, policy),
        "soak_incidents": incidents_since_installation(rollout, wave).count,
    }
    update = {"soak_started_at": now, "soaked_seconds": 0, **known}
    move(wave, "soak", actor=None, now=now, update=update, touch=None)
    log(rollout, RolloutEvent.Kind.WAVE_SOAKING, now=now, wave=wave, told=False)


def has_begun_anew(
    rollout: Rollout,
    wave: Wave,
    numbers: conditions.WaveNumbers,
    incidents: Incidents,
    policy: RolloutPolicy,
    now: datetime,
) -> bool:
    """Whether something went wrong since the period began; then it begins anew, which is written."""
    failed = conditions.lost(numbers, policy)
    known = {"soak_failures": failed, "soak_incidents": incidents.count}
    if failed > wave.soak_failures:
        text, began_at = _("One of its CIs failed: the problem-free period begins anew."), now
    elif incidents.count > wave.soak_incidents and incidents.newest_at is not None:
        text = _("An incident on one of its CIs: the problem-free period begins anew.")
        began_at = max(wave.soak_started_at or now, incidents.newest_at)
    else:
        if (failed, incidents.count) != (wave.soak_failures, wave.soak_incidents):
            # A CI that caught up, an incident that was cancelled: the next one counts again.
            Wave.objects.filter(pk=wave.pk).update(**known)
        return False
    Wave.objects.filter(pk=wave.pk).update(soak_started_at=began_at, soaked_seconds=0, **known)
    log(rollout, RolloutEvent.Kind.WAVE_SOAKING, now=now, text=text, wave=wave)
    return True


def is_over(wave: Wave, policy: RolloutPolicy, now: datetime) -> bool:
    """Whether the wave has been free of problems for long enough."""
    if wave.soak_started_at is None:
        return False
    return conditions.is_soak_over(wave.soak_started_at, now, policy, soaked_seconds=wave.soaked_seconds)


def ends_at(wave: Wave, policy: RolloutPolicy, now: datetime) -> datetime:
    """When the period is over if nothing goes wrong from now on."""
    return conditions.soak_ends_at(wave.soak_started_at or now, policy, soaked_seconds=wave.soaked_seconds)
