"""One line per step on standard error. Callers never pass the token."""

import sys
import time


def printable(text: str, limit: int = 512) -> str:
    """``text`` without control characters, cut to ``limit``: text of a server or a package is data."""
    return "".join(c if c.isprintable() else " " for c in text[:limit])


def log(message: str) -> None:
    """Writes one line with the UTC time in front. A closed standard error is ignored."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        sys.stderr.write(f"{stamp} {printable(message, 2000)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
