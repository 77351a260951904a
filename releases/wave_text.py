"""The waves of a plan as people write them: `1, class:server, group:Pilot, 25%, rest`."""

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from cmdb.forms import one_ci
from cmdb.models import CIGroup, ConfigurationItem
from releases.waves import Rule
from tickets.numbers import format_number, parse_number

_NUMBERS = re.compile(
    r"^(?:(?P<percent>\d{1,3}(?:\.\d{1,400})?)\s*%|(?P<rest>rest)|(?P<count>\d{1,18}))$", re.IGNORECASE
)
_NAMED = re.compile(r"^(?P<kind>class|group|service|cis?)\s*:\s*(?P<value>.+)$", re.IGNORECASE)


def wave_text(waves: Iterable[Rule]) -> str:
    """The waves in one line; CIs and groups by their numbers, which everybody may know."""
    return ", ".join(_text(rule) for rule in waves)


def _text(rule: Rule) -> str:
    if "rest" in rule:
        return "rest"
    if "percent" in rule:
        # As exactly as it is stored: what is saved again unchanged stays approved.
        return f"{Decimal(repr(rule['percent'])):f}%"
    if "count" in rule:
        return str(rule["count"])
    if "ci_class" in rule:
        return f"class:{rule['ci_class']}"
    if "group" in rule:
        return f"group:{format_number(CIGroup.PREFIX, rule['group'])}"
    if "service" in rule:
        return f"service:{format_number(ConfigurationItem.PREFIX, rule['service'])}"
    return "cis:" + "+".join(format_number(ConfigurationItem.PREFIX, key) for key in rule["cis"])


def read_waves(text: str, user: Any) -> list[dict[str, Any]]:
    """The waves of such a line. Refuses with `ValidationError`, also what the person may not see."""
    return [_read(word.strip(), user) for word in text.split(",") if word.strip()]


def _read(word: str, user: Any) -> dict[str, Any]:
    if found := _NUMBERS.match(word):
        if found["rest"]:
            return {"rest": True}
        if found["count"]:
            return {"count": int(found["count"])}
        return {"percent": int(found["percent"]) if "." not in found["percent"] else float(found["percent"])}
    named = _NAMED.match(word)
    if named is None:
        raise ValidationError(
            _("“%(word)s” is not a wave. Write for example: 1, class:server, group:Pilot, 25%%, rest") % {"word": word}
        )
    kind, value = named["kind"].lower(), named["value"].strip()
    if kind == "class":
        return {"ci_class": value}
    if kind == "group":
        return {"group": _group(value, user).pk}
    visible = ConfigurationItem.objects.visible_to(user).production()
    if kind == "service":
        return {"service": one_ci(value, visible).pk}
    return {"cis": [one_ci(name, visible).pk for name in value.split("+")]}


def _group(text: str, user: Any) -> CIGroup:
    visible = CIGroup.objects.visible_to(user)
    number = parse_number(text)
    group = visible.filter(name=text).first()
    if group is None and number is not None and number[0] == CIGroup.PREFIX:
        group = visible.filter(pk=number[1]).first()
    if group is None:
        raise ValidationError(_("No group has this name or number: %(text)s") % {"text": text})
    return group


def plan_text(field: str, value: Any) -> str:
    """What a field of a plan says, as people write it; CIs by their numbers."""
    if value is None:
        return "–"
    if field == "waves":
        return wave_text(value)
    if field in {"cis", "exclude", "again"}:
        return ", ".join(format_number(ConfigurationItem.PREFIX, key) for key in value) or "–"
    return str(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
