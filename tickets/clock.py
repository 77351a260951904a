"""One clock for all: the database's. Read once per request or tick and passed down as `now`."""

from datetime import datetime
from typing import Any

from django.db import connection


def database_now() -> datetime:
    """The database's time, in UTC, with zone."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        row = cursor.fetchone()
    now: datetime = row[0]
    return now


def now_of(request: Any) -> datetime:
    """The request's time: read at the first use and kept for the rest of the request."""
    request = getattr(request, "_request", request)
    if not hasattr(request, "portal_now"):
        request.portal_now = database_now()
    now: datetime = request.portal_now
    return now
