"""Writes the conformance table of docs/ddi.md from the marks of the tests: `python -m tests.distribution.conformance`.

A test says `@pytest.mark.conformance(14, "HEAD tells the true length")`; one may prove several lines.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
DOCUMENT = FOLDER.parents[1] / "docs" / "ddi.md"
BEGIN, END = "<!-- conformance -->\n", "<!-- end -->"
LINES = range(1, 21)


class Proof(NamedTuple):
    """One test that proves something of a line."""

    line: int
    text: str
    file: str
    test: str


def proofs(folder: Path = FOLDER) -> list[Proof]:
    """Every marked test, by line and then in the order of the files."""
    found = [proof for path in sorted(folder.glob("test_*.py")) for proof in _proofs_in(path)]
    return sorted(found, key=lambda proof: proof.line)


def _proofs_in(path: Path) -> Iterator[Proof]:
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.conformance":
                line, text = (ast.literal_eval(value) for value in mark.args)
                yield Proof(line, text, path.name, node.name)


def table() -> str:
    """The table in Markdown."""
    rows = [f"| {p.line} | {p.text} | `{p.file}`: `{p.test}` |" for p in proofs()]
    return "\n".join(["| Line | What is proven | Test |", "|---|---|---|", *rows]) + "\n"


def document(present: str) -> str:
    """The document with the table as it is now."""
    before, rest = present.split(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text()))
