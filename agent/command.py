"""What a hook runs: the words and the time limit, as packages and administrators write them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

PRE, POST, HEALTH, ROLLBACK = "pre", "post", "health", "rollback"
HOOKS = (PRE, POST, HEALTH)
# What only a package may have: it undoes what the package did.
PACKAGE_HOOKS = (*HOOKS, ROLLBACK)
_DEFAULT_SECONDS = 30
MAX_SECONDS = 3600


class Command(NamedTuple):
    """A program with its arguments, never a shell line, and the seconds it may take."""

    words: tuple[str, ...]
    timeout_seconds: float


def read_hooks(raw: dict[str, Any], names: Iterable[str] = HOOKS) -> dict[str, Command]:
    """The commands under these names. Raises ValueError with the member at fault."""
    return {name: _read_command(name, raw[name]) for name in names if raw.get(name) is not None}


def _read_command(name: str, raw: Any) -> Command:
    words = raw.get("command") if isinstance(raw, dict) else None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
        raise ValueError(f"{name}.command must be a list of texts")
    if any("\0" in word for word in words):
        raise ValueError(f"{name}.command holds a zero byte")
    timeout = raw.get("timeout_seconds", _DEFAULT_SECONDS)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= MAX_SECONDS:
        raise ValueError(f"{name}.timeout_seconds must be above 0 and at most {MAX_SECONDS}")
    return Command(tuple(words), float(timeout))
