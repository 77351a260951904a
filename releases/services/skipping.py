"""Leaves a wave behind by a person's decision: whoever still waits in it is taken out, then it counts as passed.

Of a large wave the order is kept on it, and the ticks take out what is left; meanwhile it offers nothing.
"""

from datetime import datetime

from accounts.models import User
from distribution import services as distribution
from distribution import steps
from releases.models import Rollout, RolloutEvent, Verdict, Wave
from releases.services.failures import accept_failures, numbers_of_wave
from releases.services.log import cis_text, log
from tickets.lifecycle import move


def skip_wave(rollout: Rollout, wave: Wave, *, actor: User, now: datetime, reason: str) -> None:
    """Accepts what failed so far, and takes out the first of those that wait. The rollout is locked."""
    wave.skipped_by, wave.skip_reason, wave.skipped = actor, reason, 0
    distribution.close_batch(wave.batch)
    is_last = _take_out(wave, now)
    accept_failures(rollout, [wave], actor=actor, now=now, reason=reason)
    if is_last:
        _finish(rollout, wave, now)


def go_on_skipping(rollout: Rollout, wave: Wave, now: datetime) -> None:
    """Takes out the next ones; after the last, the wave has passed."""
    if _take_out(wave, now):
        _finish(rollout, wave, now)


def _take_out(wave: Wave, now: datetime) -> bool:
    """True: nobody is left who waits."""
    excluded = distribution.exclude_waiting([wave.batch_id], now=now, reason=wave.skip_reason)
    wave.skipped += excluded
    wave.save(update_fields=["skipped_by", "skip_reason", "skipped"])
    return excluded < steps.CHUNK


def _finish(rollout: Rollout, wave: Wave, now: datetime) -> None:
    actor, reason = wave.skipped_by, wave.skip_reason
    assert actor is not None
    if wave.skipped:
        log(rollout, RolloutEvent.Kind.EXCLUDED, now=now, text=cis_text(wave.skipped), actor=actor, wave=wave)
    override_wave(rollout, wave, actor=actor, now=now, reason=reason)
    Wave.objects.filter(pk=wave.pk).update(skipped_by=None, skip_reason="")
    wave.skipped_by = None
    # What is under way in it goes on, and may be tried again.
    distribution.open_batch(wave.batch, now=now)


def override_wave(rollout: Rollout, wave: Wave, *, actor: User, now: datetime, reason: str) -> None:
    """Lets the wave count as passed by a person's decision: a verdict with the numbers that he decided upon."""
    Verdict.objects.create(
        wave=wave,
        kind=Verdict.Kind.OVERRIDE,
        round=rollout.round,
        outcome=Verdict.Outcome.OVERRIDDEN,
        numbers=numbers_of_wave(wave).to_json(),
        policy=rollout.policy,
        event_position=distribution.log_position(),
        at=now,
    )
    move(wave, "override", actor=None, now=now, update={"finished_at": now}, touch=None)
    log(rollout, RolloutEvent.Kind.OVERRIDDEN, now=now, text=reason, actor=actor, wave=wave)
