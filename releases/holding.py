"""Holds a rollout that runs into a freeze or past its planned time, and lets it go on by itself afterwards.

What is under way finishes: only new offers are forbidden.
"""

from datetime import datetime

from distribution import services as distribution
from releases.models import Rollout, Wave
from releases.services.pausing import pause
from releases.services.rollouts import standing_waves
from releases.services.window_override import resume_after_window
from releases.windows import Block, blocks


def hold(rollout: Rollout, now: datetime) -> bool:
    """Pauses a running rollout that would offer something where it must not. True: it is paused now."""
    standing = _standing(rollout, now)
    return bool(standing) and _would_offer(rollout) and _pause(rollout, standing, now)


def let_go(rollout: Rollout, now: datetime) -> bool:
    """Resumes a rollout that was held, as soon as nothing stands against it any more; says what does when that is
    something else by now.
    """
    if rollout.pause_kind not in Rollout.OUTSIDE:
        return False
    if standing := _standing(rollout, now):
        return _pause(rollout, standing, now)
    resume_after_window(rollout, now=now)
    return True


def _standing(rollout: Rollout, now: datetime) -> list[Block]:
    return [block for block in blocks(rollout, now) if not block.is_start]


def _pause(rollout: Rollout, standing: list[Block], now: datetime) -> bool:
    """False: it is paused for just that already."""
    kind = Rollout.PauseKind.FREEZE if all(block.is_freeze for block in standing) else Rollout.PauseKind.WINDOW
    reason = " ".join(block.reason for block in standing)
    if (rollout.pause_kind, rollout.pause_reason) == (kind, reason):
        return False
    pause(rollout, kind=kind, reason=reason, actor=None, now=now)
    return True


def _would_offer(rollout: Rollout) -> bool:
    """Whether a wave is about to open, or CIs of an open one still wait for their offer."""
    waves = list(standing_waves(rollout))
    if next((wave.state for wave in waves if wave.state != Wave.State.PASSED), None) == Wave.State.WAITING:
        return True
    begun = [wave.batch_id for wave in waves if wave.state != Wave.State.WAITING]
    return any(counts.queued for counts in distribution.counts(begun).values())
