"""The cast of the tests: a few people with roles, and the clock. Servers are real; see `make test`."""

import gc
import io
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.template_database import Template, name_of_template

_template = pytest.StashKey[Template]()


def pytest_configure(config: pytest.Config) -> None:
    """In the process that starts the workers of a parallel run."""
    is_parallel = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if is_parallel and not config.getoption("reuse_db"):
        config.stash[_template] = Template()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _template in config.stash:
        config.stash[_template].remove()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First what needs no database: the template is not ready yet."""
    items.sort(key=_needs_database)


def _needs_database(item: pytest.Item) -> bool:
    is_marked = item.get_closest_marker("django_db") is not None or getattr(item, "cls", None) is not None
    return is_marked or not {"db", "transactional_db", "live_server"}.isdisjoint(getattr(item, "fixturenames", ()))


def pytest_collection_finish() -> None:
    """What was imported stays to the end: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def now() -> datetime:
    """A fixed time; services take it as their clock."""
    return datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """The database of a worker is a copy; see the template."""
    from django.db import connection

    connection.settings_dict["TEST"]["TEMPLATE"] = name_of_template()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker) -> Iterator[None]:
    """The roles are in every test database from the beginning; writing them in each test would be slow."""
    from django.core.management import call_command
    from django.test import TransactionTestCase

    from tests.reset_database import remember_database, reset_database

    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        reset_database()  # a database that is used again may have rows of tests that were killed
        call_command("setup_roles", verbosity=0, stdout=io.StringIO())
        remember_database()
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _self: reset_database())
        yield
