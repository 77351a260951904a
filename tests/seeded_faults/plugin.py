"""A plugin of pytest that plants the fault named by `SEEDED_FAULT`, and says which test found it, and how."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import Phase, settings

FOUND = "FAULT FOUND BY"


def pytest_configure(config: pytest.Config) -> None:
    # One counterexample is enough; making it small takes the most time.
    settings.register_profile("seeded", phases=[Phase.generate], derandomize=True, database=None)
    settings.load_profile("seeded")


@pytest.fixture(scope="session", autouse=True)
def planted(request: pytest.FixtureRequest) -> Iterator[None]:
    """The whole session runs with the fault."""
    from tests.seeded_faults.faults import FAULTS

    fault = next(fault for fault in FAULTS if fault.name == os.environ["SEEDED_FAULT"])
    if fault.statement:
        _break_database(request, fault.statement)
    with pytest.MonkeyPatch.context() as patch:
        if fault.plant is not None:
            fault.plant(patch)
        yield


def _break_database(request: pytest.FixtureRequest, statement: str) -> None:
    request.getfixturevalue("django_db_setup")
    with request.getfixturevalue("django_db_blocker").unblock():
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(statement)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    report = yield
    if call.excinfo is not None:
        print(f"\n{FOUND} {item.nodeid.rpartition('::')[2]}: {call.excinfo.typename}: {str(call.excinfo.value)[:300]}")
    return report
