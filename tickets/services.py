"""What every process does with a ticket: prioritise, write the timeline, move the state, comment."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from tickets.exceptions import InvalidInput, TransitionRefused
from tickets.lifecycle import move
from tickets.models import EntryKind, Level, Priority, PriorityRule, Ticket

T = TypeVar("T", bound=Ticket)

DEFAULT_MATRIX: dict[tuple[str, str], Priority] = {
    (Level.HIGH, Level.HIGH): Priority.CRITICAL,
    (Level.HIGH, Level.MEDIUM): Priority.HIGH,
    (Level.HIGH, Level.LOW): Priority.MODERATE,
    (Level.MEDIUM, Level.HIGH): Priority.HIGH,
    (Level.MEDIUM, Level.MEDIUM): Priority.MODERATE,
    (Level.MEDIUM, Level.LOW): Priority.LOW,
    (Level.LOW, Level.HIGH): Priority.MODERATE,
    (Level.LOW, Level.MEDIUM): Priority.LOW,
    (Level.LOW, Level.LOW): Priority.PLANNING,
}


def priority_for(impact: str, urgency: str) -> Priority:
    """The priority of a cell: the edited matrix, else the default one."""
    if (impact, urgency) not in DEFAULT_MATRIX:
        raise InvalidInput(_("Impact and urgency are high, medium or low."), field="impact")
    rule = PriorityRule.objects.filter(impact=impact, urgency=urgency).only("priority").first()
    return Priority(rule.priority) if rule else DEFAULT_MATRIX[(impact, urgency)]


def create_ticket(model: type[T], *, actor: Any, now: datetime, **values: Any) -> T:
    """Writes a new ticket of `model` with its priority and its first timeline entry. The caller has checked the right.

    `actor` is the author (None: the portal itself); `requester` defaults to the author. Refuses a title or a value
    that the model does not take with `InvalidInput`.
    """
    values.setdefault("impact", Level.MEDIUM)
    values.setdefault("urgency", Level.MEDIUM)
    values.setdefault("requester", actor)
    values["priority"] = priority_for(values["impact"], values["urgency"])
    ticket = model(created_by=actor, created_at=now, updated_at=now, **values)
    validate(ticket)
    with transaction.atomic():
        ticket.save(force_insert=True)
        record(ticket, kind=EntryKind.STATE, actor=actor, now=now, text=_("Created."), to_state=ticket.state)
    return ticket


def validate(instance: Any, *, exclude: Iterable[str] = ("state",)) -> None:
    """Checks the fields of a model instance and turns the first refusal into `InvalidInput`."""
    try:
        instance.clean_fields(exclude=set(exclude))
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise InvalidInput(messages[0], field=field) from error


def record(
    ticket: Any,
    *,
    kind: str,
    actor: Any,
    now: datetime,
    text: str = "",
    public: bool = True,
    from_state: str = "",
    to_state: str = "",
    key: str = "",
) -> bool:
    """Writes one timeline entry. With a `key` it is written at most once on this ticket; False when it was there."""
    entries = ticket.entries
    values = {
        "kind": kind,
        "is_public": public,
        "text": text,
        "from_state": from_state,
        "to_state": to_state,
        "author": actor,
        "created_at": now,
    }
    if not key:
        entries.create(**values)
        return True
    entry = entries.model(ticket=ticket, key=key, **values)
    with transaction.atomic():
        if entries.filter(key=key).exists():
            return False
        entries.model.objects.bulk_create([entry], ignore_conflicts=True)
    return True


def move_ticket(
    ticket: Any,
    verb: str,
    *,
    actor: Any,
    now: datetime,
    update: Mapping[str, Any] | None = None,
    text: str = "",
    public: bool = True,
    key: str = "",
) -> None:
    """Makes a transition and writes it into the timeline, in one transaction. Refusals as in `lifecycle.move`."""
    with transaction.atomic():
        old, new = move(ticket, verb, actor=actor, now=now, update=update)
        record(
            ticket,
            kind=EntryKind.STATE,
            actor=actor,
            now=now,
            text=text,
            public=public,
            from_state=old,
            to_state=new,
            key=key,
        )


def edit_fields(ticket: Any, *, now: datetime, expected_version: int | None, **values: Any) -> None:
    """Writes fields if nobody edited the ticket since `expected_version` (None: whatever it is now).

    Refuses with `TransitionRefused` when somebody did; the typed text is the caller's to keep.
    """
    for field, value in values.items():
        setattr(ticket, field, value)
    validate(ticket)
    rows = type(ticket)._base_manager.filter(pk=ticket.pk)
    if expected_version is not None:
        rows = rows.filter(version=expected_version)
    if not rows.update(version=F("version") + 1, updated_at=now, **values):
        raise TransitionRefused(
            _("%(number)s was changed by somebody else meanwhile. Look at the new version and enter yours again.")
            % {"number": ticket.number},
            code="edit_conflict",
        )
    ticket.refresh_from_db(fields=["version", "updated_at"])


def content_hash(content: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a JSON-like content in canonical form: what an approval is bound to."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()
