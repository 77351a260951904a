"""The frame's entries for the person who looks."""

from typing import Any

from django import template

from itsm_portal.navigation import MAIN, NEW, entries_for, staff_entries

register = template.Library()


@register.simple_tag(takes_context=True)
def navigation(context: dict[str, Any]) -> list[dict[str, Any]]:
    """What stands on the left, with the page's own section marked."""
    request = context["request"]
    section = context.get("section", "")
    return [
        {"entry": entry, "is_active": entry.url_name == section}
        for entry in [*entries_for(request.user, MAIN), *staff_entries(request.user)]
    ]


@register.simple_tag(takes_context=True)
def new_entries(context: dict[str, Any]) -> list[Any]:
    """What “New” offers."""
    return entries_for(context["request"].user, NEW)
