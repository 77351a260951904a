"""What a planned time has to be."""

from datetime import datetime

from django.utils.timezone import is_naive
from django.utils.translation import gettext as _

from tickets.exceptions import InvalidInput


def check_dates(start: datetime | None, end: datetime | None) -> None:
    """Refuses a time without a zone, an end without a start, and an end before the start."""
    for name, value in (("planned_start", start), ("planned_end", end)):
        if value is not None and is_naive(value):
            raise InvalidInput(_("Name the time zone, too."), field=name)
    if end is not None and start is None:
        raise InvalidInput(_("Name the start, too."), field="planned_start")
    if start is not None and end is not None and end <= start:
        raise InvalidInput(_("The end must be after the start."), field="planned_end")
