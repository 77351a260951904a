"""What pages of lower apps show of incidents."""

from typing import Any

from django import template

from incidents.health import Health, health_of
from incidents.models import Incident

register = template.Library()


@register.simple_tag
def ci_health(ci: Any) -> Health:
    """The health of a CI."""
    return health_of(ci)


@register.simple_tag(takes_context=True)
def open_incidents_of(context: dict[str, Any], ci: Any) -> list[Incident]:
    """The newest open incidents on a CI that the reader may see."""
    visible = Incident.objects.visible_to(context["request"].user)
    return list(visible.open().filter(ci=ci).select_related("assignee")[:10])
