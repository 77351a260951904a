"""Writes the tables of docs/reliability.md: `python -m tests.faults.reliability_tables`."""

from pathlib import Path

from tests.faults import failpoints
from tests.seeded_faults.faults import FAULTS

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
END = "<!-- end -->"


def seeded_faults() -> str:
    """Each planted fault with the test that finds it, in Markdown."""
    rows = [
        f"| {fault.text} | `{fault.finder.partition('::')[2]}` (`{fault.finder.partition('::')[0]}`) |"
        for fault in FAULTS
    ]
    return "\n".join(["| Fault | Found by |", "|---|---|", *rows]) + "\n"


TABLES = {"failpoints": failpoints.table, "seeded faults": seeded_faults}


def document(present: str) -> str:
    """The document with its tables as they are now."""
    for name, table in TABLES.items():
        begin = f"<!-- {name} -->\n"
        before, rest = present.split(begin)
        present = f"{before}{begin}{table()}{END}{rest.split(END, 1)[1]}"
    return present


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text()))
