"""The clock of the problem-free period: it stands still while its rollout is paused."""

from datetime import datetime

from releases.models import Rollout, Wave


def stop_soak_clock(rollout: Rollout, *, now: datetime) -> None:
    """Keeps what has passed without a problem until now."""
    for wave in rollout.waves.filter(state=Wave.State.SOAKING, soak_started_at__isnull=False):
        passed = int((now - (wave.soak_started_at or now)).total_seconds())
        soaked = wave.soaked_seconds + max(0, passed)
        Wave.objects.filter(pk=wave.pk).update(soak_started_at=None, soaked_seconds=soaked)


def start_soak_clock(rollout: Rollout, *, now: datetime) -> None:
    """Goes on from where it stood."""
    stopped = rollout.waves.filter(state=Wave.State.SOAKING, soak_started_at__isnull=True)
    stopped.update(soak_started_at=now)
