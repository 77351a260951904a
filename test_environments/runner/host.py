"""The test host: the one process that opens the drivers and makes, runs and removes environments and images.

The rows say what is wanted; every half second the host compares them with its jobs and with what the drivers see, and
takes the steps that are missing. It keeps nothing that a restart would need. The drivers' calls run in threads.
"""

import logging
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

from accounts import language
from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import DriverError, Interrupted
from test_environments.drivers.interface import Driver, Observation, Power
from test_environments.drivers.registry import open_drivers
from test_environments.drivers.texts import say
from test_environments.models import EnvironmentConsole, GoldenImage, TestEnvironment
from test_environments.runner import environment_jobs, image_jobs
from test_environments.runner.jobs import Job, LeaseLost, TryAgain, claim
from test_environments.runner.lock import AnotherHost, HostLock
from test_environments.runner.reaper import REAP_SECONDS, reap
from test_environments.runner.receptions import ReceptionDesk
from test_environments.runner.restarts import Restarts
from test_environments.runner.watch import Watch
from test_environments.services import advance_test_environments, fail_environment, fail_image
from tickets.clock import database_now
from tickets.exceptions import TransitionRefused

logger = logging.getLogger(__name__)

TURN_SECONDS = 0.5
WORKERS = 2
# After a job that could not write its result, for example because the database was away.
PAUSE_SECONDS = 2.0
# After a job whose driver was out of reach.
AWAY_SECONDS = 10.0
REAP_EVERY = 30.0
_LOST = (DatabaseError, InterfaceError)

Row = TestEnvironment | GoldenImage


class Host:
    """The loop. Setting `stop` ends it; `say` takes log lines."""

    def __init__(self, stop: threading.Event, *, say: Callable[[str], None] = logger.info) -> None:
        self._stop = stop
        self._say = say
        self._lock = HostLock(Path(settings.TEST_ENVIRONMENT_ROOT))
        self._drivers: dict[str, Driver] = open_drivers(say)
        self._watch = Watch(self._drivers)
        self._receptions = ReceptionDesk(self._drivers, say)
        self._restarts = Restarts()
        self._jobs: dict[str, tuple[Job, Future[None]]] = {}
        self._not_before: dict[str, float] = {}
        # When the last job of an environment ended: what was seen before counts no more.
        self._settled: dict[int, float] = {}
        self._pool = ThreadPoolExecutor(WORKERS, "test-host")
        self._reaper = ThreadPoolExecutor(1, "reaper")
        self._reaped_at = -REAP_EVERY
        self._reaping: Future[None] | None = None

    def run(self, *, wait: float) -> None:
        """Works until `stop` is set; then ends all jobs and what must not outlive the host.

        `wait` is how many seconds another host may take to go. Raises AnotherHost.
        """
        self._lock.take(wait=wait, stop=self._stop)
        try:
            for driver in self._drivers.values():
                try:
                    driver.open(Bound(REAP_SECONDS, self._stop.is_set))
                except DriverError as error:
                    self._say(f"test host: {driver.name}: {error}")
            self._say(f"test host: ready ({', '.join(self._drivers)})")
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
        """One comparison of the rows with what is there."""
        advance_test_environments(now=now)
        self._collect(now)
        environments = list(TestEnvironment.objects.unfinished().select_related("image").order_by("pk"))
        for image in GoldenImage.objects.unfinished().order_by("pk"):
            task = image_jobs.task_of(image)
            if task:
                self._begin(image, task, now)
        for environment in environments:
            self._reconcile(environment, now)
        self._watch.look((environment.uuid, environment.driver) for environment in environments)
        self._receptions.turn(now)
        self._reap()

    def _reconcile(self, environment: TestEnvironment, now: datetime) -> None:
        if _key(environment) in self._jobs:
            return
        seen = self._seen(environment)
        if seen is not None:
            self._write_down(environment, seen, now)
        task = environment_jobs.task_of(environment, seen)
        if task == "start" and seen is not None and not self._may_start(environment, seen, now):
            return
        if task:
            self._begin(environment, task, now)

    def _seen(self, environment: TestEnvironment) -> Observation | None:
        """The last look at it, if that is from after its last job."""
        seen, began = self._watch.latest.get(environment.uuid, (None, 0.0))
        return seen if began > self._settled.get(environment.pk, 0.0) else None

    def _may_start(self, environment: TestEnvironment, seen: Observation, now: datetime) -> bool:
        """Whether what is off, but wanted, is started now: not while a hypervisor is away, not for ever."""
        key = environment.pk
        if seen.power is Power.UNKNOWN:
            return False
        why = ""
        if seen.power is Power.ABSENT:
            why = _("Nothing of it is on the test host any more. Retry makes it anew from its image.")
        else:
            self._restarts.ended(key)
            if self._restarts.is_given_up(key):
                why = _("The copy's agent ended again and again:\n%(log)s") % {"log": say(seen.why, _)}
        if why:
            self._restarts.forget(key)
            with suppress(TransitionRefused):
                fail_environment(environment, now=now, text=why)
            return False
        return self._restarts.is_due(key)

    def _begin(self, row: Row, task: str, now: datetime) -> None:
        key = _key(row)
        if key in self._jobs or time.monotonic() < self._not_before.get(key, 0.0):
            return
        if len(self._jobs) >= WORKERS:
            return  # claimed only when it can begin, or its lease would run while it waits
        driver = self._drivers.get(row.driver)
        if driver is None:
            self._refuse(row, now)
            return
        try:
            lease = claim(row, task, now=now)
        except TransitionRefused:
            return
        kind = environment_jobs.EnvironmentJob if isinstance(row, TestEnvironment) else image_jobs.ImageJob
        job = kind(row, task, lease, driver)
        self._jobs[key] = (job, self._pool.submit(_work, job))

    def _refuse(self, row: Row, now: datetime) -> None:
        text = _("The driver “%(name)s” is not set up on this test host (TEST_ENVIRONMENT_DRIVERS).") % {
            "name": row.driver
        }
        with suppress(TransitionRefused):
            if isinstance(row, TestEnvironment):
                fail_environment(row, now=now, text=text)
            else:
                fail_image(row, now=now, text=text)

    def _collect(self, now: datetime) -> None:
        """Takes note of jobs that ended, keeps the leases of the others, and stops those that lost theirs."""
        for key, (job, future) in list(self._jobs.items()):
            if not future.done():
                if not job.renew(now=now):
                    job.stop.set()
                continue
            del self._jobs[key]
            error = future.exception()
            if isinstance(job, environment_jobs.EnvironmentJob):
                self._settled[job.key] = time.monotonic()
                if job.task != "start":
                    self._restarts.forget(job.key)
                if job.task not in {"stop", "destroy"}:
                    self._restarts.began(job.key)
            if isinstance(error, TryAgain):
                self._not_before[key] = time.monotonic() + AWAY_SECONDS
            elif error is not None and not isinstance(error, Interrupted):
                self._say(f"{key}: {error!r}")
                self._not_before[key] = time.monotonic() + PAUSE_SECONDS

    def _write_down(self, environment: TestEnvironment, seen: Observation, now: datetime) -> None:
        """Writes what was seen, only when it changed; why nothing can be seen stands on the page meanwhile."""
        new: dict[str, Any] = {"observed_power": str(seen.power), "observed_pid": seen.process}
        if environment.state == TestEnvironment.State.READY:
            if seen.power is Power.UNKNOWN:
                new["last_error"] = say(seen.why, language.gettext)[:4000]
            elif environment.observed_power == TestEnvironment.Power.UNKNOWN:
                new["last_error"] = ""
        if any(getattr(environment, name) != value for name, value in new.items()):
            TestEnvironment.objects.filter(pk=environment.pk).update(**new, observed_at=now)
        text = self._watch.consoles.pop(environment.uuid, "")
        if text and not EnvironmentConsole.objects.filter(environment=environment, text=text).exists():
            values = {"text": text.replace("\0", ""), "at": now}
            EnvironmentConsole.objects.update_or_create(environment=environment, defaults=values)

    def _reap(self) -> None:
        """Looks for orphans at the start and every half a minute, beside everything else."""
        if time.monotonic() - self._reaped_at < REAP_EVERY or (self._reaping and not self._reaping.done()):
            return
        self._reaped_at = time.monotonic()
        self._reaping = self._reaper.submit(self._reap_all)

    def _reap_all(self) -> None:
        try:
            for driver in self._drivers.values():
                reap(driver, Bound(REAP_SECONDS, self._stop.is_set), self._say)
        except (*_LOST, Interrupted) as error:
            self._say(f"reaper: {error}".strip())
        finally:
            connection.close()

    def _end(self) -> None:
        for job, _future in self._jobs.values():
            job.stop.set()
        self._receptions.close()
        # Before the threads that started its processes: those die with their thread, by force.
        for driver in self._drivers.values():
            driver.close()
        for pool in (self._pool, self._reaper):
            pool.shutdown(wait=True)
        self._watch.close()
        with suppress(*_LOST, psycopg.Error):
            for job, _future in self._jobs.values():
                job.give_back()
            TestEnvironment.objects.exclude(observed_pid=None).update(
                observed_pid=None, observed_power=TestEnvironment.Power.UNKNOWN, observed_at=database_now()
            )
        connection.close()
        self._lock.release()
        self._say("test host: stopped")


def _key(row: Row) -> str:
    return row.number


def _work(job: Job) -> None:
    """A job in its thread, with a database connection of its own."""
    try:
        job.run()
    except (Interrupted, *_LOST):
        raise
    except Exception as error:
        logger.exception("%s %s", job.model.__name__, job.key)
        with suppress(LeaseLost), job.held() as (row, now):
            job.fail(row, now, f"{type(error).__name__}: {error}")
    finally:
        connection.close()
