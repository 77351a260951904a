"""Who is told what about a ticket, in his own language and in the ticket's thread."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.utils import translation
from django.utils.translation import gettext as _

from notifications.kinds import Kind
from notifications.mail import language_of
from notifications.services import notify
from tickets.links import page_of_object


def concerned(ticket: Any, *, assignee: bool = False) -> list[Any]:
    """The requester and the watchers; with `assignee` whoever works on it, too."""
    people = [ticket.requester, *ticket.watchers.all()]
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
