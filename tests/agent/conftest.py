"""Fixtures of the agent's tests. They need neither Django nor a database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.ci import Ci
from tests.agent.ddi_server import DdiServer, running_server


@pytest.fixture(autouse=True)
def _no_power_cuts_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents inside the test process do not wait for the disk; those in processes of their own do."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
def server() -> Iterator[DdiServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def ci(tmp_path: Path, server: DdiServer) -> Ci:
    return Ci(tmp_path, server)
