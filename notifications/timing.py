"""When a mail may go out: quiet hours and times of digests, on the clock of its reader. Pure functions."""

import zoneinfo
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from notifications.kinds import Mail


def zone_of(person: Any) -> tzinfo:
    """The person's time zone; UTC where it is none."""
    try:
        return zoneinfo.ZoneInfo(person.time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return UTC


def end_of_quiet(moment: datetime, quiet_from: time | None, quiet_until: time | None, zone: tzinfo) -> datetime | None:
    """When the quiet hours around `moment` end, in UTC; None when it is not in them.

    They may go over midnight. Equal times are no quiet hours.
    """
    if quiet_from is None or quiet_until is None or quiet_from == quiet_until:
        return None
    local = moment.astimezone(zone)
    clock = local.time()
    is_over_midnight = quiet_from > quiet_until
    is_quiet = clock >= quiet_from or clock < quiet_until if is_over_midnight else quiet_from <= clock < quiet_until
    if not is_quiet:
        return None
    day = local.date() + timedelta(days=1) if clock >= quiet_until else local.date()
    return next((end for end in _moments(day, quiet_until, zone) if end > moment), None)


def next_digest(after: datetime, period: str, at: time, weekday: int, zone: tzinfo) -> datetime:
    """The first time of a digest after a moment, in UTC; `weekday` (Monday: 0) counts for weekly ones."""
    today = after.astimezone(zone).date()
    for days in range(15):
        day = today + timedelta(days=days)
        if period == Mail.WEEKLY and day.weekday() != weekday:
            continue
        moment = _moments(day, at, zone)[0]
        if moment > after:
            return moment
    raise AssertionError("a fortnight has a digest")


def _moments(day: date, clock: time, zone: tzinfo) -> list[datetime]:
    """A local time in UTC: twice where the clock is set back."""
    return sorted({datetime.combine(day, clock.replace(fold=fold), zone).astimezone(UTC) for fold in (0, 1)})
