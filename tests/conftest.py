"""The cast of the tests: a few people with roles, and the clock. Servers are real; see `make test`."""

import io
from datetime import UTC, datetime

import pytest


@pytest.fixture
def now() -> datetime:
    """A fixed time; services take it as their clock."""
    return datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker) -> None:
    """The roles are in every test database from the beginning; writing them in each test would be slow."""
    from django.core.management import call_command

    with django_db_blocker.unblock():
        call_command("setup_roles", verbosity=0, stdout=io.StringIO())
