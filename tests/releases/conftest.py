import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from cmdb.models import ConfigurationItem
from releases import services
from releases.invariants import check_invariants
from releases.models import TestPolicy, TestRun
from test_environments.models import CopySource
from tests.releases.copies import SOAK
from tests.releases.world import World
from tests.test_environments.source import install


@pytest.fixture(autouse=True)
def media(settings, tmp_path: Path) -> Path:
    """A media library of the test's own."""
    settings.MEDIA_ROOT = tmp_path / "media"
    return settings.MEDIA_ROOT


@pytest.fixture
def world(db: None, media: Path) -> Iterator[World]:
    """The company; when the test is over, every invariant must hold."""
    yield World()
    assert check_invariants(tolerance=0) == []


@pytest.fixture
def source(world: World, settings, tmp_path: Path) -> ConfigurationItem:
    """A production CI that may be copied."""
    settings.TEST_ENVIRONMENT_SOURCES = tmp_path / "fleet"
    install(tmp_path / "fleet" / "srv-1", "billing", "1.0")
    TestPolicy.objects.update_or_create(release_type="minor", defaults={"soak_seconds": SOAK})
    ci = world.add_ci("srv-1")
    CopySource.objects.create(ci=ci, folder="srv-1")
    return ci


@pytest.fixture
def run(world: World, source: ConfigurationItem) -> TestRun:
    """A test whose copy has just been asked for."""
    return services.start_test(world.built(), actor=world.erik, now=world.now, source_ci=source)


@pytest.fixture
def writes():
    """`with writes(allowed=0):` counts the rows that statements change."""

    @contextmanager
    def counted(allowed: int) -> Iterator[None]:
        changed: list[tuple[int, str]] = []

        def look(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            result = execute(sql, params, many, context)
            rows = context["cursor"].rowcount
            if re.search(r"\b(INSERT INTO|UPDATE \S+\s+(d\s+)?SET|DELETE FROM)\b", sql, re.IGNORECASE) and rows > 0:
                changed.append((rows, sql[:200]))
            return result

        with connection.execute_wrapper(look):
            yield
        assert sum(rows for rows, _sql in changed) <= allowed, changed

    return counted
