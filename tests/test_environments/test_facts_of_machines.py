"""Values that machines tell of themselves, as text."""

from test_environments.facts import fact_rows


def test_a_size_is_readable_and_one_that_cannot_be_is_shown_as_it_came() -> None:
    shown = dict(fact_rows({"disk": {"bytes": 2048}, "huge": {"bytes": 10**400}, "odd": {"bytes": -1}}))
    assert shown["disk"] == "2.0\xa0KB"
    assert shown["huge"].startswith("bytes 1000")
    assert shown["odd"] == "bytes -1"
