"""The test host: the one process that makes copies, runs their agents and removes them.

The rows say what is wanted; every half second the host compares them with its jobs and processes and takes
the steps that are missing. It keeps nothing that a restart would need. Copying runs in threads; the agents'
processes belong to the main one.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.utils.translation import gettext as _

from test_environments.agents import Agents, end_processes_in
from test_environments.drivers.errors import Interrupted
from test_environments.drivers.file_copy import driver
from test_environments.jobs import Job, claim, held, needs_work, renew
from test_environments.models import TestEnvironment
from test_environments.services import HOST_LOCK, State, advance_test_environments, fail_environment
from tickets.clock import database_now
from tickets.exceptions import TransitionRefused

logger = logging.getLogger(__name__)

TURN_SECONDS = 0.5
WORKERS = 2
# After a job that could not write its result, for example because the database was away.
PAUSE_SECONDS = 2.0
_LOST = (DatabaseError, InterfaceError)


class AnotherHost(Exception):
    """A test host runs already; the text says where to look."""


class HostLock:
    """What makes this the only host: a file lock on the folder of copies, an advisory lock in the database.

    The file lock ends with the process; the other one also ends with its connection, which is one of its own.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file: int | None = None
        self._session: psycopg.Connection[Any] | None = None

    def take(self, *, wait: float, stop: threading.Event) -> None:
        """Takes both within `wait` seconds: a killed host's locks take a moment to go. Raises AnotherHost."""
        deadline = time.monotonic() + wait
        while not self._try():
            if stop.is_set() or time.monotonic() >= deadline:
                raise AnotherHost(
                    _("Another test host runs, for this database or for %(folder)s. There can be only one.")
                    % {"folder": self._root}
                )
            stop.wait(0.2)

    def _try(self) -> bool:
        if self._file is None:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._root / ".host.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                return False
            self._file = handle
        return self._take_session()

    def _take_session(self) -> bool:
        if self._session is None:
            parameters = connection.get_connection_params()
            self._session = psycopg.connect(**{**parameters, "autocommit": True})
        row = self._session.execute("SELECT pg_try_advisory_lock(%s)", [HOST_LOCK]).fetchone()
        return bool(row and row[0])

    def is_held(self) -> bool:
        """Whether the database still knows us as the host; connects again after a loss. Raises its errors."""
        if self._session is not None:
            try:
                self._session.execute("SELECT 1")
            except psycopg.Error:
                self._session.close()
                self._session = None
            else:
                return True
        return self._take_session()

    def release(self) -> None:
        """Gives both back."""
        if self._session is not None:
            with suppress(psycopg.Error):
                self._session.close()
        if self._file is not None:
            os.close(self._file)
        self._session = self._file = None


class Host:
    """The loop. Setting `stop` ends it; `say` takes log lines."""

    def __init__(self, stop: threading.Event, *, say: Callable[[str], None] = logger.info) -> None:
        self._stop = stop
        self._say = say
        self._lock = HostLock(Path(settings.TEST_ENVIRONMENT_ROOT))
        self._agents = Agents(say)
        self._jobs: dict[int, tuple[Job, Future[None]]] = {}
        self._not_before: dict[int, float] = {}
        self._pool = ThreadPoolExecutor(WORKERS, "test-host")

    def run(self, *, wait: float) -> None:
        """Works until `stop` is set; then ends all agents and jobs.

        `wait` is how many seconds another host may take to go. Raises AnotherHost.
        """
        self._lock.take(wait=wait, stop=self._stop)
        self._say("test host: ready")
        try:
            self._end_leftovers()
            while not self._stop.is_set():
                try:
                    if not self._lock.is_held():
                        raise AnotherHost(_("Another test host took over while the database was away."))
                    self.turn(database_now())
                except (*_LOST, psycopg.Error) as error:
                    self._say(f"test host: database: {error}".strip())
                    connection.close()
                    self._stop.wait(PAUSE_SECONDS)
                self._stop.wait(TURN_SECONDS)
        finally:
            self._end()

    def turn(self, now: datetime) -> None:
        """One comparison of the rows with what runs here."""
        advance_test_environments(now=now)
        self._collect(now)
        environments = list(TestEnvironment.objects.unfinished().order_by("pk"))
        for environment in environments:
            if environment.is_wanted_running:
                self._run_agent(environment, now)
            elif self._agents.stop(environment.pk) and needs_work(environment):
                self._start_job(environment, now)
        for gone in set(self._agents.known()) - {environment.pk for environment in environments}:
            self._agents.stop(gone)
        for environment in environments:
            self._observe(environment, now)

    def _run_agent(self, environment: TestEnvironment, now: datetime) -> None:
        if environment.pk in self._jobs:
            return
        why = self._agents.keep_running(environment.pk, driver.folder_of(environment.pk))
        if why:
            with suppress(TransitionRefused):
                fail_environment(
                    environment,
                    now=now,
                    text=_("The copy's agent ended again and again:\n%(log)s") % {"log": why},
                )

    def _start_job(self, environment: TestEnvironment, now: datetime) -> None:
        if environment.pk in self._jobs or time.monotonic() < self._not_before.get(environment.pk, 0.0):
            return
        if len(self._jobs) >= WORKERS:
            return  # claimed only when it can begin, or its lease would run while it waits
        try:
            job = Job(environment.pk, claim(environment, now=now))
        except TransitionRefused:
            return
        self._jobs[environment.pk] = (job, self._pool.submit(_work, job))

    def _collect(self, now: datetime) -> None:
        """Takes note of jobs that ended, keeps the leases of the others, and stops those that lost theirs."""
        for environment_id, (job, future) in list(self._jobs.items()):
            if not future.done():
                if not renew(environment_id, job.lease, now=now):
                    job.stop.set()
                continue
            del self._jobs[environment_id]
            error = future.exception()
            if error is not None and not isinstance(error, Interrupted):
                self._say(f"environment {environment_id}: {error!r}")
                self._not_before[environment_id] = time.monotonic() + PAUSE_SECONDS

    def _observe(self, environment: TestEnvironment, now: datetime) -> None:
        """Writes the process that runs, only when it changed."""
        pid = self._agents.pid(environment.pk)
        if pid != environment.observed_pid:
            TestEnvironment.objects.filter(pk=environment.pk).update(observed_pid=pid, observed_at=now)

    def _end_leftovers(self) -> None:
        """Ends what a killed host's agents had started, and deletes what a killed destruction left."""
        owned = driver.list_owned()
        destroyed = set(
            TestEnvironment.objects.filter(pk__in=owned, state=State.DESTROYED).values_list("pk", flat=True)
        )
        for environment_id in owned:
            end_processes_in(driver.folder_of(environment_id))
            if environment_id in destroyed:
                try:
                    driver.destroy(environment_id)
                except OSError as error:
                    self._say(f"environment {environment_id}: is destroyed, but not all of it: {error}")

    def _end(self) -> None:
        for job, _future in self._jobs.values():
            job.stop.set()
        self._agents.stop_all()
        self._pool.shutdown(wait=True)
        with suppress(*_LOST, psycopg.Error):
            for job, _future in self._jobs.values():
                job.give_back()
            TestEnvironment.objects.exclude(observed_pid=None).update(observed_pid=None, observed_at=database_now())
        connection.close()
        self._lock.release()
        self._say("test host: stopped")


def _work(job: Job) -> None:
    """A job in its thread, with a database connection of its own."""
    try:
        job.run()
    except (Interrupted, *_LOST):
        raise
    except Exception as error:
        logger.exception("environment %s", job.environment_id)
        with held(job.environment_id, job.lease) as (environment, now):
            fail_environment(environment, now=now, text=f"{type(error).__name__}: {error}")
    finally:
        connection.close()
