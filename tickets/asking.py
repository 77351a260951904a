"""Whoever may decide on something is told that it waits for him, once; and no longer when it is decided."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.utils import translation
from django.utils.translation import gettext as _

from notifications.kinds import Kind
from notifications.mail import language_of
from notifications.services import notify, withdraw_notices
from tickets.links import page_of_object

_MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


def people_with(*rights: str) -> list[Any]:
    """The people whose roles give one of these rights: no programs, and no superusers, who have them all by nature."""
    people = get_user_model().objects
    found: dict[int, Any] = {}
    for right in rights:
        having = people.with_perm(right, backend=_MODEL_BACKEND, include_superusers=False)
        found |= {person.pk: person for person in having.filter(is_service_account=False).order_by("pk")}
    return list(found.values())


def ask_to_decide(
    thing: Any, *, title: str, deciders: Collection[Any], now: datetime, why: Callable[[], str] | None = None
) -> int:
    """Tells each of them who sees it that his decision is waited for; returns how many are told now.

    Whoever was asked already is not asked again; from whoever may not decide any more the notice is withdrawn. `why`
    is called in each reader's language.
    """
    event = _event(thing)
    withdraw_notices(event, now=now, but_of=[person.pk for person in deciders])
    told = 0
    for person in deciders:
        if not type(thing).objects.visible_to(person).filter(pk=thing.pk).exists():
            continue
        with translation.override(language_of(person)):
            advice = _("It waits for a decision that you may give. Open it to approve or reject it.")
            text = "\n\n".join(part for part in (f"{thing.number} {title}", why() if why else "", advice) if part)
            told += notify(
                event=event,
                recipient=person,
                thread=thing.number,
                subject=" ".join((_("Waits for your approval: %(title)s") % {"title": title}).split()),
                text=text,
                path=page_of_object(thing),
                now=now,
                kind=Kind.ANSWER,
            )
    return told


def decided(thing: Any, *, now: datetime) -> None:
    """It waits for nobody's decision any more: the notices leave the bell, and mails that have not gone stay away."""
    withdraw_notices(_event(thing), now=now)


def _event(thing: Any) -> str:
    return f"{thing.number}:decision"
