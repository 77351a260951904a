"""What machines and the CMDB told of themselves, for people: names and values as text."""

from typing import Any

from django.template.defaultfilters import filesizeformat

_LARGEST = 10**18  # bytes; a machine may say anything, and what is larger is no size


def fact_rows(facts: Any) -> list[tuple[str, str]]:
    """Up to forty names with their values, lists and objects unfolded, long ones cut."""
    if not isinstance(facts, dict):
        return []
    return [(str(name)[:64], _text(value)[:500]) for name, value in list(facts.items())[:40]]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(_part(name, part) for name, part in value.items())
    if isinstance(value, list):
        return "; ".join(_text(part) for part in value)
    return str(value)


def _part(name: Any, value: Any) -> str:
    is_size = name == "bytes" and isinstance(value, int) and 0 <= value < _LARGEST
    return filesizeformat(value) if is_size else f"{name} {_text(value)}"
