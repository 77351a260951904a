"""How long a verb of a driver may take, and whether it is to end early."""

import time
from collections.abc import Callable

from test_environments.drivers.errors import Failed, Interrupted
from test_environments.drivers.texts import Text as _


class Bound:
    """A deadline on the monotonic clock, and a question whether the work is to end."""

    def __init__(self, seconds: float, is_stopped: Callable[[], bool] = lambda: False) -> None:
        self.seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._is_stopped = is_stopped

    @property
    def left(self) -> float:
        """Seconds until the deadline, zero once it has passed: fit as a timeout of a call."""
        return max(0.0, self._deadline - time.monotonic())

    def check(self) -> None:
        """Raises Interrupted when the work is to end, Failed when the time is up."""
        if self._is_stopped():
            raise Interrupted
        if time.monotonic() >= self._deadline:
            raise Failed(_("It did not finish within %(seconds).0f seconds.", seconds=self.seconds))

    def wait(self, condition: Callable[[], object], *, every: float = 0.05, seconds: float | None = None) -> bool:
        """Waits until `condition` is true, at most for `seconds`, never beyond the deadline; whether it came true.

        Raises Interrupted when the work is to end.
        """
        end = self._deadline if seconds is None else min(self._deadline, time.monotonic() + seconds)
        while not condition():
            if self._is_stopped():
                raise Interrupted
            if time.monotonic() >= end:
                return False
            time.sleep(min(every, max(0.0, end - time.monotonic())))
        return True
