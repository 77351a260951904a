"""A real test host process on the tests' database, and folders of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import connection

from cmdb.models import ConfigurationItem
from test_environments import services
from test_environments.models import CopySource, TestEnvironment
from tests.factories import make_ci
from tests.test_environments.processes import processes_of
from tests.test_environments.source import install
from tickets.clock import database_now


def until(condition: Callable[[], object], seconds: float = 60.0, say: Callable[[], str] = str) -> None:
    """Waits until the condition holds; fails after so many seconds with what `say` tells."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not come to hold; {say()}"
        time.sleep(0.05)


class HostProcess:
    """`manage.py run_test_hosts` on the database of the tests; start it as often as needed."""

    def __init__(self, folder: Path, portal_url: str) -> None:
        self.folder = folder
        self.copies = folder / "copies"
        self.log = folder / "host.log"
        self.process: subprocess.Popen[bytes] | None = None
        database = connection.settings_dict
        self._environment = {
            **os.environ,
            "PORTAL_PROFILE": "test",
            "DATABASE_URL": "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format_map(database),
            "PORTAL_URL": portal_url,
            "TEST_ENVIRONMENT_SOURCES": str(folder / "fleet"),
            "TEST_ENVIRONMENT_ROOT": str(self.copies),
        }

    def start(self, *arguments: str, failpoint: str = "") -> "subprocess.Popen[bytes]":
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "run_test_hosts", *arguments],
                cwd=django_settings.BASE_DIR,
                env={**self._environment, "TEST_HOST_FAILPOINT": failpoint},
                stdout=log,
                stderr=log,
            )
        return self.process

    def folder_of(self, environment: TestEnvironment) -> Path:
        return self.copies / "file_copy" / "environments" / str(environment.uuid)

    def leftovers(self) -> list[str]:
        """Whatever is on the disk: `environments/<uuid>`, `images/<uuid>`, whole or half."""
        return sorted(f"{path.parent.name}/{path.name}" for path in (self.copies / "file_copy").glob("*/*"))

    def says(self) -> str:
        return self.log.read_text()[-3000:]

    def agents(self) -> list[int]:
        return processes_of(self.copies)

    def wait(self, seconds: float = 60.0) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()


@pytest.fixture
def copies(tmp_path: Path, settings) -> Path:
    """Sources with one production CI in it, and an empty place for copies."""
    settings.TEST_ENVIRONMENT_SOURCES = tmp_path / "fleet"
    settings.TEST_ENVIRONMENT_ROOT = tmp_path / "copies"
    install(tmp_path / "fleet" / "till-7", "billing", "0.9", "1.0")
    return tmp_path / "copies"


@pytest.fixture
def till(copies: Path, transactional_db):
    """A production CI that may be copied."""
    ci = make_ci("till-7", agent_id="till-7")
    CopySource.objects.create(ci=ci, folder="till-7")
    return ci


@pytest.fixture
def host(copies: Path, live_server) -> Iterator[HostProcess]:
    host = HostProcess(copies.parent, live_server.url)
    yield host
    if host.process is not None:
        host.end(signal.SIGKILL)
        until(lambda: not host.agents(), say=host.says)


def state_of(environment: TestEnvironment) -> str:
    return TestEnvironment.objects.values_list("state", flat=True).get(pk=environment.pk)


def request(till: ConfigurationItem, **versions: str) -> TestEnvironment:
    return services.request_environment(till, actor=None, now=database_now(), versions=versions)


def until_state(host: HostProcess, environment: TestEnvironment, state: str) -> None:
    until(lambda: state_of(environment) == state, say=lambda: f"{state_of(environment)}: {host.says()}")
    environment.refresh_from_db()


def pid_of(environment: TestEnvironment) -> int | None:
    return TestEnvironment.objects.values_list("observed_pid", flat=True).get(pk=environment.pk)


def until_runs(host: HostProcess, environment: TestEnvironment) -> int:
    """Waits until the environment is ready and its agent was seen; the process."""
    until_state(host, environment, TestEnvironment.State.READY)
    until(lambda: pid_of(environment), say=host.says)
    environment.refresh_from_db()
    return environment.observed_pid
