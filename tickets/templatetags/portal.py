"""What every page uses to show states, numbers, people, times and text."""

from datetime import datetime, timedelta
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tickets.appearance import KINDS, PRIORITIES, appearance_of, choice_label
from tickets.links import page_of_number, page_of_object
from tickets.text import render_markdown

register = template.Library()


@register.simple_tag
def icon(name: str, extra: str = "") -> SafeString:
    """An icon of the sprite; decoration, so hidden from readers of the screen."""
    return format_html(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        extra,
        static("vendor/icons.svg"),
        name,
    )


@register.simple_tag
def kind_icon(instance: Any) -> SafeString:
    """The icon of the kind of object."""
    return icon(KINDS.get(instance._meta.model_name, "circle"))


@register.simple_tag
def badge(state: str, label: str = "", model: str = "") -> SafeString:
    """A state as a badge: tone, icon and word."""
    look = appearance_of(str(state), model)
    text = label or str(state).replace("_", " ")
    return format_html('<span class="state tone-{}">{}<span>{}</span></span>', look.tone, icon(look.icon), text)


@register.simple_tag
def state_badge(instance: Any) -> SafeString:
    """The badge of an object's state."""
    return badge(instance.state, choice_label(instance, "state"), instance._meta.model_name)


@register.simple_tag
def priority_badge(ticket: Any) -> SafeString:
    """The badge of a ticket's priority, with its matrix cell on hover."""
    return format_html(
        '<span class="state tone-{}" title="{}">{}</span>',
        PRIORITIES.get(ticket.priority, "neutral"),
        _("impact %(impact)s, urgency %(urgency)s")
        % {"impact": choice_label(ticket, "impact"), "urgency": choice_label(ticket, "urgency")},
        choice_label(ticket, "priority"),
    )


@register.filter
def tone_of(state: str, model: str = "") -> str:
    """The tone of a state, for cells and bars."""
    return appearance_of(str(state), model).tone


@register.simple_tag
def number(instance: Any) -> SafeString:
    """An object's number as a link to its page; the name where it has no number."""
    if instance is None:
        return SafeString("")
    text = getattr(instance, "number", None) or str(instance)
    return format_html('<a class="number" href="{}">{}</a>', page_of_object(instance), text)


@register.filter
def page_url(instance: Any) -> str:
    """The address of an object's page."""
    return page_of_object(instance)


@register.filter
def linked_number(text: str) -> SafeString | str:
    """A number in plain text (`ROL-0000003`) as a link; other text unchanged."""
    address = page_of_number(text or "")
    return format_html('<a class="number" href="{}">{}</a>', address, text) if address else text


@register.filter
def markdown(text: str) -> SafeString:
    """Text from people as sanitised HTML."""
    return render_markdown(text)


@register.filter
def moment(value: datetime | None) -> SafeString:
    """A time in the reader's zone, as short as the distance allows; the exact time and zone on hover."""
    if value is None:
        return SafeString("")
    local = timezone.localtime(value)
    today = timezone.localtime().date()
    if local.date() == today:
        text = date_format(local, "H:i:s")
    elif abs(local.date() - today) < timedelta(days=180):
        text = f"{date_format(local, 'MONTH_DAY_FORMAT')} {local:%H:%M}"
    else:
        text = date_format(local, "SHORT_DATE_FORMAT")
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', value.isoformat(), date_format(local, "Y-m-d H:i:s T"), text
    )


@register.filter
def seconds(value: int | None) -> str:
    """A duration in seconds as people say it: `2 d 4 h`, `90 min`, `5 s`."""
    if value is None:
        return "–"
    days, rest = divmod(int(value), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    units = (ngettext("d", "d", days), days), ("h", hours), ("min", minutes), ("s", rest)
    parts = [f"{number_format(n)} {unit}" for unit, n in units if n]
    return " ".join(parts[:2]) or "0 s"


@register.filter
def person(user: Any) -> SafeString:
    """A person's name with initials; the portal itself where there is nobody."""
    if user is None:
        return format_html('<span class="person">{} {}</span>', icon("settings"), _("the portal"))
    label = user.label
    initials = "".join(word[0] for word in label.split()[:2]).upper()
    return format_html(
        '<span class="person"><span class="initials" aria-hidden="true">{}</span>{}</span>', initials, label
    )


@register.simple_tag(takes_context=True)
def query(context: dict[str, Any], **changes: Any) -> str:
    """The query string of this page with some parameters replaced; an empty value removes one."""
    parameters = context["request"].GET.copy()
    for name, value in changes.items():
        parameters.pop(name, None)
        if value not in (None, ""):
            parameters[name] = value
    encoded = parameters.urlencode()
    return f"?{encoded}" if encoded else "?"


@register.inclusion_tag("tickets/_edit_link.html", takes_context=True)
def edit_link(context: dict[str, Any], name: str, label: str) -> dict[str, Any]:
    """A pencil that opens the form of one fact in its place (`#inline-<name>`), where the person may edit it."""
    return {"url": (context.get("editable") or {}).get(name, ""), "name": name, "label": label}
