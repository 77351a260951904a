"""Verbs as pages: which buttons a person sees on an object, which form each opens and which service it calls."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from tickets.forms import PortalForm
from tickets.lifecycle import available_verbs
from tickets.models import Ticket

Allowed = Callable[[Any, Any], bool]


@dataclass(frozen=True, slots=True)
class VerbPage:
    """How a verb looks in the portal. `service` names the function; empty: `<verb>_<object>`.

    `allowed` decides for verbs that are no transition; for transitions the lifecycle does. `right` is what the verb
    itself asks for, where `allowed` only says when its button makes sense. `preview` says what will happen, in numbers
    where there are any; `panel` shows more of it by `panel_template`, anew whenever what the form asks for changes.
    """

    form: type[PortalForm] = PortalForm
    label: str | Promise = ""
    style: str = ""
    icon: str = ""
    service: str = ""
    allowed: Allowed | None = None
    right: str = ""
    preview: Callable[[Any], str] | None = None
    panel: Callable[[Any, HttpRequest, PortalForm], Any] | None = None
    panel_template: str = ""
    done: str | Promise = ""


@dataclass(frozen=True, slots=True)
class Button:
    """One action of a page. `refusal` is why it is not possible yet; `is_direct` posts without asking for anything.

    `version` is the ticket's that the person looks at; it goes with what he orders.
    """

    name: str
    label: str
    style: str
    icon: str
    url: str
    is_direct: bool
    refusal: str = ""
    version: int | None = None


@dataclass(frozen=True, slots=True)
class BulkAction:
    """What somebody may order for several rows of a list at once."""

    name: str
    label: str
    icon: str
    url: str


def bulk_actions(
    model: Any, user: Any, pages: Mapping[str, VerbPage], names: Iterable[str], url_name: str
) -> list[BulkAction]:
    """The verbs among `names` for which this person has the right; whether a row lets him is asked row by row.

    Who has none of the rights gets nothing, though some verbs are for the people of each ticket, too.
    """
    found, has_a_right = [], False
    for name in names:
        page = pages[name]
        transitions = getattr(getattr(getattr(model, name, None), "_django_fsm", None), "transitions", {}).values()
        rights = {page.right} if page.right else {t.permission for t in transitions}
        has_this = any(isinstance(right, str) and user.has_perm(right) for right in rights)
        has_a_right = has_a_right or has_this
        if has_this or any(not isinstance(right, str) for right in rights):
            label = str(page.label) or next((str(t.custom["label"]) for t in transitions if "label" in t.custom), name)
            found.append(BulkAction(name, label, page.icon, reverse(url_name, args=[name])))
    return found if has_a_right else []


def buttons_for(instance: Any, user: Any, pages: Mapping[str, VerbPage], url_name: str) -> list[Button]:
    """What this person may do with the object now, in the order of the lifecycle, then of `pages`.

    A transition that he may make, but whose condition is not met, is listed with its refusal.
    """
    buttons = []
    for verb in available_verbs(instance, user):
        page = pages.get(verb.name)
        if page is not None and page.allowed is None:
            buttons.append(_button(instance, verb.name, page, url_name, verb.label, verb.style))
    buttons += _blocked(instance, user, pages, url_name)
    for name, page in pages.items():
        if page.allowed is not None and page.label and page.allowed(instance, user):
            buttons.append(_button(instance, name, page, url_name, str(page.label), page.style or "secondary"))
    return buttons


def _button(
    instance: Any, name: str, page: VerbPage, url_name: str, label: str, style: str, refusal: str = ""
) -> Button:
    is_direct = not page.form.base_fields and not (page.preview or page.panel) and style != "danger"
    return Button(
        name=name,
        label=str(page.label) or label,
        style=page.style or style,
        icon=page.icon,
        url=reverse(url_name, args=[instance.number, name]),
        is_direct=is_direct,
        refusal=refusal,
        version=instance.version if isinstance(instance, Ticket) else None,
    )


def _blocked(instance: Any, user: Any, pages: Mapping[str, VerbPage], url_name: str) -> list[Button]:
    field = instance._meta.get_field("state")
    blocked = []
    for transition in field.get_all_transitions(type(instance)):
        page = pages.get(transition.name)
        if transition.source != instance.state or page is None or page.allowed or transition.custom.get("system"):
            continue
        unmet = [condition for condition in transition.conditions if not condition(instance)]
        if unmet and transition.has_perm(instance, user) and not getattr(unmet[0], "is_kind", False):
            refusal = getattr(unmet[0], "refusal", None) or (unmet[0].__doc__ or _("Not possible yet.")).strip()
            label = str(transition.custom.get("label", transition.name))
            style = str(transition.custom.get("style", "secondary"))
            blocked.append(_button(instance, transition.name, page, url_name, label, style, " ".join(refusal.split())))
    return blocked
