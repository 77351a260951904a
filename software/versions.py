"""Order of version labels: any label a product uses, compared piece by piece (2.0rc1 < 2.0 < 2.0.1 < 2.10)."""

import re

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_PIECES = re.compile(r"[0-9]+|[A-Za-z]+")


def sort_key(label: str) -> str:
    """A text whose byte order is the versions' order.

    A number sorts after the end of the label, which sorts after a word: 2.0rc1 < 2.0 < 2.0.1.
    What follows a plus (build metadata) does not count.
    """
    pieces = _PIECES.findall(label.split("+", 1)[0])
    keys = [f"n{int(p):018d}" if p.isdigit() else f"a{p.lower()}" for p in pieces]
    return " ".join([*keys, "b"])
