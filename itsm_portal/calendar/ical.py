"""A calendar as iCalendar text (RFC 5545) for other programs: numbers, titles, states and times, no descriptions.

An entry has the same UID as long as it is the same thing (a planned wave becomes one of a rollout), and a SEQUENCE that
grows with each change of its object. What is cancelled is told
as such, since a program keeps what only vanishes from a feed. All times are UTC.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import urljoin

from icalendar import Calendar, Event

from accounts.models import CalendarFeed
from changes.models import Change
from itsm_portal.calendar.entries import KINDS, Entry, Wanted, entries_between

# What a feed reaches over: windows recur, and nobody looks at next year's.
PAST, FUTURE, WINDOWS_FUTURE = timedelta(days=31), timedelta(days=366), timedelta(days=56)
STEP = timedelta(minutes=15)
# Since when SEQUENCE counts seconds; it fits into 31 bits until 2088.
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_UNDECIDED = {Change.State.DRAFT, Change.State.SUBMITTED, Change.State.ASSESSED}


def feed_text(feed: CalendarFeed, *, now: datetime, base: str, domain: str) -> bytes:
    """The feed as its owner may see it now. `base` is the portal's address for links, `domain` ends the UIDs."""
    # What runs ends now: in steps, so that the text stays the same between two that differ in nothing else.
    now -= (now - _EPOCH) % STEP
    kinds = [kind for kind in KINDS if kind in feed.kinds]
    wanted = Wanted(
        kinds=tuple(kind for kind in kinds if kind != "window"), only_mine=feed.only_mine, with_cancelled=True
    )
    entries = entries_between(feed.user, now - PAST, now + FUTURE, now=now, wanted=wanted)
    if "window" in kinds:
        entries += entries_between(
            feed.user, now, now + WINDOWS_FUTURE, now=now, wanted=Wanted(kinds=("window",), only_mine=feed.only_mine)
        )
    return calendar_text(entries, name=feed.name, base=base, domain=domain)


def calendar_text(entries: Iterable[Entry], *, name: str, base: str, domain: str) -> bytes:
    """The entries as one VCALENDAR, in the language that is active."""
    calendar = Calendar()
    calendar.add("prodid", "-//ITSM portal//Calendar//EN")
    calendar.add("version", "2.0")
    calendar.add("name", name)
    calendar.add("x-wr-calname", name)
    calendar.add("refresh-interval", timedelta(minutes=30), parameters={"VALUE": "DURATION"})
    for entry in entries:
        calendar.add_component(_event(entry, base, domain))
    return bytes(calendar.to_ical())


def _event(entry: Entry, base: str, domain: str) -> Event:
    event = Event()
    changed = entry.updated_at or _EPOCH
    event.add("uid", f"{entry.key}@{domain}")
    event.add("dtstamp", changed.astimezone(UTC))
    event.add("last-modified", changed.astimezone(UTC))
    event.add("sequence", max(0, int((changed - _EPOCH).total_seconds())))
    event.add("dtstart", entry.start.astimezone(UTC))
    if entry.end > entry.start:
        event.add("dtend", entry.end.astimezone(UTC))
    event.add("summary", " ".join(filter(None, [entry.number, entry.title])))
    event.add("description", entry.state_label)
    event.add("categories", [entry.kind])
    if entry.url:
        event.add("url", urljoin(base, entry.url))
    if entry.is_cancelled:
        event.add("status", "CANCELLED")
    else:
        is_open = entry.kind == "change" and entry.state in _UNDECIDED
        event.add("status", "TENTATIVE" if is_open else "CONFIRMED")
    # It takes nobody's time: the calendar is about things.
    event.add("transp", "TRANSPARENT")
    return event
