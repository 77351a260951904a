"""Compiles the texts of every language: `python locale/compile.py [--check]`.

What it writes (`django.mo` beside each `django.po`) is git-ignored. It refuses a catalogue that is not complete: a text
without a translation would be shown in English between the others. With --check it writes nothing.
"""

import sys
from pathlib import Path

import polib

CATALOGUES = sorted(Path(__file__).parent.glob("*/LC_MESSAGES/*.po"))


def main() -> int:
    """Exit status 1 when a text lacks its translation; nothing is written then."""
    catalogues = [polib.pofile(str(path)) for path in CATALOGUES]
    gaps = [
        f"{path.relative_to(path.parents[3])}:{entry.linenum}: {entry.msgid!r} is not translated"
        for path, catalogue in zip(CATALOGUES, catalogues, strict=True)
        for entry in catalogue
        if not entry.translated()
    ]
    if gaps:
        sys.stderr.write("\n".join([*gaps, ""]))
        return 1
    if "--check" not in sys.argv[1:]:
        for path, catalogue in zip(CATALOGUES, catalogues, strict=True):
            catalogue.save_as_mofile(str(path.with_suffix(".mo")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
