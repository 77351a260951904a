"""What every process does with a ticket: prioritise, write the timeline, move the state, comment."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import CharField, F, TextField
from django.utils.translation import gettext as _

from accounts import language
from accounts.language import portal_language
from tickets.exceptions import InvalidInput
from tickets.history import check_version, conflict_of
from tickets.lifecycle import move
from tickets.models import EntryKind, Level, Priority, PriorityRule, Ticket, TimelineEntry
from tickets.text import as_data

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


def reprioritise(rule: PriorityRule, *, now: datetime) -> int:
    """Gives the open tickets of the rule's cell its priority; finished ones keep theirs. Returns how many changed."""
    changed = 0
    for model in apps.get_models():
        if issubclass(model, Ticket):
            cell = model._default_manager.open().filter(impact=rule.impact, urgency=rule.urgency)  # type: ignore[attr-defined]
            other = cell.exclude(priority=rule.priority)
            changed += other.update(priority=rule.priority, updated_at=now, version=F("version") + 1)
    return changed


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
    state = str(ticket.__dict__["state"])  # each kind of ticket declares its own
    with transaction.atomic():
        ticket.save(force_insert=True)
        record(ticket, kind=EntryKind.STATE, actor=actor, now=now, text=language.gettext("Created."), to_state=state)
    return ticket


def validate(instance: Any, *, exclude: Iterable[str] = ("state",)) -> None:
    """Checks the fields of a model instance and turns the first refusal into `InvalidInput`."""
    try:
        instance.clean_fields(exclude=set(exclude))
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise InvalidInput(messages[0], field=field) from error
    for model_field in instance._meta.concrete_fields:
        value = instance.__dict__.get(model_field.attname)
        if not isinstance(value, str):
            continue
        is_line = isinstance(model_field, CharField)
        if "\0" in value or (is_line and ("\n" in value or "\r" in value)):
            raise InvalidInput(_("Line breaks and control characters cannot stand here."), field=model_field.name)


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
    values = {"kind": kind, "actor": actor, "now": now, "text": text, "public": public}
    entry = write_entry(ticket, **values, from_state=from_state, to_state=to_state, key=key)
    return entry is not None


def write_entry(
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
) -> TimelineEntry | None:
    """As `record`, but returns the entry; None when an entry with this key was there."""
    entry: TimelineEntry = ticket.entries.model(
        ticket=ticket,
        kind=kind,
        is_public=public,
        text=text,
        from_state=from_state,
        to_state=to_state,
        author=actor,
        created_at=now,
        key=key,
    )
    if not key:
        entry.save(force_insert=True)
        return entry
    if ticket.entries.filter(key=key).exists():
        return None
    try:
        with transaction.atomic():
            entry.save(force_insert=True)
    except IntegrityError:
        if not ticket.entries.filter(key=key).exists():
            raise
        return None
    return entry


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
    author: Any = None,
) -> str:
    """Makes a transition and writes it into the timeline, in one transaction. Refusals as in `lifecycle.move`.

    `author` signs the entry when the portal moves the ticket because of what this person did. Returns a word that is
    unique on the ticket for this very step; events of notices are made of it.
    """
    with transaction.atomic():
        old, new = move(ticket, verb, actor=actor, now=now, update=update, counted="version")
        entry = write_entry(
            ticket,
            kind=EntryKind.STATE,
            actor=actor or author,
            now=now,
            text=text,
            public=public,
            from_state=old,
            to_state=new,
            key=key,
        )
    return f"{verb}:{entry.pk if entry is not None else key}"


def move_once(
    ticket: Any,
    verb: str,
    *,
    now: datetime,
    key: str,
    text: str,
    update: Mapping[str, Any] | Callable[[], Mapping[str, Any] | None] | None = None,
) -> bool:
    """Makes a transition of the portal itself at most once for each `key`, under a lock on the ticket.

    `update` may be a function that looks at the locked ticket; when it gives None, the ticket is left alone. False,
    and nothing is written, then, when the key was used, or when the ticket is in another state than the verb needs:
    what people did since stands. A condition of the transition refuses with `ConditionRefused`.
    """
    with locked(ticket):
        if not getattr(type(ticket), verb)._django_fsm.has_transition(ticket.state):
            return False
        values = update() if callable(update) else update or {}
        if values is None or ticket.entries.filter(key=key).exists():
            return False
        move_ticket(ticket, verb, actor=None, now=now, update=values, text=text, key=key)
    return True


@contextmanager
def locked(ticket: Any) -> Iterator[None]:
    """A transaction in which nobody else changes the ticket's row; the instance is read again first.

    After a refusal the instance is as it was read, like the row.
    """
    with transaction.atomic():
        ticket.refresh_from_db(from_queryset=type(ticket)._base_manager.select_for_update())
        before = dict(ticket.__dict__)
        try:
            yield
        except BaseException:
            ticket.__dict__.clear()
            ticket.__dict__.update(before)
            raise


def required(text: str, field: str, message: str) -> str:
    """The text without blanks around it; refuses an empty one with `InvalidInput`."""
    text = text.replace("\0", "").strip()
    if not text:
        raise InvalidInput(message, field=field)
    return text


def edit_fields(ticket: Any, *, now: datetime, expected_version: int | None, reader: Any = None, **values: Any) -> None:
    """Writes fields if nobody changed the ticket since `expected_version` (None: whatever it is now).

    Refuses with `EditConflict`, as `reader` may read it, when somebody did; the typed text is the caller's to keep.
    """
    for field, value in values.items():
        setattr(ticket, field, value)
    validate(ticket)
    rows = type(ticket)._base_manager.filter(pk=ticket.pk)
    if expected_version is not None:
        rows = rows.filter(version=expected_version)
    if not rows.update(version=F("version") + 1, updated_at=now, **values):
        raise conflict_of(ticket, expected_version or 0, reader=reader)
    ticket.refresh_from_db(fields=["version", "updated_at"])


def edit_ticket(ticket: Any, *, actor: Any, now: datetime, expected_version: int | None, **values: Any) -> list[str]:
    """Edits what a ticket says, and writes into its timeline what was changed; returns the names of those fields.

    The caller has checked the right, and has the ticket locked. Impact and urgency give it another priority. Refuses
    with `EditConflict` what was changed since `expected_version` (None: nobody asks).
    """
    check_version(ticket, expected_version, reader=actor)
    before = {name: getattr(ticket, name) for name in values}
    values = {name: value for name, value in values.items() if before[name] != value}
    if not values:
        return []
    told = [_edited(ticket, name, before[name], value) for name, value in values.items()]
    if "impact" in values or "urgency" in values:
        cell = {name: values.get(name, getattr(ticket, name)) for name in ("impact", "urgency")}
        values["priority"] = priority_for(**cell)
    edit_fields(ticket, now=now, expected_version=None, **values)
    record(ticket, kind=EntryKind.SYSTEM, actor=actor, now=now, text="\n".join(f"- {line}" for line in told))
    return list(values)


@portal_language()
def _edited(ticket: Any, name: str, before: Any, after: Any) -> str:
    """A changed field in words: short ones with what they were and are; what people wrote is data."""
    field = ticket._meta.get_field(name)
    label = str(field.verbose_name)
    if isinstance(field, TextField):
        return _("Edited: %(fields)s.") % {"fields": label}
    if field.choices:
        before, after = (str(dict(field.flatchoices).get(value, value)) for value in (before, after))
    old, new = (as_data(str(value)) if value not in (None, "") else "–" for value in (before, after))
    return f"{label}: {old} → {new}"


def hand_over(ticket: Any, *, actor: Any, now: datetime, assignee: Any, team: Any, workers: tuple[str, ...]) -> str:
    """Gives a locked ticket to a person, a team or both, without a change of state; returns a word for this step.

    A team alone takes it from the person who had it. The caller has checked the right; a person without any of the
    rights `workers` cannot have it (`InvalidInput`).
    """
    update = assignment(ticket, assignee=assignee, team=team, workers=workers)
    type(ticket)._base_manager.filter(pk=ticket.pk).update(updated_at=now, version=F("version") + 1, **update)
    ticket.refresh_from_db()
    text = assigned_text(assignee, team)
    entry = write_entry(ticket, kind=EntryKind.NOTE, actor=actor, now=now, text=text, public=False)
    return f"assign:{entry.pk if entry is not None else ''}"


def assignment(ticket: Any, *, assignee: Any, team: Any, workers: tuple[str, ...]) -> dict[str, Any]:
    """The fields of who has the ticket; refuses nobody at all, and people who may not work on it."""
    if assignee is None and team is None:
        raise InvalidInput(_("Name a person or a team."), field="assignee")
    if assignee is not None and not (assignee.is_active and any(assignee.has_perm(right) for right in workers)):
        raise InvalidInput(
            _("%(person)s may not work on %(what)s. Choose somebody who may.")
            % {"person": assignee, "what": ticket._meta.verbose_name_plural},
            field="assignee",
        )
    return {"assignee": assignee, **({"team": team} if team is not None else {})}


def assigned_text(assignee: Any, team: Any) -> str:
    """What the timeline says about who has it now."""
    return language.gettext("Assigned to %(whom)s.") % {
        "whom": ", ".join(str(one) for one in (assignee, team) if one is not None)
    }


def content_hash(content: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a JSON-like content in canonical form: what an approval is bound to."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()
