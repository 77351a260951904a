"""Watchers of a ticket are told what happens to it. One follows by oneself; who works on it adds others."""

from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from accounts import language
from tickets.exceptions import InvalidInput, PermissionRefused
from tickets.mentions import may_read
from tickets.models import EntryKind
from tickets.notices import MOST_WATCHERS
from tickets.services import record


def follow(ticket: Any, *, actor: Any) -> None:
    """From now on the actor is told. The caller has checked that he sees the ticket."""
    _check_room(ticket)
    ticket.watchers.add(actor)


def unfollow(ticket: Any, *, actor: Any) -> None:
    """The actor is not told any more."""
    ticket.watchers.remove(actor)


def may_add_watchers(ticket: Any, user: Any) -> bool:
    """Those who work on such tickets, and whom this one is assigned to or who asked for it."""
    if user.pk in (ticket.requester_id, ticket.assignee_id):
        return True
    return any(user.has_perm(right) for right in type(ticket).WORKERS)


def add_watcher(ticket: Any, *, actor: Any, now: datetime, person: Any) -> None:
    """Lets somebody follow who may see the ticket anyway; following opens no door. The timeline names him."""
    if not may_add_watchers(ticket, actor):
        raise PermissionRefused(_("Only those who work on it add watchers. You can follow it yourself."))
    if not may_read(ticket, person, public=True):
        raise InvalidInput(
            _("%(person)s may not see %(number)s. Name it in a comment, or ask an administrator for the role.")
            % {"person": person, "number": ticket.number},
            field="person",
        )
    if ticket.watchers.filter(pk=person.pk).exists():
        return
    _check_room(ticket)
    ticket.watchers.add(person)
    record(
        ticket,
        kind=EntryKind.SYSTEM,
        actor=actor,
        now=now,
        text=language.gettext("%(person)s watches.") % {"person": person},
    )


def remove_watcher(ticket: Any, *, actor: Any, person: Any) -> None:
    """Takes somebody off the list; oneself always."""
    if person.pk != actor.pk and not may_add_watchers(ticket, actor):
        raise PermissionRefused(_("Only those who work on it remove watchers."))
    ticket.watchers.remove(person)


def _check_room(ticket: Any) -> None:
    if ticket.watchers.count() >= MOST_WATCHERS:
        raise InvalidInput(_("More than %(most)d people cannot watch a ticket.") % {"most": MOST_WATCHERS})
