"""The portal as production runs it (gunicorn, PostgreSQL, Valkey), and devices with Debian's SWUpdate."""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.db import connection

from tests.foreign_agents.line import Line
from tests.foreign_agents.processes import Processes
from tests.foreign_agents.signed_image import Signer
from tests.foreign_agents.world import World

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
_LISTENING = re.compile(rf"Listening at: http://{re.escape(HOST)}:(\d+)")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short, for the paths of sockets below it may have about a hundred characters only."""
    with tempfile.TemporaryDirectory(prefix="foreign-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def processes(folder: Path) -> Iterator[Processes]:
    for program in ("swupdate", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; on Debian: apt-get install {program}")
    found = Processes(folder)
    found.supervisor.start()
    try:
        yield found
    finally:
        found.supervisor.stop()


@pytest.fixture(scope="module")
def address(processes: Processes, folder: Path, django_db_setup: None) -> tuple[str, int]:
    """Where the portal listens. It works on the tests' database."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    env = {
        "PORTAL_PROFILE": "demo",
        "DATABASE_URL": urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}")),
        "DATA_DIR": str(folder),
        "MEDIA_ROOT": str(folder / "media"),
        "DDI_POLL_SECONDS": "1",
        "DDI_AUTHENTICATION": "target_token,gateway_token",
        "REQUIRE_SIGNATURES": "false",
        "DJANGO_SETTINGS_MODULE": "itsm_portal.settings",
    }
    argv = [
        sys.executable, "-m", "gunicorn", "itsm_portal.wsgi", "--config", "python:itsm_portal.web_server",
        "--bind", f"{HOST}:0", "--workers", "1", "--threads", "8", "--graceful-timeout", "2",
    ]  # fmt: skip
    processes.supervisor.add("web", argv, env=env, cwd=ROOT, restart=False)
    processes.supervisor.poll()
    log = processes.supervisor.log_dir / "web.log"
    found = processes.until("the portal listens", lambda: _LISTENING.search(log.read_text(errors="replace")))
    return HOST, int(found[1])


@pytest.fixture(scope="module")
def vendor(folder: Path, processes: Processes) -> Signer:
    """Whom the devices trust."""
    return Signer(folder / "vendor")


@pytest.fixture
def line(address: tuple[str, int]) -> Iterator[Line]:
    line = Line(*address)
    yield line
    line.close()


@pytest.fixture
def world(
    transactional_db: None,
    settings: Any,
    tmp_path_factory: pytest.TempPathFactory,
    processes: Processes,
    folder: Path,
    line: Line,
    vendor: Signer,
) -> Iterator[World]:
    settings.MEDIA_ROOT = folder / "media"
    world = World(processes, folder, line, vendor)
    yield world
    world.shut_down()
    # The tables are emptied now: nobody may hold a lock there.
    processes.until("the portal is idle", _portal_is_idle)
    assert line.refused() == []


def _portal_is_idle() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend' AND state <> 'idle'"
        )
        return bool(cursor.fetchone()[0] == 0)
