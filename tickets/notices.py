"""Who is told what about a ticket, in his own language and in the ticket's thread."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.utils import translation
from django.utils.translation import gettext as _

from notifications.kinds import Kind
from notifications.mail import language_of
from notifications.services import notify
from tickets.links import page_of_object

MOST_WATCHERS = 100


def watchers_who_see(ticket: Any) -> list[Any]:
    """The watchers who may see the ticket now: roles and owners change, and watching opens no door."""
    meta = type(ticket)._meta
    watchers = list(ticket.watchers.filter(is_active=True)[:MOST_WATCHERS])
    if not watchers:
        return []
    right = f"{meta.app_label}.see_all_{meta.model_name}s"
    everyone = get_user_model().objects.with_perm(right, backend="django.contrib.auth.backends.ModelBackend")
    see_all = set(everyone.filter(pk__in=[one.pk for one in watchers]).values_list("pk", flat=True))
    visible_to = type(ticket)._default_manager.visible_to
    return [one for one in watchers if one.pk in see_all or visible_to(one).filter(pk=ticket.pk).exists()]


def concerned(ticket: Any, *, assignee: bool = False) -> list[Any]:
    """The requester and the watchers who see it; with `assignee` whoever works on it, too."""
    people = [ticket.requester, *watchers_who_see(ticket)]
    if assignee and ticket.assignee is not None:
        people.append(ticket.assignee)
    return people


def tell(
    ticket: Any,
    *,
    event: str,
    recipients: Iterable[Any],
    actor: Any,
    now: datetime,
    headline: Callable[[], str],
    text: str = "",
    advice: Callable[[], str] | None = None,
    kind: Kind = Kind.PROGRESS,
) -> int:
    """Writes a notice to each of the recipients but the actor; returns how many are new.

    `headline` and `advice` are called in each reader's language; `text` is what a person wrote. `event` is unique for
    what happened, so that a repetition tells nobody twice.
    """
    written = 0
    people = {person.pk: person for person in recipients if person is not None}
    if actor is not None:
        people.pop(actor.pk, None)
    for person in people.values():
        with translation.override(language_of(person)):
            title = headline()
            by = _("%(who)s: %(what)s") % {"who": actor, "what": title} if actor is not None else title
            parts = [f"{ticket.number} {ticket.title}\n{by}", text.strip(), advice() if advice else ""]
            written += notify(
                event=event,
                recipient=person,
                thread=ticket.number,
                subject=" ".join(f"{title}: {ticket.title}".split()),
                text="\n\n".join(part for part in parts if part),
                path=page_of_object(ticket),
                now=now,
                kind=kind,
            )
    return written
