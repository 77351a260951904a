"""The steps forward: open a wave, wait for its threshold, let its problem-free period pass, go on, complete."""

from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from distribution import services as distribution
from distribution import steps
from failpoints import failpoint
from releases import conditions, going_back, soaking
from releases.gates import early_life_ends, incidents_since_installation
from releases.holding import hold, let_go
from releases.judging import Sight, judge_errors, store_verdict
from releases.models import Rollout, RolloutEvent, Verdict, Wave
from releases.policy import RolloutPolicy
from releases.services import cascade
from releases.services.failures import numbers_of_wave
from releases.services.log import cis_text, log, under_way_text, wait_for
from releases.services.pausing import pause
from releases.services.rollouts import standing_waves
from releases.services.skipping import go_on_skipping
from releases.services.withdrawn import tell_withdrawn, withdrawn_text
from releases.windows import STAMP, blocks
from tickets.lifecycle import move
from tickets.services import move_ticket


def run(rollout: Rollout, now: datetime) -> bool:
    """One step of a running rollout; errors are judged before anything else."""
    if going_back.settle_waves(rollout, now):
        return True
    sight = judge_errors(rollout, now)
    if sight.has_acted or hold(rollout, now):
        return True
    withdrawn = withdrawn_text(rollout)
    if tell_withdrawn(rollout, withdrawn, now):
        return True
    wave = current_wave(rollout)
    if wave is None:
        return _complete(rollout, now)
    if wave.state == Wave.State.WAITING:
        return _open(rollout, wave, now)
    if wave.skipped_by_id is not None:
        go_on_skipping(rollout, wave, now)
        return True
    return _follow(rollout, wave, sight, withdrawn, now)


def watch(rollout: Rollout, now: datetime) -> bool:
    """Verdicts are made while paused, too: what was under way goes on. A window that held it lets it go."""
    if going_back.settle_waves(rollout, now) or judge_errors(rollout, now).has_acted:
        return True
    return let_go(rollout, now) or tell_withdrawn(rollout, withdrawn_text(rollout), now)


def current_wave(rollout: Rollout) -> Wave | None:
    """The first wave that has not ended."""
    return standing_waves(rollout).exclude(state=Wave.State.PASSED).first()


def _open(rollout: Rollout, wave: Wave, now: datetime) -> bool:
    """Change management decides when: no wave before the planned start."""
    early = [block.reason for block in blocks(rollout, now) if block.is_start]
    if early:
        return wait_for(rollout, early[0], now)
    if RolloutPolicy.from_json(rollout.policy).supersede:
        displaced = sum(distribution.supersede_older(wave.batch, now=now))
        if displaced >= steps.CHUNK:
            return True  # perhaps there are more
    move(wave, "open", actor=None, now=now, update={"started_at": now}, touch=None)
    failpoint("wave.opened")
    distribution.open_batch(wave.batch, now=now)
    log(rollout, RolloutEvent.Kind.WAVE_OPENED, now=now, text=cis_text(wave.size), wave=wave)
    wait_for(rollout, "", now)
    return True


def _follow(rollout: Rollout, wave: Wave, sight: Sight, withdrawn: str, now: datetime) -> bool:
    """A wave under way: threshold met → soak → passed."""
    policy = RolloutPolicy.from_json(rollout.policy)
    if not wave.batch.is_open:
        distribution.open_batch(wave.batch, now=now)
    if wave.state == Wave.State.SOAKING:
        return _soak(rollout, wave, sight, policy, now)
    seen = sight.numbers[wave.pk]
    if not conditions.is_success_reached(seen, policy) and not conditions.is_stuck(seen, policy):
        return wait_for(rollout, withdrawn or _whom_it_waits_for(rollout, wave, seen), now)
    numbers = numbers_of_wave(wave)
    if conditions.is_success_reached(numbers, policy):
        store_verdict(rollout, wave, Verdict.Kind.SUCCESS, Verdict.Outcome.PASSED, numbers, now)
        soaking.begin(rollout, wave, numbers, policy, now)
    elif conditions.is_stuck(numbers, policy):
        store_verdict(rollout, wave, Verdict.Kind.SUCCESS, Verdict.Outcome.INSUFFICIENT, numbers, now)
        reason = _("Wave %(wave)d: only %(ok)d of %(size)d CIs are confirmed, and nothing is under way.") % {
            "wave": wave.number,
            "ok": numbers.confirmed,
            "size": wave.size,
        }
        pause(rollout, kind=Rollout.PauseKind.STRAGGLERS, reason=reason, actor=None, now=now)
    return True


def _whom_it_waits_for(rollout: Rollout, wave: Wave, numbers: conditions.WaveNumbers) -> str:
    """Other rollouts that are under way on CIs of the wave; empty: none."""
    if not numbers.under_way + numbers.overdue:
        return ""
    unsettled = Wave.objects.filter(rollout__settled_at__isnull=True).exclude(rollout=rollout)
    others = distribution.waits_behind(wave.batch, unsettled.values_list("batch", flat=True))
    parts = [
        ngettext("%(rollout)s on %(n)d CI", "%(rollout)s on %(n)d CIs", number) % {"rollout": label, "n": number}
        for label, number in others
    ]
    return ", ".join(parts)[:200]


def _soak(rollout: Rollout, wave: Wave, sight: Sight, policy: RolloutPolicy, now: datetime) -> bool:
    """The problem-free period after the threshold; then the wave has passed."""
    seen = sight.numbers[wave.pk]
    if not conditions.is_success_reached(seen, policy):
        return _reopen(wave, now)
    incidents = sight.incidents.get(wave.pk) or incidents_since_installation(rollout, wave)
    if soaking.has_begun_anew(rollout, wave, seen, incidents, policy, now):
        return True
    if not soaking.is_over(wave, policy, now):
        text = _("the problem-free period of wave %(wave)d, until %(time)s") % {
            "wave": wave.number,
            "time": soaking.ends_at(wave, policy, now).strftime(STAMP),
        }
        return wait_for(rollout, text, now)
    if policy.probes and set(sight.said[wave.pk]) != {"pass"}:
        return wait_for(rollout, _("the probes of wave %d") % wave.number, now)
    numbers = numbers_of_wave(wave)
    if not conditions.is_success_reached(numbers, policy):
        return _reopen(wave, now)
    store_verdict(rollout, wave, Verdict.Kind.PASS, Verdict.Outcome.PASSED, numbers, now)
    move(wave, "succeed", actor=None, now=now, update={"finished_at": now}, touch=None)
    log(rollout, RolloutEvent.Kind.WAVE_PASSED, now=now, wave=wave)
    if policy.manual_gate and current_wave(rollout) is not None:
        reason = _("Wave %d has passed; the next one waits for a person.") % wave.number
        pause(rollout, kind=Rollout.PauseKind.GATE, reason=reason, actor=None, now=now)
    return True


def _reopen(wave: Wave, now: datetime) -> bool:
    """Confirmed success fell below the threshold again."""
    move(wave, "reopen", actor=None, now=now, update={"soak_started_at": None, "soaked_seconds": 0}, touch=None)
    return True


def _complete(rollout: Rollout, now: datetime) -> bool:
    batches = rollout.waves.filter(kind=Wave.Kind.FORWARD).values_list("batch", flat=True)
    if under_way := distribution.under_way(batches):
        return wait_for(rollout, under_way_text(under_way), now)
    if going_back.open_waves(rollout).exists():
        return wait_for(rollout, going_back.waits_for(rollout) or _("CIs on their way back"), now)
    watched_until = early_life_ends(rollout, RolloutPolicy.from_json(rollout.policy))
    if watched_until is not None and now < watched_until:
        text = _("early life support, until %s") % watched_until.strftime(STAMP)
        return wait_for(rollout, text, now)
    move(rollout, "complete", actor=None, now=now, update={"finished_at": now, "waits_for": ""})
    move_ticket(rollout.release, "complete", actor=None, now=now, text=_("%s completed.") % rollout.number)
    log(rollout, RolloutEvent.Kind.COMPLETED, now=now, told=False)
    cascade.begin(rollout, cascade.COMPLETED, now=now)
    return True
