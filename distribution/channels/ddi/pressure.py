"""Too many polls at once: what this process cannot answer soon it sends away, before it asks the database anything.

Those who are sent away get appointments: each may come back when the process, at the pace it shows under pressure, has
got to him. A fixed range of seconds would bring a large fleet back faster than it can be answered, until all the time
goes into sending away.
"""

import random
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

_EARLIEST, _LATEST, _LATEST_REPORT = 5, 600, 30  # seconds
_FIRST_PACE, _LEAST_PACE = 50.0, 5.0  # polls a second

_polls = threading.BoundedSemaphore(settings.DDI_PARALLEL_POLLS)


class Appointments:
    """When those who are sent away may come back: one after the other, at the pace at which polls are answered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pace = _FIRST_PACE
        self._last = 0.0
        self._window, self._answered, self._is_pressed = clock(), 0, False

    def answered(self) -> None:
        """A poll was answered. Only under pressure the number a second says what the process can do."""
        with self._lock:
            self._answered += 1
            passed = self._clock() - self._window
            if passed < 1:
                return
            if self._is_pressed:
                self._pace = max(_LEAST_PACE, (self._pace + self._answered / passed) / 2)
            self._window, self._answered, self._is_pressed = self._window + passed, 0, False

    def next(self) -> int:
        """Seconds until the next appointment."""
        with self._lock:
            self._is_pressed = True
            now = self._clock()
            self._last = max(now + _EARLIEST, self._last + 1 / self._pace)
            wait = self._last - now
        # Later than that nobody waits: clocks and fleets change meanwhile.
        return round(wait if wait <= _LATEST else random.uniform(_LATEST / 2, _LATEST))  # noqa: S311 - only spreads


_appointments = Appointments()


def come_back_later() -> HttpResponse:
    """“Later”, at a moment of the device's own, so that those who are sent away together do not return together."""
    return _later(429, _appointments.next())


def send_it_again() -> HttpResponse:
    """For what must not be lost while the database is away: a device keeps its report until somebody has taken it."""
    return _later(503, random.randint(_EARLIEST, _LATEST_REPORT))  # noqa: S311 - only spreads the load


def _later(status: int, seconds: int) -> HttpResponse:
    response = HttpResponse(status=status, headers={"Retry-After": str(seconds)})
    # A line of log for each would cost more than the answer.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response


def sheds_load(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Sends a request away while `DDI_PARALLEL_POLLS` others are in the view, or while more than `DDI_WAITING` requests
    wait for a thread. For polls only: no report is lost.

    A poll that finds a deployment brings five more requests. Without the second bound a fleet that all has one would be
    let in faster than it can be served, and its reports would queue for longer than devices wait for an answer.
    """

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        # What the web server says; one that says nothing has no queue of its own.
        is_long = request.META.get("itsm_portal.waiting", 0) > settings.DDI_WAITING
        if is_long or not _polls.acquire(blocking=False):
            return come_back_later()
        try:
            return view(request, *args, **kwargs)
        finally:
            _polls.release()
            _appointments.answered()

    return wrapped
