"""What Celery beat starts, and how often. The rows remember; a tick only looks at them."""

from typing import Any

# Every tick.
TICKS = {
    "rollouts": "releases.tasks.advance_rollouts",
    "probes": "releases.tasks.take_probe_samples",
    "test environments": "test_environments.tasks.advance_test_environments",
    "push": "distribution.tasks.advance_push",
    "notifications": "notifications.tasks.send_notifications",
    "drifts": "incidents.tasks.advance_drift_incidents",
}
# Every ten minutes.
SELDOM = {
    "close resolved incidents": "incidents.tasks.auto_close_incidents",
    "forget idempotency keys": "tickets.tasks.forget_expired_keys",
    "forget files of tickets": "tickets.tasks.forget_files",
    "sweep the media library": "releases.tasks.sweep_library",
    "check the invariants": "releases.tasks.check_itself",
}


def beat_schedule(tick_seconds: int) -> dict[str, dict[str, Any]]:
    """A tick that nobody took within its period is void: the next one does the same work."""
    periods = {**dict.fromkeys(TICKS, float(tick_seconds)), **dict.fromkeys(SELDOM, 600.0)}
    return {
        name: {
            "task": task,
            "schedule": periods[name],
            "options": {"expires": periods[name], "ignore_result": True},
        }
        for name, task in {**TICKS, **SELDOM}.items()
    }
