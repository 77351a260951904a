"""How long devices are told to sleep: jitter, the time before a maintenance window, and the load of this process."""

import threading
import time
import zlib
from datetime import datetime

from django.conf import settings

from cmdb.models import ConfigurationItem

# A copy is watched while its problem-free period runs: it must not sleep as long as a device in the field.
_COPY_SLEEP = 5
_LONGEST_SLEEP = 23 * 3600 + 59 * 60 + 59
# Before its window opens a device asks about so often, but not more often than every so many seconds.
_POLLS_BEFORE_WINDOW = 3
_SHORTEST_BEFORE_WINDOW = 30
_PERIOD = 10.0
_MOST = 8


class Load:
    """Polls that this process answered, counted in periods of ten seconds.

    `step` is by how much idle devices sleep longer: 1, 2, 4 or 8. It goes up when a period had more polls than wanted,
    and down only when it had less than a quarter of that, so that it does not swing with the polls that it moves.
    """

    def __init__(self) -> None:
        self.step = 1
        self._count = 0
        self._end = 0.0
        self._lock = threading.Lock()

    def count(self, at: float) -> int:
        """Counts one poll at `at` (seconds of a clock that never goes back); the step that holds now."""
        wanted = settings.DDI_POLLS_PER_SECOND * _PERIOD
        with self._lock:
            if at >= self._end:
                # A period without any poll between them is one of rest.
                polls = self._count if at < self._end + _PERIOD else 0
                self.step = _next_step(self.step, polls, wanted)
                self._count, self._end = 0, at + _PERIOD
            self._count += 1
            return self.step


def _next_step(step: int, polls: float, wanted: float) -> int:
    if polls > wanted:
        return min(step * 2, _MOST)
    return max(step // 2, 1) if polls < wanted / 4 else step


load = Load()


def sleep_time(ci: ConfigurationItem, now: datetime, *, is_idle: bool = True) -> str:
    """How long to sleep until the next poll, HH:MM:SS, from 00:00:01 to 23:59:59.

    The same device gets the same time from poll to poll, up to a tenth more than wanted; only a step of the load and
    the approach of its window change it. A device that is at work is never slowed down.
    """
    step = load.count(time.monotonic())
    seconds = settings.DDI_POLL_SECONDS
    if ci.copy_of_id is not None:
        seconds = min(seconds, _COPY_SLEEP)
    elif is_idle:
        seconds = _before_window(ci, now, seconds * step)
    seconds += zlib.crc32((ci.agent_id or "").encode()) % (seconds // 10 + 1)
    return clock(max(1, min(seconds, _LONGEST_SLEEP)))


def _before_window(ci: ConfigurationItem, now: datetime, seconds: int) -> int:
    if ci.window is None:
        return seconds
    left = int((ci.window.occurrence(now)[0] - now).total_seconds())
    if left <= 0:
        return seconds
    return min(seconds, max(left // _POLLS_BEFORE_WINDOW, _SHORTEST_BEFORE_WINDOW))


def clock(seconds: int) -> str:
    """Seconds as HH:MM:SS."""
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
