"""Too many polls at once: what this process cannot answer soon it sends away, before it asks the database anything."""

import random
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

_EARLIEST, _LATEST = 5, 30  # seconds

_polls = threading.BoundedSemaphore(settings.DDI_PARALLEL_POLLS)


def come_back_later() -> HttpResponse:
    """“Later”, at a moment of the device's own, so that those who are sent away together do not return together."""
    later = random.randint(_EARLIEST, _LATEST)  # noqa: S311 - only spreads the load
    response = HttpResponse(status=429, headers={"Retry-After": str(later)})
    # A line of log for each would cost more than the answer.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response


def sheds_load(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Sends a request away while `DDI_PARALLEL_POLLS` others are in the view. For polls only: no report is lost."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not _polls.acquire(blocking=False):
            return come_back_later()
        try:
            return view(request, *args, **kwargs)
        finally:
            _polls.release()

    return wrapped
