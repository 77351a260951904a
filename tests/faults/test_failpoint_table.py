"""Every failpoint of the code is swept, and the tables of docs/reliability.md say what is so."""

from tests.faults.failpoints import POINTS, points_in_code
from tests.faults.reliability_tables import DOCUMENT, document


def test_every_failpoint_of_the_code_is_swept() -> None:
    assert points_in_code() == {point.name for point in POINTS}


def test_the_tables_are_up_to_date() -> None:
    present = DOCUMENT.read_text()
    assert document(present) == present, "write them anew: python -m tests.faults.reliability_tables"
