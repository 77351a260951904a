"""Watchers of a ticket are told what happens to it. One follows by oneself; who works on it adds others."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import language
from tickets.exceptions import InvalidInput, PermissionRefused
from tickets.mentions import may_read
from tickets.models import EntryKind
from tickets.notices import MOST_WATCHERS
from tickets.services import locked, record


def follow(ticket: Any, *, actor: Any) -> None:
    """From now on the actor is told. The caller has checked that he sees the ticket."""
    _let_watch(ticket, actor)


def unfollow(ticket: Any, *, actor: Any) -> None:
    """The actor is not told any more, and no mention makes him watch again: only he does, or who adds him by hand."""
    with transaction.atomic():
        ticket.watchers.remove(actor)
        ticket.unfollowed.add(actor)


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
    with transaction.atomic():
        if _let_watch(ticket, person):
            text = language.gettext("%(person)s watches.") % {"person": person}
            record(ticket, kind=EntryKind.SYSTEM, actor=actor, now=now, text=text)


def remove_watcher(ticket: Any, *, actor: Any, person: Any) -> None:
    """Takes somebody off the list; oneself always."""
    if person.pk != actor.pk and not may_add_watchers(ticket, actor):
        raise PermissionRefused(_("Only those who work on it remove watchers."))
    if person.pk == actor.pk:
        unfollow(ticket, actor=actor)
    else:
        ticket.watchers.remove(person)


def _let_watch(ticket: Any, person: Any) -> bool:
    """Puts somebody on the list, under a lock, so that no two take the last place. False when he stands there."""
    with locked(ticket):
        ticket.unfollowed.remove(person)
        if ticket.watchers.filter(pk=person.pk).exists():
            return False
        if ticket.watchers.count() >= MOST_WATCHERS:
            raise InvalidInput(_("More than %(most)d people cannot watch a ticket.") % {"most": MOST_WATCHERS})
        ticket.watchers.add(person)
    return True
