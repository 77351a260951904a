"""The dynamic part of a CI group: a small JSON object, checked once and turned into one condition of the database.

`{"ci_class": ["server"], "lifecycle": ["in_operation"], "owner": ["anna"], "team": ["Plant 1"], "name": ["srv-*"],
"attributes": {"region": ["north"]}, "runs": ["billing", "erp/2.0"]}`: every key that is there must fit, one of its
values is enough. Names are patterns with `*` and `?`; `runs` is what a CI runs now, a product or one version of it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from tickets.exceptions import InvalidInput

MOST_VALUES = 100
MOST_ATTRIBUTES = 10
MAX_LENGTH = 128


def check_filter(data: Any) -> dict[str, Any]:
    """The filter in canonical form; an empty one matches nothing. Refuses with `InvalidInput` (field `filter`)."""
    if not isinstance(data, Mapping):
        raise _wrong(_("The filter must be an object."))
    unknown = sorted(map(str, set(data) - {*_CONDITIONS, "attributes"}))
    if unknown:
        known = ", ".join([*_CONDITIONS, "attributes"])
        raise _wrong(_("Unknown: %(names)s. Possible are: %(known)s.") % {"names": ", ".join(unknown), "known": known})
    checked: dict[str, Any] = {name: _texts(name, data[name]) for name in _CONDITIONS if name in data}
    if "attributes" in data:
        checked["attributes"] = _attributes(data["attributes"])
    return checked


def condition_of(checked: Mapping[str, Any], installed: QuerySet[Any]) -> Q | None:
    """What a CI must fulfil, None for an empty filter; `installed` are the current installed versions."""
    if not checked:
        return None
    condition = Q()
    for name, build in _CONDITIONS.items():
        if name in checked:
            condition &= build(checked[name], installed)
    for key, values in checked.get("attributes", {}).items():
        condition &= _any(Q(attributes__contains={key: value}) for value in values)
    return condition


def _any(conditions: Any) -> Q:
    found = Q()
    for condition in conditions:
        found |= condition
    return found


def _named(patterns: list[str], installed: QuerySet[Any]) -> Q:
    return _any(Q(name__iregex=_regex(pattern)) for pattern in patterns)


def _regex(pattern: str) -> str:
    wild = {"*": ".*", "?": "."}
    parts = re.split(r"([*?])", re.sub(r"\*+", "*", pattern))
    return f"^{''.join(wild.get(part, re.escape(part)) for part in parts)}$"


def _running(values: list[str], installed: QuerySet[Any]) -> Q:
    of_ci = installed.filter(ci=OuterRef("pk"))
    wanted = Q()
    for value in values:
        slug, _slash, label = value.partition("/")
        wanted |= Q(product__slug=slug, label=label) if label else Q(product__slug=slug)
    return Q(Exists(of_ci.filter(wanted)))


_CONDITIONS: dict[str, Callable[[list[str], QuerySet[Any]], Q]] = {
    "ci_class": lambda values, installed: Q(ci_class__slug__in=values),
    "lifecycle": lambda values, installed: Q(lifecycle__in=values),
    "owner": lambda values, installed: Q(owner__username__in=values),
    "team": lambda values, installed: Q(team__name__in=values),
    "name": _named,
    "runs": _running,
}


def _texts(name: str, value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not 0 < len(values) <= MOST_VALUES:
        raise _wrong(_("%(name)s is a list of 1 to %(most)d texts.") % {"name": name, "most": MOST_VALUES})
    for text in values:
        if not isinstance(text, str) or not 0 < len(text) <= MAX_LENGTH or not text.isprintable():
            raise _wrong(_("%(name)s holds texts of 1 to %(most)d characters.") % {"name": name, "most": MAX_LENGTH})
    return sorted(set(values))


def _attributes(value: Any) -> dict[str, list[str]]:
    if not isinstance(value, Mapping) or not 0 < len(value) <= MOST_ATTRIBUTES:
        raise _wrong(_("attributes is an object with 1 to %(most)d keys.") % {"most": MOST_ATTRIBUTES})
    keys = _texts("attributes", list(value))
    return {key: _texts(f"attributes.{key}", value[key]) for key in keys}


def _wrong(text: str) -> InvalidInput:
    return InvalidInput(text, field="filter", code="filter_invalid")
