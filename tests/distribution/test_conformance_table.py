"""Every line of the conformance list has a test, and the table in docs/ddi.md says which."""

from tests.distribution.conformance import DOCUMENT, LINES, document, proofs


def test_every_line_is_proven() -> None:
    assert {proof.line for proof in proofs()} == set(LINES)


def test_the_table_is_up_to_date() -> None:
    present = DOCUMENT.read_text()
    assert document(present) == present, "write it anew: python -m tests.distribution.conformance"


def test_no_text_breaks_the_table() -> None:
    assert not [proof for proof in proofs() if "|" in proof.text or "\n" in proof.text]
