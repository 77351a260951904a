"""Disks that are received: one thread for each that is expected or checked, and removing what nobody needs any more.

The rows say what is to be done; a host that is started again goes on listening where the last one did.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import psycopg
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from accounts import language
from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import DriverError, Interrupted
from test_environments.drivers.interface import Driver
from test_environments.drivers.receiving import ExpectedDisk, Progress
from test_environments.drivers.texts import Text as _
from test_environments.drivers.texts import say
from test_environments.failpoint import reach
from test_environments.models import CopySource, DiskReception, GoldenImage
from test_environments.services.receptions import (
    arrive,
    cleared,
    fail_reception,
    medium_path,
    note_progress,
    prepared,
)
from test_environments.services.uploads import upload_path
from tickets.clock import database_now
from tickets.exceptions import TransitionRefused

logger = logging.getLogger(__name__)
State = DiskReception.State
# What is checked or cleared at a time. Each that is expected has a port of its own, which bounds them.
WORKERS = 8
_PAUSE_SECONDS = 10.0
CHECK_SECONDS = 4 * 3600.0
CLEAR_SECONDS = 60.0
_LONG = 8 * 24 * 3600.0  # the row's own time is shorter
_TAKEN = (GoldenImage.State.READY, GoldenImage.State.DELETING, GoldenImage.State.DELETED)
_LOST = (DatabaseError, InterfaceError, psycopg.Error)


class ReceptionDesk:
    """What of the test host receives disks. `turn` is called all the time, `close` at the end."""

    def __init__(self, drivers: Mapping[str, Driver], say: Callable[[str], None]) -> None:
        self._drivers = drivers
        self._say = say
        _address, first, last = settings.TEST_ENVIRONMENT_RECEIVER or ("", 0, -1)
        self._pool = ThreadPoolExecutor(WORKERS + last - first + 1, "reception")
        self._jobs: dict[int, tuple[Future[None], threading.Event, str]] = {}

    def turn(self, now: datetime) -> None:
        """One comparison of the rows with what is under way."""
        rows = {row.pk: row for row in DiskReception.objects.unfinished().select_related("image", "ci")}
        for key, (future, stop, kind) in list(self._jobs.items()):
            if future.done():
                del self._jobs[key]
                if (error := future.exception()) is not None and not isinstance(error, Interrupted):
                    self._say(f"DSK-{key:07d}: {error!r}")
            elif key not in rows or _work_of(rows[key]) != kind:
                stop.set()
        for key, row in rows.items():
            kind = _work_of(row)
            if kind and key not in self._jobs and (kind == "receive" or self._others() < WORKERS):
                self._begin(row, kind, now)

    def _others(self) -> int:
        return sum(kind != "receive" for _future, _stop, kind in self._jobs.values())

    def _begin(self, row: DiskReception, kind: str, now: datetime) -> None:
        driver = self._drivers.get(_driver_of(row))
        if driver is None and kind != "clear":
            with suppress(TransitionRefused):
                fail_reception(row, now=now, text=_not_set_up(row))
            return
        stop = threading.Event()
        # What is removed may lie with any driver: the CI may have been released for another one meanwhile.
        drivers = list(self._drivers.values()) if driver is None or kind == "clear" else [driver]
        future = self._pool.submit(_work, kind, row, drivers, stop)
        self._jobs[row.pk] = (future, stop, kind)

    def close(self) -> None:
        """Ends all; what is expected stays so."""
        for _future, stop, _kind in self._jobs.values():
            stop.set()
        self._pool.shutdown(wait=True)


def _work_of(row: DiskReception) -> str:
    """What is to be done for it now: receive, check, clear; empty: nothing."""
    if row.state in DiskReception.EXPECTED:
        return "receive" if row.method == DiskReception.Method.MEDIUM else ""
    if row.state == State.CHECKING:
        return "check"
    if row.state == State.ARRIVED:
        return "clear" if row.image is None or row.image.state in _TAKEN else ""
    return "clear"


def _driver_of(row: DiskReception) -> str:
    if row.image is not None:
        return str(row.image.driver)
    return str(CopySource.objects.filter(ci=row.ci_id).values_list("driver", flat=True).first() or "libvirt")


def _not_set_up(row: DiskReception) -> str:
    text = language.gettext("The driver “%(name)s” is not set up on this test host (TEST_ENVIRONMENT_DRIVERS).")
    return text % {"name": _driver_of(row)}


def _work(kind: str, row: DiskReception, drivers: Sequence[Driver], stop: threading.Event) -> None:
    try:
        for driver in drivers:
            {"receive": _receive, "check": _check, "clear": _clear}[kind](row, driver, stop)
        if kind == "clear":
            cleared(row, now=database_now())
    except Interrupted:
        raise
    except DriverError as error:
        if error.may_pass:
            DiskReception.objects.filter(pk=row.pk).update(last_error=say(error, language.gettext)[:4000])
            stop.wait(_PAUSE_SECONDS)
            return
        _fail(row, say(error, language.gettext), stop)
    except TransitionRefused:
        pass  # it was ended meanwhile; the next turn clears it
    except _LOST:
        stop.wait(2)
        raise
    except Exception as error:
        logger.exception("%s", row)
        _fail(row, f"{type(error).__name__}: {error}", stop)
    finally:
        connection.close()


def _fail(row: DiskReception, text: str, stop: threading.Event) -> None:
    """A person decides; what cannot fail any more is tried again after a while."""
    try:
        fail_reception(row, now=database_now(), text=text.replace("\0", ""))
    except TransitionRefused:
        stop.wait(_PAUSE_SECONDS)


def _receive(row: DiskReception, driver: Driver, stop: threading.Event) -> None:
    if row.state == State.RECEIVING:  # with a host that is gone
        note_progress(row, Progress(refusal=_("The test host was started anew; send again.")), now=database_now())
    address, _first, _last = settings.TEST_ENVIRONMENT_RECEIVER or ("", 0, 0)
    medium = medium_path(row)
    medium.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    expected = ExpectedDisk(
        str(row.uuid), row.token_sha256, address, row.port or 0,
        machine_address=row.machine_address, gateway=row.gateway, disk=row.disk,
    )  # fmt: skip

    def tell(progress: Progress) -> None:
        now = database_now()
        prepared(row, now=now, medium_bytes=medium.stat().st_size)
        if progress.size or progress.refusal:
            note_progress(row, progress, now=now)

    disk = driver.receive(expected, medium, Bound(_LONG, stop.is_set), tell)
    reach("received")
    row.refresh_from_db()
    prepared(row, now=database_now(), medium_bytes=0)
    arrive(row, disk, now=database_now())
    medium.unlink(missing_ok=True)


def _check(row: DiskReception, driver: Driver, stop: threading.Event) -> None:
    disk = driver.take_in(str(row.uuid), upload_path(row), row.format, Bound(CHECK_SECONDS, stop.is_set))
    reach("received")
    arrive(row, disk, now=database_now())
    upload_path(row).unlink(missing_ok=True)


def _clear(row: DiskReception, driver: Driver, stop: threading.Event) -> None:
    driver.forget_disk(str(row.uuid), Bound(CLEAR_SECONDS, stop.is_set))
    for path in (medium_path(row), upload_path(row)):
        Path(path).unlink(missing_ok=True)
