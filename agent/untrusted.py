"""Reading JSON that came from outside: bounded in depth, in the length of numbers, and always an object.

A repeated name is refused, so that no two readers see different things in the same bytes.
"""

from __future__ import annotations

import json
from typing import Any

_MAX_DIGITS = 19


def read_object(data: bytes | str) -> dict[str, Any]:
    """The JSON object in ``data``. Raises ValueError for everything else."""
    try:
        value = json.loads(data, parse_int=_small_int, parse_constant=_no_constant, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is repeated")
    return found


def _small_int(digits: str) -> int:
    # Old Pythons take minutes for a number of some million digits.
    if len(digits) > _MAX_DIGITS:
        raise ValueError("a number is too long")
    return int(digits)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
