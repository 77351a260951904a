"""One step of one environment or image, under a lease.

claim (compare-and-set with a token; writes the task and its deadline) → the driver's call, outside any transaction
→ result, only with the same token. A job that was cut off is simply done again from its beginning: nothing but
the row says what is finished.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import language
from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import DriverError, Interrupted
from test_environments.drivers.interface import Driver
from test_environments.drivers.texts import say
from test_environments.failpoint import reach
from test_environments.models import GoldenImage, TestEnvironment
from test_environments.services.images import FREE
from tickets.clock import database_now
from tickets.exceptions import TransitionRefused

LEASE = timedelta(seconds=30)
# How long each call of a driver may take, in seconds.
DEADLINES = {
    "capture": 4 * 3600,
    "delete": 900,
    "make": 3600,
    "start": 300,
    "stop": 300,
    "snapshot": 1800,
    "revert": 1800,
    "destroy": 900,
}
# How long a step is tried again while its driver is out of reach.
PATIENCE = timedelta(minutes=10)
Row = TestEnvironment | GoldenImage


class LeaseLost(Interrupted):
    """Somebody else moved the row, or works on it: the result of this job does not count."""


class TryAgain(Interrupted):
    """The driver is out of reach; the row was given back and is tried again later."""


def claim(row: Row, task: str, *, now: datetime) -> uuid.UUID:
    """Takes the row for one job; replaces the lease of a host that is gone. Raises TransitionRefused.

    Only for the one host that holds the host lock: it alone knows that no other job is alive.
    """
    lease = uuid.uuid4()
    seen = {"pk": row.pk, "state": row.state, "lease": row.lease}
    if isinstance(row, TestEnvironment):
        seen["is_wanted_running"] = row.is_wanted_running
    rows = (
        type(row)
        ._base_manager.filter(**seen)
        .update(
            lease=lease,
            leased_until=now + LEASE,
            task=task,
            task_started_at=now,
            task_deadline=now + timedelta(seconds=DEADLINES[task]),
        )
    )
    if not rows:
        raise TransitionRefused(_("%(number)s was moved meanwhile.") % {"number": row})
    return lease


class Job:
    """One task of one row, run in a thread of the host. `stop` asks it to end early."""

    model: type[TestEnvironment] | type[GoldenImage]
    related: tuple[str, ...] = ()

    def __init__(self, row: Row, task: str, lease: uuid.UUID, driver: Driver) -> None:
        self.key = row.pk
        self.uuid = row.uuid
        self.task = task
        self.lease = lease
        self.driver = driver
        self.stop = threading.Event()
        self.bound = Bound(DEADLINES[task], self.stop.is_set)

    def renew(self, *, now: datetime) -> bool:
        """Keeps the lease of a running job; False when it is lost. Writes only in the lease's second half."""
        mine = self.model._base_manager.filter(pk=self.key, lease=self.lease)
        if mine.filter(leased_until__gt=now + LEASE / 2).exists():
            return True
        return bool(mine.update(leased_until=now + LEASE))

    @contextmanager
    def held(self) -> Iterator[tuple[Any, datetime]]:
        """A short transaction in which the row is ours; all written in it counts only while the lease does."""
        with transaction.atomic():
            now = database_now()
            mine = self.model._base_manager.filter(pk=self.key, lease=self.lease)
            if not mine.update(leased_until=now + LEASE):
                raise LeaseLost
            yield self.model._base_manager.select_related(*self.related).get(pk=self.key), now

    def free(self, now: datetime, **values: Any) -> None:
        """Lets go of the row and writes `values`; only inside `held`."""
        self.model._base_manager.filter(pk=self.key, lease=self.lease).update(**FREE, **values)

    def run(self) -> None:
        """Does the task; writes a failure into the row. Raises Interrupted."""
        reach("claimed")
        try:
            getattr(self, f"do_{self.task}")()
        except DriverError as error:
            self._end_in(error)

    def _end_in(self, error: DriverError) -> None:
        text = say(error, language.gettext)
        with self.held() as (row, now):
            is_early = now - row.updated_at < PATIENCE
            if error.may_pass and is_early:
                self.free(now, last_error=text[:4000])
            else:
                self.fail(row, now, text)
        if error.may_pass and is_early:
            raise TryAgain

    def fail(self, row: Any, now: datetime, text: str) -> None:
        """Writes that the task went wrong for good."""
        raise NotImplementedError

    def give_back(self) -> None:
        """Lets go of the row, so that the next host goes on with it at once."""
        now = database_now()
        self.model._base_manager.filter(pk=self.key, lease=self.lease).update(**FREE, updated_at=now)
