"""When a maintenance window is open: weekly, by the site's own clock. Pure functions; times in and out are UTC."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

DAYS = "1234567"


def check_zone(name: str) -> None:
    """Refuses a name that is no IANA time zone with `ValidationError`."""
    if name not in available_timezones():
        raise ValidationError(_("“%(name)s” is no time zone. Write it like Europe/Berlin."), params={"name": name})


def occurrence(weekdays: str, start: time, length: timedelta, zone: str, now: datetime) -> tuple[datetime, datetime]:
    """Begin and end of the occurrence that is under way; else of the next one.

    `weekdays` are ISO digits (1: Monday), `start` is a local time in `zone`, `length` is elapsed time, at most a week:
    a window that begins at 22:00 for four hours ends four hours later also where the clock is changed meanwhile. A
    start that the clock skips is moved by what it skips; of one that comes twice the first counts.
    """
    here = ZoneInfo(zone)
    first = now.astimezone(here).date() - length - timedelta(days=1)
    for days in range(length.days + 10):
        day = first + timedelta(days=days)
        if str(day.isoweekday()) not in weekdays:
            continue
        begin = datetime.combine(day, start, tzinfo=here).astimezone(UTC)
        if now < begin + length:
            return begin, begin + length
    raise ValueError("a window has at least one weekday")


def occurrences(
    weekdays: str, start: time, length: timedelta, zone: str, after: datetime, before: datetime
) -> list[tuple[datetime, datetime]]:
    """Begin and end of every occurrence that has a part between the two times, in order; as in `occurrence`."""
    here = ZoneInfo(zone)
    day = after.astimezone(here).date() - length - timedelta(days=1)
    last = before.astimezone(here).date()
    found = []
    while day <= last:
        if str(day.isoweekday()) in weekdays:
            begin = datetime.combine(day, start, tzinfo=here).astimezone(UTC)
            if begin < before and begin + length > after:
                found.append((begin, begin + length))
        day += timedelta(days=1)
    return found
