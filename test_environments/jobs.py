"""The long steps of a test environment, each under a lease: make the copy, remove it.

claim (compare-and-set with a token) → work on disk, outside any transaction → result, only with the same
token. A job that was cut off is simply done again from its beginning: nothing but the row says what is
finished.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from cmdb.models import ConfigurationItem, InstalledVersion
from cmdb.services import issue_agent_token, record_removed
from test_environments.drivers.errors import DriverError, Interrupted, SourceChanged
from test_environments.drivers.file_copy import driver
from test_environments.failpoint import reach
from test_environments.models import CopySource, TestEnvironment
from test_environments.services import State, fail_environment, revoke_tokens
from tickets.clock import database_now
from tickets.exceptions import TransitionRefused
from tickets.lifecycle import move

LEASE = timedelta(seconds=30)
_TRIES = 3


class LeaseLost(Interrupted):
    """Somebody else moved the environment, or works on it: the result of this job does not count."""


def needs_work(environment: TestEnvironment) -> bool:
    """Whether a job has something to do: a request, a destruction, or what a dead host left half done."""
    if environment.state == State.PROVISIONING:
        return not environment.is_wanted_running
    return environment.state in {State.REQUESTED, State.CAPTURING, State.DESTROYING}


def claim(environment: TestEnvironment, *, now: datetime) -> uuid.UUID:
    """Takes the environment for one job; replaces the lease of a host that is gone. Raises TransitionRefused.

    Only for the one host that holds the host lock: it alone knows that no other job is alive.
    """
    lease = uuid.uuid4()
    update = {"lease": lease, "leased_until": now + LEASE}
    if environment.state == State.REQUESTED:
        move(environment, "capture", actor=None, now=now, update=update)
        return lease
    rows = TestEnvironment.objects.filter(pk=environment.pk, state=environment.state)
    rows = rows.filter(is_wanted_running=False, lease=environment.lease)
    if not rows.update(**update):
        raise TransitionRefused(_("%(number)s was moved meanwhile.") % {"number": environment})
    return lease


def renew(environment_id: int, lease: uuid.UUID, *, now: datetime) -> bool:
    """Keeps the lease of a running job; False when it is lost. Writes only in the lease's second half."""
    held = TestEnvironment.objects.filter(pk=environment_id, lease=lease)
    if held.filter(leased_until__gt=now + LEASE / 2).exists():
        return True
    return bool(held.update(leased_until=now + LEASE))


@contextmanager
def held(environment_id: int, lease: uuid.UUID) -> Iterator[tuple[TestEnvironment, datetime]]:
    """A short transaction in which the row is ours; all written in it counts only while the lease does."""
    with transaction.atomic():
        now = database_now()
        if not TestEnvironment.objects.filter(pk=environment_id, lease=lease).update(leased_until=now + LEASE):
            raise LeaseLost
        yield TestEnvironment.objects.select_related("source", "copy").get(pk=environment_id), now


class Job:
    """One step of one environment, run in a thread of the host. `stop` asks it to end early."""

    def __init__(self, environment_id: int, lease: uuid.UUID) -> None:
        self.environment_id = environment_id
        self.lease = lease
        self.stop = threading.Event()

    def check(self) -> None:
        """Raises Interrupted when the job is to end."""
        if self.stop.is_set():
            raise Interrupted

    def run(self) -> None:
        """Does the step that the row's state asks for; writes a failure into the row. Raises Interrupted."""
        try:
            reach("claimed")
            with held(self.environment_id, self.lease) as (environment, _now):
                state = environment.state
            if state == State.DESTROYING:
                self._destroy()
            else:
                self._make()
        except (DriverError, OSError) as error:
            reason = f"{error.strerror or error}: {error.filename or ''}" if isinstance(error, OSError) else str(error)
            with held(self.environment_id, self.lease) as (environment, now):
                fail_environment(environment, now=now, text=reason)

    def _make(self) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                self._copy()
                break
            except SourceChanged:
                if attempt == _TRIES:
                    raise
        with held(self.environment_id, self.lease) as (environment, now):
            token = _new_identity(environment, now=now)
            config = agent_config(environment)
        reach("token_issued")
        driver.place(self.environment_id, config=config, token=token)
        reach("placed")
        with held(self.environment_id, self.lease) as (environment, now):
            TestEnvironment.objects.filter(pk=environment.pk).update(
                is_wanted_running=True, lease=None, leased_until=None, updated_at=now
            )
        reach("wanted")

    def _copy(self) -> None:
        with held(self.environment_id, self.lease) as (environment, _now):
            versions = environment.versions
            source = CopySource.objects.filter(ci_id=environment.source_id).first()
        if source is None:
            raise DriverError(_("The source may no longer be copied: its folder was taken from “Sources of copies”."))
        captured = driver.capture(source.folder)
        reach("captured")
        with held(self.environment_id, self.lease) as (environment, now):
            if environment.state == State.CAPTURING:
                move(environment, "provision", actor=None, now=now, update={"baseline": captured.baseline})
            elif environment.baseline != captured.baseline:
                TestEnvironment.objects.filter(pk=environment.pk).update(baseline=captured.baseline)
        reach("provisioning")
        driver.create(self.environment_id, captured, versions=versions, check=self.check)
        reach("copied")

    def _destroy(self) -> None:
        reach("destroying")
        driver.destroy(self.environment_id, check=self.check)
        reach("deleted")
        with held(self.environment_id, self.lease) as (environment, now):
            update = {"destroyed_at": now, "lease": None, "leased_until": None, "observed_pid": None}
            move(environment, "finish_destroying", actor=None, now=now, update=update)

    def give_back(self) -> None:
        """Lets go of the row, so that the next host goes on with it at once."""
        now = database_now()
        mine = TestEnvironment.objects.filter(pk=self.environment_id, lease=self.lease)
        mine.update(lease=None, leased_until=None, updated_at=now)


def _new_identity(environment: TestEnvironment, *, now: datetime) -> str:
    """A new token for the copy; what the copy reported or ran before no longer counts. Returns the token."""
    copy = environment.copy
    if copy is None:
        raise DriverError(_("The environment has no configuration item of its own; destroy it and request a new one."))
    revoke_tokens(copy.pk, now=now)
    for installed in InstalledVersion.objects.filter(ci=copy, valid_to=None).select_related("product"):
        record_removed(copy, product=installed.product, now=now, source=environment.number)
    ConfigurationItem.objects.filter(pk=copy.pk).update(attributes={}, attributes_at=None, attributes_wanted=True)
    return issue_agent_token(copy, actor=None, now=now)


def agent_config(environment: TestEnvironment) -> dict[str, Any]:
    """What the agent of the copy is told; the driver adds where its files are."""
    assert environment.copy is not None
    return {
        "url": settings.PORTAL_URL,
        "tenant": settings.DDI_TENANT,
        "controller_id": environment.copy.agent_id,
        "poll_min_seconds": 1,
        # As the agents in production: what is not signed is not tested either.
        **({"root_keys": settings.SIGNING_ROOT_KEYS} if settings.SIGNING_ROOT_KEYS else {}),
    }
