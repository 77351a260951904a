"""`{% chain object %}`: the chain, on every ticket."""

from typing import Any

from django import template

from itsm_portal.chain import chain_of
from tickets.appearance import KINDS

register = template.Library()


@register.inclusion_tag("components/_chain.html", takes_context=True)
def chain(context: dict[str, Any], instance: Any) -> dict[str, Any]:
    """The steps from the incident to the version on the CI, as the reader may see them."""
    return {"steps": chain_of(instance, context["request"].user).steps}


@register.filter
def step_icon(kind: str) -> str:
    return KINDS.get("configurationitem" if kind == "ci" else kind, "circle")
