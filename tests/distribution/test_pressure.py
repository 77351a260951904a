"""Under pressure polls are sent away before anything else; nothing else ever is."""

from collections import Counter

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from distribution.channels.ddi import pressure
from distribution.models import Deployment
from tests.distribution.device_client import Device

pytestmark = pytest.mark.django_db


@pytest.fixture
def _busy(settings):
    """As many polls are being answered as may be."""
    for _ in range(settings.DDI_PARALLEL_POLLS):
        assert pressure._polls.acquire(blocking=False)
    yield
    for _ in range(settings.DDI_PARALLEL_POLLS):
        pressure._polls.release()


@pytest.mark.usefixtures("_busy")
def test_a_poll_is_sent_away_without_a_query_and_told_when_to_come_back(device: Device) -> None:
    with CaptureQueriesContext(connection) as queries:
        answers = [device.get() for _ in range(40)]
    assert len(queries) == 0
    assert {answer.status_code for answer in answers} == {429}
    assert min(int(answer["Retry-After"]) for answer in answers) >= 5


def test_a_poll_is_sent_away_while_many_requests_wait_for_a_thread(device: Device, settings) -> None:
    def poll(waiting: int) -> int:
        return device.client.get(device.base, headers=device.headers, **{"itsm_portal.waiting": waiting}).status_code

    assert poll(settings.DDI_WAITING) == 200
    assert poll(settings.DDI_WAITING + 1) == 429


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_more_are_sent_away_the_later_they_come_back() -> None:
    clock = Clock()
    appointments = pressure.Appointments(clock)
    for _ in range(10):  # ten seconds under pressure in which 100 polls a second were answered
        appointments.next()
        for _ in range(100):
            clock.now += 0.01
            appointments.answered()
    moments = [clock.now + appointments.next() for _ in range(3000)]
    assert moments == sorted(moments)
    returning = Counter(int(moment) // 5 for moment in moments)
    assert max(returning.values()) <= 5 * 105, "not more return than were answered a second"
    assert max(moments) - clock.now < 60, "and not much later than need be"


def test_a_quiet_time_says_nothing_about_the_pace() -> None:
    clock = Clock()
    appointments = pressure.Appointments(clock)
    for _ in range(100):  # one poll a second, since no more came
        clock.now += 1
        appointments.answered()
    assert max(appointments.next() for _ in range(500)) <= 5 + 500 / 50 + 1


def test_nobody_is_sent_away_for_longer_than_ten_minutes() -> None:
    appointments = pressure.Appointments(Clock())
    waits = [appointments.next() for _ in range(100_000)]
    assert max(waits) <= 600
    assert len(set(waits[-1000:])) > 100, "those at the end do not return together"


@pytest.mark.usefixtures("_busy")
def test_nothing_but_polls_is_sent_away(device: Device, deployment: Deployment) -> None:
    device.client = Client(**{"itsm_portal.waiting": 1000})
    assert device.fetch(deployment).status_code == 200
    assert device.report(deployment, "proceeding").status_code == 200
    assert device.report(deployment, "closed", "success").status_code == 200
    assert device.attributes(billing="2.0").status_code == 200


def test_after_a_poll_its_place_is_free_also_when_it_was_refused(device: Device, settings) -> None:
    for _ in range(settings.DDI_PARALLEL_POLLS + 1):
        assert device.get().status_code == 200
        assert Device(device.ci, token="wrong").get().status_code == 401


def test_devices_pass_none_of_the_middleware_of_pages(device: Device) -> None:
    answer = device.get()
    assert not answer.cookies
    assert "Content-Security-Policy" not in answer
    assert answer["Content-Length"] == str(len(answer.content))
    assert device.client.get("/DEFAULT/controller/v1/ci-1/nothing/here").status_code == 404
    assert device.client.get("/DEFAULT/controller/v2/ci-1").status_code == 404
