"""When a device was last seen: kept in memory by polls, written in one statement by somebody else."""

import os
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from cmdb.models import ConfigurationItem
from distribution import last_seen
from tests.distribution.device_client import Device
from tests.distribution.fleet import make_fleet
from tests.factories import NOW, make_product, make_version


@pytest.fixture(autouse=True)
def _nobody_seen() -> None:
    last_seen._begin_anew()


@pytest.fixture
def fleet(db: None) -> list[ConfigurationItem]:
    product = make_product()
    make_version(product, "1.0")
    return make_fleet(3, product, "1.0")


def seen(ci: ConfigurationItem):
    return ConfigurationItem.objects.values_list("last_seen_at", flat=True).get(pk=ci.pk)


def test_polls_are_written_by_one_statement_for_all_devices(fleet: list[ConfigurationItem]) -> None:
    for ci in reversed(fleet):
        Device(ci).poll()
    assert [seen(ci) for ci in fleet] == [None, None, None]
    with CaptureQueriesContext(connection) as queries:
        assert last_seen.flush() == 3
    assert len(queries) == 1
    assert all(seen(ci) for ci in fleet)
    assert last_seen.flush() == 0, "nothing is written twice"


def test_a_device_that_polls_all_the_time_is_written_now_and_then(fleet: list[ConfigurationItem]) -> None:
    ci = fleet[0]
    last_seen.note(ci, now=NOW)
    assert last_seen.flush() == 1
    ci.refresh_from_db()
    last_seen.note(ci, now=NOW + timedelta(seconds=29))
    assert last_seen.flush() == 0
    last_seen.note(ci, now=NOW + timedelta(seconds=31))
    assert last_seen.flush() == 1
    assert seen(ci) == NOW + timedelta(seconds=31)


def test_an_older_moment_does_not_overwrite_a_later_one_of_another_process(fleet: list[ConfigurationItem]) -> None:
    ci = fleet[0]
    last_seen.note(ci, now=NOW)
    ConfigurationItem.objects.filter(pk=ci.pk).update(last_seen_at=NOW + timedelta(minutes=1))
    assert last_seen.flush() == 0
    assert seen(ci) == NOW + timedelta(minutes=1)


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_holds_is_left_out_and_nobody_waits(django_db_blocker) -> None:
    product = make_product()
    make_version(product, "1.0")
    held, free = make_fleet(2, product, "1.0")
    other = connection.copy()
    try:
        with transaction.atomic():
            ConfigurationItem.objects.select_for_update().get(pk=held.pk)
            with other.cursor() as cursor:
                cursor.execute("SET lock_timeout = '2s'")
                cursor.execute(last_seen._WRITE, {"ids": [held.pk, free.pk], "times": [NOW, NOW]})
                assert cursor.rowcount == 1
    finally:
        other.close()
    assert (seen(held), seen(free)) == (None, NOW)


def test_the_child_of_a_fork_starts_with_nothing_and_a_lock_of_its_own(fleet: list[ConfigurationItem]) -> None:
    last_seen.note(fleet[0], now=NOW)
    with last_seen._lock:
        pid = os.fork()
        if pid == 0:  # only what needs neither the database nor pytest
            os._exit(0 if not last_seen._seen and last_seen._lock.acquire(blocking=False) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert last_seen.flush() == 1, "the parent has what it had"


@pytest.mark.django_db(transaction=True)
def test_the_writer_begins_with_the_first_poll_and_writes_by_itself(settings) -> None:
    settings.LAST_SEEN_SECONDS = 0.05
    product = make_product()
    make_version(product, "1.0")
    (ci,) = make_fleet(1, product, "1.0")
    last_seen.note(ci, now=NOW)
    writer = last_seen._writer
    assert writer is not None
    assert writer.daemon
    settings.LAST_SEEN_SECONDS = 0
    last_seen.stop()
    assert not writer.is_alive()
    assert seen(ci) == NOW, "the last thing it does is to write"
