"""What others changed on a ticket since somebody read it, told from its append-only history; conflicts of edits."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db import models, transaction
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tickets.exceptions import EditConflict
from tickets.timeline import sees_notes

# Of so many changes people are told; more than that is another ticket altogether.
MOST_CHANGES = 20
# Columns that say nothing to people.
INTERNAL = {"id", "version", "updated_at", "resolved_by_event", "hold_reason_before", "implemented_by_event"}


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that somebody changed, in words. Without a `field` it was the links that changed.

    `before` and `after` are both empty where the values are not told.
    """

    who: str
    at: datetime
    field: str
    label: str
    before: str
    after: str


def changes_since(ticket: Any, version: int) -> list[FieldChange]:
    """What was changed on the ticket after it had this version, oldest first, at most `MOST_CHANGES` steps of it."""
    history = ticket.history.select_related("pgh_context").order_by("-pgh_id")
    later = list(history.filter(version__gt=version)[:MOST_CHANGES])[::-1]
    base = history.filter(version__lte=version).first()
    if base is None or not later:
        return []
    writers = _writers(later)
    fields = [field for field in ticket._meta.concrete_fields if _is_told(field, base)]
    steps = list(zip([base, *later], later, strict=False))
    names = _names(fields, [base, *later])
    found: list[FieldChange] = []
    for before, after in steps:
        who, at = writers.get(_writer(after), _("somebody")), after.pgh_created_at
        changed = [field for field in fields if getattr(before, field.attname) != getattr(after, field.attname)]
        for field in changed:
            old, new = (_in_words(field, row, names) for row in (before, after))
            found.append(FieldChange(who, at, field.name, str(field.verbose_name), old, new))
        if not changed and before.version != after.version:
            found.append(FieldChange(who, at, "", _("links"), "", ""))
    return found


def conflict_of(ticket: Any, read: int, *, reader: Any) -> EditConflict:
    """The refusal of an edit that began from the version `read`, with what was changed since.

    The values are for a `reader` who sees internal notes; others are told which fields it was.
    """
    current = type(ticket)._base_manager.values_list("version", flat=True).get(pk=ticket.pk)
    changes = changes_since(ticket, read)
    if reader is None or not sees_notes(ticket, reader):
        changes = [replace(change, before="", after="") for change in changes]
    return EditConflict(ticket.number, version=current, changes=changes)


def check_version(ticket: Any, read: int | None, *, reader: Any) -> None:
    """Refuses with `EditConflict` when the ticket is not the version `read` any more (None: nobody asks)."""
    if read is not None and ticket.version != read:
        raise conflict_of(ticket, read, reader=reader)


@contextmanager
def as_read(ticket: Any, read: int | None, *, reader: Any) -> Iterator[None]:
    """A transaction in which the ticket is, and stays, the version `read`; else `EditConflict`. None: nobody asks.

    The caller has checked the right of `reader` to do what follows.
    """
    if read is None:
        yield
        return
    with transaction.atomic():
        rows = type(ticket)._base_manager.select_for_update()
        if rows.values_list("version", flat=True).get(pk=ticket.pk) != read:
            raise conflict_of(ticket, read, reader=reader)
        yield


def _is_told(field: Any, row: Any) -> bool:
    return field.name not in INTERNAL and hasattr(row, field.attname)


def _writer(row: Any) -> int | None:
    """The key of the person who wrote this row of the history; None: the portal itself, or unknown."""
    context = row.pgh_context
    return (context.metadata or {}).get("user") if context is not None else None


def _writers(rows: list[Any]) -> dict[int | None, str]:
    keys = {key for row in rows if (key := _writer(row)) is not None}
    people = get_user_model().objects.in_bulk(list(keys)) if keys else {}
    return {key: str(person) for key, person in people.items()}


def _names(fields: list[Any], rows: list[Any]) -> dict[tuple[str, Any], str]:
    """The names of what foreign keys point to, where they differ: one query for each field that was changed."""
    found: dict[tuple[str, Any], str] = {}
    for field in fields:
        if not isinstance(field, models.ForeignKey):
            continue
        keys = {getattr(row, field.attname) for row in rows}
        if len(keys) > 1:
            named = field.related_model._base_manager.in_bulk([key for key in keys if key is not None])
            found |= {(field.name, key): str(one) for key, one in named.items()}
    return found


def _in_words(field: Any, row: Any, names: dict[tuple[str, Any], str]) -> str:
    value = getattr(row, field.attname)
    if value in (None, ""):
        return "–"
    if isinstance(field, models.ForeignKey):
        return names.get((field.name, value), str(value))
    if isinstance(field, models.JSONField):
        text = ngettext("a plan of %(count)d entry", "a plan of %(count)d entries", len(value))
        return text % {"count": len(value)}
    if field.choices:
        return str(dict(field.flatchoices).get(value, value))
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, datetime):
        return date_format(timezone.localtime(value), "Y-m-d H:i")
    return str(value)
