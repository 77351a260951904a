import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from releases.invariants import check_invariants
from tests.releases.world import World


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
