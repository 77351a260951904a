"""Holds a rollout that runs into a freeze or past its planned time, and lets it go on by itself afterwards.

What is under way finishes: only new offers are forbidden.
"""

from datetime import datetime

from distribution import services as distribution
from releases.models import Rollout, Wave
from releases.services.pausing import pause
from releases.services.rollouts import standing_waves
from releases.services.window_override import resume_after_window
from releases.windows import blocks


def hold(rollout: Rollout, now: datetime) -> bool:
    """Pauses a running rollout that would offer something where it must not. True: it is paused now."""
    standing = [block for block in blocks(rollout, now) if not block.is_start]
    if not standing or not _would_offer(rollout):
        return False
    pause(
        rollout,
        kind=Rollout.PauseKind.WINDOW,
        reason=" ".join(block.reason for block in standing),
        actor=None,
        now=now,
    )
    return True


def let_go(rollout: Rollout, now: datetime) -> bool:
    """Resumes a rollout that was held, as soon as nothing stands against it any more."""
    if rollout.pause_kind != Rollout.PauseKind.WINDOW or [b for b in blocks(rollout, now) if not b.is_start]:
        return False
    resume_after_window(rollout, now=now)
    return True


def _would_offer(rollout: Rollout) -> bool:
    """Whether a wave is about to open, or CIs of an open one still wait for their offer."""
    waves = list(standing_waves(rollout))
    if next((wave.state for wave in waves if wave.state != Wave.State.PASSED), None) == Wave.State.WAITING:
        return True
    begun = [wave.batch_id for wave in waves if wave.state != Wave.State.WAITING]
    return any(counts.queued for counts in distribution.counts(begun).values())
