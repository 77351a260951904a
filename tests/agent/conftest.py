"""Fixtures of the agent's tests. They need neither Django nor a database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.ci import Ci
from tests.agent.ddi_server import DdiServer, running_server
from tests.agent.signed_scene import Scene, install
from tests.agent.signer import KeyHolder


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


@pytest.fixture(params=["cryptography", "openssl"])
def backend(request: pytest.FixtureRequest) -> str:
    """Both ways to verify a signature."""
    return str(request.param)


@pytest.fixture
def holder() -> KeyHolder:
    return KeyHolder()


@pytest.fixture
def signed_ci(ci: Ci, holder: KeyHolder, backend: str) -> Ci:
    """A CI that trusts only what the key holder signed."""
    ci.configure(root_keys=[holder.root.public], verify_with=backend)
    return ci


@pytest.fixture
def scene(signed_ci: Ci, server: DdiServer, holder: KeyHolder) -> Scene:
    """1.0 and then 2.0 were installed by signature; 2.0 runs."""
    for version in ("1.0", "2.0"):
        assert install(signed_ci, server, holder, version).closes[0][0] == "success"
    return signed_ci, server, holder
