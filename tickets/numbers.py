"""Ticket numbers: a prefix and the primary key, `INC-0000042`; found in any spelling (`inc42`, `INC-42`)."""

import re

PATTERN = re.compile(r"^\s*([A-Za-z]{2,4})[\s-]*0*([0-9]{1,18})\s*$")


def format_number(prefix: str, key: int | None) -> str:
    """The number as people write it; a new object without a key shows as `INC-new`."""
    return f"{prefix}-{key:07d}" if key is not None else f"{prefix}-new"


def parse_number(text: str) -> tuple[str, int] | None:
    """Prefix in capitals and key, or None when the text is not a number."""
    found = PATTERN.match(text)
    return (found.group(1).upper(), int(found.group(2))) if found else None
