"""The cast of the tests: a few people with roles, and the clock. Servers are real; see `make test`."""

from datetime import UTC, datetime

import pytest


@pytest.fixture
def now() -> datetime:
    """A fixed time; services take it as their clock."""
    return datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
