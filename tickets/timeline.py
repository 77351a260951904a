"""A ticket's timeline as pages show it: newest first, a bounded part at a time, what the person may read."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from tickets.models import EntryKind

PAGE = 50
# What one may look at alone, by the word in the address.
ONLY: dict[str, tuple[str, ...]] = {
    "comments": (EntryKind.COMMENT, EntryKind.NOTE),
    "changes": (EntryKind.STATE, EntryKind.LINK, EntryKind.SYSTEM),
}


@dataclass(frozen=True, slots=True)
class Part:
    """Some entries, newest first. `older` is the key to go on before, `newest` the one to ask after; None: no entry."""

    entries: list[Any]
    older: int | None
    newest: int | None
    only: str


NOTHING = Part([], None, None, "")


def sees_notes(ticket: Any, user: Any) -> bool:
    """Internal notes are read by those who see every ticket of this kind."""
    meta = type(ticket)._meta
    return bool(user.has_perm(f"{meta.app_label}.see_all_{meta.model_name}s"))


def read_part(ticket: Any, user: Any, *, only: str = "", before: int | None = None, after: int | None = None) -> Part:
    """At most `PAGE` entries, from the newest one or from `before` on; with `after` only those that came since.

    One query that reads no more rows than it shows; another one with `before`, for the moment where it goes on.
    """
    rows = ticket.entries.select_related("author").prefetch_related("attachments").order_by("-created_at", "-id")
    if not sees_notes(ticket, user):
        rows = rows.filter(is_public=True)
    if only in ONLY:
        rows = rows.filter(kind__in=ONLY[only])
    if after is not None:
        rows = rows.filter(id__gt=after)
    if before is not None:
        at = ticket.entries.filter(pk=before).values_list("created_at", flat=True).first()
        rows = rows.filter(Q(created_at__lt=at) | Q(created_at=at, id__lt=before)) if at is not None else rows.none()
    found = list(rows[: PAGE + 1])
    shown = found[:PAGE]
    states = dict(type(ticket).State.choices)
    for entry in shown:
        entry.from_label = states.get(entry.from_state, "")
        entry.to_label = states.get(entry.to_state, "")
    older = shown[-1].pk if len(found) > PAGE else None
    return Part(shown, older, max((entry.pk for entry in shown), default=None), only if only in ONLY else "")
