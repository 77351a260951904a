"""`@name` in a comment: who is meant is told and watches from then on, if he may read that very text."""

import re
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from notifications.kinds import Kind
from tickets.attachments import told_text
from tickets.models import TimelineEntry
from tickets.notices import MOST_WATCHERS, tell
from tickets.people import having_name, may_look_for_people
from tickets.timeline import sees_notes

MOST_MENTIONS = 20
MOST_PROPOSALS = 8
_MENTION = re.compile(r"(?<![\w@./+-])@([\w.+-]{1,150})")


def names_in(text: str) -> list[str]:
    """The user names after an @, each once; a full stop behind one ends the sentence."""
    return list(dict.fromkeys(name.rstrip(".").lower() for name in _MENTION.findall(text)))[:MOST_MENTIONS]


def may_read(ticket: Any, user: Any, *, public: bool) -> bool:
    """Whether this person sees the ticket, and for an internal note also those."""
    if not public and not sees_notes(ticket, user):
        return False
    return bool(type(ticket)._default_manager.visible_to(user).filter(pk=ticket.pk).exists())


def tell_mentioned(ticket: Any, entry: TimelineEntry, *, actor: Any, now: datetime) -> list[Any]:
    """Tells the people whom the entry names and who may read it; they watch the ticket from now on, as far as there is
    room for watchers and they have not unfollowed it. Returns them.

    The event is that of the comment itself, so that nobody is told of it twice.
    """
    names = names_in(entry.text)
    if not names:
        return []
    meant = Q()
    for name in names:
        meant |= Q(username__iexact=name)
    people = get_user_model().objects.filter(meant, is_active=True, is_service_account=False).exclude(pk=actor.pk)
    readers = [person for person in people if may_read(ticket, person, public=entry.is_public)]
    if readers:
        watching = set(ticket.watchers.values_list("pk", flat=True))
        left = set(ticket.unfollowed.filter(pk__in=[person.pk for person in readers]).values_list("pk", flat=True))
        new = [person for person in readers if person.pk not in watching | left]
        ticket.watchers.add(*new[: max(MOST_WATCHERS - len(watching), 0)])
        event = f"{type(ticket)._meta.model_name}:{ticket.pk}:comment:{entry.pk}"
        tell(
            ticket,
            event=event,
            recipients=readers,
            actor=actor,
            now=now,
            headline=lambda: _("you are mentioned"),
            text=told_text(ticket, entry),
            kind=Kind.COMMENT,
        )
    return readers


def proposals(ticket: Any, text: str, *, asked_by: Any, public: bool = True) -> QuerySet[Any]:
    """The people with this in their names whom one may mention here: who sees such tickets, or is concerned.

    Who may not look for people gets only those who stand on the ticket. Without `public`: who reads internal notes.
    """
    meta = type(ticket)._meta
    right = f"{meta.app_label}.see_all_{meta.model_name}s"
    everyone = get_user_model().objects.with_perm(right, backend="django.contrib.auth.backends.ModelBackend")
    concerned = Q(pk__in=[ticket.requester_id, ticket.created_by_id, ticket.assignee_id]) | Q(
        pk__in=ticket.watchers.values("pk")
    )
    reads_all = Q(pk__in=everyone.values("pk"))
    allowed = (reads_all | concerned if public else reads_all) if may_look_for_people(asked_by) else concerned
    return having_name(text).filter(allowed).exclude(pk=asked_by.pk)
