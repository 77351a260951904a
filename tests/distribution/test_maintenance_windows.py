"""A window is held by the portal: outside it a device sees nothing, unless it is one that waits by itself."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta

import pytest

from cmdb.models import AgentProfile, ConfigurationItem, MaintenanceWindow
from distribution import services
from distribution.models import Batch, Deployment
from distribution.steps import move_where
from software.models import Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import make_batch, make_fleet, queue, state
from tickets.clock import database_now

pytestmark = pytest.mark.django_db


@pytest.fixture
def shift(ci: ConfigurationItem) -> Callable[[int], None]:
    """Gives the CI a daily window of an hour that opens in so many minutes."""

    def place(minutes: int) -> None:
        opens = database_now() + timedelta(minutes=minutes)
        window, _ = MaintenanceWindow.objects.update_or_create(
            name="hour", defaults={"start": opens.time().replace(microsecond=0), "minutes": 60}
        )
        ConfigurationItem.objects.filter(pk=ci.pk).update(maintenance_window=window)

    return place


@pytest.fixture
def waits(ci: ConfigurationItem) -> None:
    """The CI's agent waits for its window itself."""
    profile = AgentProfile.objects.create(name="waits", can_wait=True)
    ConfigurationItem.objects.filter(pk=ci.pk).update(agent_profile=profile)


@pytest.fixture
def blind(ci: ConfigurationItem) -> None:
    """The CI's agent knows no `skip`."""
    profile = AgentProfile.objects.create(name="blind", can_wait=False)
    ConfigurationItem.objects.filter(pk=ci.pk).update(agent_profile=profile)


def test_outside_its_window_a_device_sees_nothing(
    blind: None, shift: Callable[[int], None], device: Device, deployment: Deployment
) -> None:
    shift(20)
    assert "deploymentBase" not in device.links()
    assert device.fetch(deployment).status_code == 404, "nor by the id that it guessed"
    assert state(deployment) == "queued"
    shift(-1)
    assert "deploymentBase" in device.links()
    body = device.fetch(deployment).json()["deployment"]
    assert (body["download"], body["update"]) == ("forced", "forced")
    assert "maintenanceWindow" not in body, "the portal keeps it"


def test_what_it_fetched_and_did_not_begin_waits_for_the_next_window(
    blind: None, shift: Callable[[int], None], device: Device, deployment: Deployment, new: Version
) -> None:
    shift(-1)
    device.fetch(deployment)
    shift(20)
    assert "deploymentBase" not in device.links()
    assert device.fetch(deployment).status_code == 404
    # It may be in the middle of the download: that goes on, and what it reports is taken.
    assert device.get(f"/softwaremodules/{new.pk}/artifacts/billing-2.0.tar.gz").status_code == 200
    assert device.report(deployment, "proceeding").status_code == 200
    assert "deploymentBase" in device.links(), "it has begun"
    assert device.report(deployment, "closed", "success").status_code == 200


def test_a_device_that_waits_by_itself_downloads_before_and_installs_within(
    waits: None, shift: Callable[[int], None], device: Device, deployment: Deployment
) -> None:
    shift(20)
    before = device.links()["deploymentBase"]
    body = device.fetch(deployment).json()["deployment"]
    assert (body["download"], body["update"], body["maintenanceWindow"]) == ("forced", "skip", "unavailable")
    device.report(deployment, "downloaded")
    assert device.links()["deploymentBase"] == before
    shift(-1)
    assert device.links()["deploymentBase"] != before, "c changes when the window opens"
    body = device.fetch(deployment).json()["deployment"]
    assert (body["download"], body["update"], body["maintenanceWindow"]) == ("forced", "forced", "available")


def test_what_goes_back_and_what_is_urgent_waits_for_no_window(
    blind: None, shift: Callable[[int], None], device: Device, deployment: Deployment, new: Version
) -> None:
    shift(20)
    (urgent,) = queue(make_batch("ROL-2", ignores_windows=True, weight=1), [device.ci], new)
    assert f"/deploymentBase/{urgent.pk}?" in device.links()["deploymentBase"], "past the heavier one that waits"
    assert device.fetch(urgent).status_code == 200


def test_a_copy_for_tests_has_no_window(
    blind: None, shift: Callable[[int], None], device: Device, deployment: Deployment, ci: ConfigurationItem
) -> None:
    (other,) = make_fleet(1, deployment.items.get().product, "1.0", prefix="source")
    shift(20)
    ConfigurationItem.objects.filter(pk=ci.pk).update(copy_of=other)
    assert device.fetch(deployment).status_code == 200


def test_the_window_of_the_class_counts_where_the_ci_has_none(
    device: Device, deployment: Deployment, ci: ConfigurationItem, blind: None
) -> None:
    opens = (database_now() + timedelta(hours=2)).time()
    ci.ci_class.maintenance_window = MaintenanceWindow.objects.create(name="later", start=opens, minutes=60)
    ci.ci_class.save()
    assert "deploymentBase" not in device.links()


@pytest.mark.parametrize(("minutes", "least", "most"), [(120, 300, 330), (10, 195, 221), (3, 54, 67), (1, 30, 33)])
def test_a_device_asks_more_often_before_its_window(
    shift: Callable[[int], None], device: Device, settings, minutes: int, least: int, most: int
) -> None:
    settings.DDI_POLL_SECONDS = 300
    shift(minutes)
    hours, rest, seconds = map(int, device.poll()["config"]["polling"]["sleep"].split(":"))
    assert least <= hours * 3600 + rest * 60 + seconds <= most


MONDAY = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


def overdue_from(batch: Batch, deployment: Deployment, *, hours: int = 24 * 9) -> datetime | None:
    """The first full hour after the beginning at which the deployment is overdue."""
    for hour in range(hours):
        now = MONDAY + timedelta(hours=hour)
        if services.mark_overdue([batch.pk], now=now):
            return now
    return None


@pytest.mark.parametrize(
    ("weekdays", "start", "minutes", "expected"),
    [
        ("1234567", time(22), 120, MONDAY.replace(day=3, hour=0)),  # a whole window passed
        ("5", time(22), 120, MONDAY.replace(day=7, hour=0)),
        ("1", time(8), 120, MONDAY.replace(day=9, hour=10)),  # this week's had begun before
        ("1", time(12), 24 * 60, MONDAY.replace(hour=16)),  # open for as long as the deadline
    ],
)
def test_waiting_for_a_window_is_not_overdue_until_the_device_had_one(
    ci: ConfigurationItem, new: Version, weekdays: str, start: time, minutes: int, expected: datetime
) -> None:
    window = MaintenanceWindow.objects.create(name="w", weekdays=weekdays, start=start, minutes=minutes)
    ConfigurationItem.objects.filter(pk=ci.pk).update(maintenance_window=window)
    batch = make_batch(offer_deadline=4 * 3600, progress_deadline=4 * 3600)
    (deployment,) = queue(batch, [ci], new, now=MONDAY)
    Batch.objects.update(opened_at=MONDAY)
    assert overdue_from(batch, deployment) == expected
    # The same for what was fetched and may only be downloaded until then.
    Deployment.objects.update(overdue_at=None)
    move_where("d.id = %(id)s", {"id": deployment.pk}, to_state="offered", kind="offered", now=MONDAY)
    assert overdue_from(batch, deployment) == expected


def test_a_window_does_not_excuse_what_is_not_held_by_it(ci: ConfigurationItem, new: Version) -> None:
    window = MaintenanceWindow.objects.create(name="w", weekdays="5", start=time(22), minutes=60)
    ConfigurationItem.objects.filter(pk=ci.pk).update(maintenance_window=window)
    batch = make_batch(offer_deadline=3600, ignores_windows=True)
    (deployment,) = queue(batch, [ci], new, now=MONDAY)
    Batch.objects.update(opened_at=MONDAY)
    assert overdue_from(batch, deployment) == MONDAY + timedelta(hours=1)
