"""`{% chain object %}`: the chain, on every ticket; `{% mail_chain row %}`: the same in a mail."""

from typing import Any

from django import template

from itsm_portal.chain import chain_of, chain_of_number, in_words
from notifications.models import Outbox
from tickets.appearance import KINDS

register = template.Library()


@register.inclusion_tag("components/_chain.html", takes_context=True)
def chain(context: dict[str, Any], instance: Any) -> dict[str, Any]:
    """The steps from the incident to the version on the CI, as the reader may see them."""
    return {"steps": chain_of(instance, context["request"].user).steps}


@register.simple_tag
def mail_chain(row: Outbox) -> list[tuple[str, str]]:
    """The steps of the chain of the mail's thread in words, with their pages, as the recipient may see them when the
    mail is sent; nothing where there is but one.
    """
    found = chain_of_number(row.thread, row.recipient)
    words = in_words(found) if found is not None else []
    return words if len(words) > 1 else []


@register.filter
def step_icon(kind: str) -> str:
    return KINDS.get("configurationitem" if kind == "ci" else kind, "circle")
