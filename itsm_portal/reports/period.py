"""Which period somebody asks for."""

from datetime import date, datetime, timedelta
from typing import Any

from django.utils import timezone

from itsm_portal.reports.report import Asked

WEEKS = 12
MOST_DAYS = 1100
# Before it nothing is counted, so that the arithmetic of dates stays within the calendar.
EARLIEST = date(1970, 1, 1)


def asked_of(data: dict[str, Any], now: datetime) -> Asked:
    """The period that was asked for; without days the last twelve weeks up to now."""
    zone = timezone.get_current_timezone()
    end = now
    if data.get("last"):
        last = min(data["last"], timezone.localdate(now, zone))
        day = max(last, EARLIEST) + timedelta(days=1)
        end = min(now, datetime(day.year, day.month, day.day, tzinfo=zone))
    start = end - timedelta(weeks=WEEKS)
    if data.get("first"):
        day = max(data["first"], EARLIEST)
        start = min(datetime(day.year, day.month, day.day, tzinfo=zone), end)
    start = max(start, end - timedelta(days=MOST_DAYS))
    return Asked(start, end, data.get("unit") or "week", data.get("team"))
