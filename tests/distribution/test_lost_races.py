"""Offers and reports are decided by what was read without a lock: when that has changed, they are decided again."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from cmdb.models import AgentProfile, ConfigurationItem, InstalledVersion
from cmdb.services import find_agent, record_installed
from distribution import device as devices
from distribution import services
from distribution.device import Outcome
from distribution.models import Deployment
from software.models import Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import state
from tests.distribution.invariants import accepted_reports, check_deployments
from tests.factories import NOW

pytestmark = pytest.mark.django_db(transaction=True)


def asking(device: Device, deployment: Deployment, *, with_items: bool = False) -> ConfigurationItem:
    """The CI as a request of its device has it, after the statement that says who asks for what."""
    ci = find_agent(device.ci.agent_id, devices.beside_deployment(deployment.pk, with_items=with_items))
    assert ci is not None
    assert ci.beside is not None
    return ci


def close(ci: ConfigurationItem, deployment: Deployment, result: str = "success") -> Outcome:
    return devices.report(ci, deployment.pk, execution="closed", result=result, details=(), now=NOW)


def test_a_report_counts_another_one_that_came_in_between(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    ci = asking(device, deployment)
    device.report(deployment, "proceeding", "none", "in between")
    assert close(ci, deployment) is Outcome.ACCEPTED
    deployment.refresh_from_db()
    assert (deployment.state, deployment.reports, deployment.message) == ("confirming", 2, "in between")
    check_deployments()


def test_of_two_final_reports_the_second_one_is_over(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    ci = asking(device, deployment)
    device.report(deployment, "closed", "success")
    assert close(ci, deployment, "failure") is Outcome.GONE
    assert (state(deployment), accepted_reports(deployment)) == ("confirming", 1)


def test_progress_after_a_cancellation_in_between_does_not_undo_it(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    ci = asking(device, deployment)
    services.cancel_open([deployment.batch_id], now=NOW, reason="stop")
    outcome = devices.report(ci, deployment.pk, execution="proceeding", result="none", details=(), now=NOW)
    assert outcome is Outcome.ACCEPTED
    deployment.refresh_from_db()
    assert (deployment.state, deployment.state_before_cancel) == ("cancelling", "installing")
    check_deployments()


@pytest.mark.parametrize("with_items", [False, True])
def test_what_was_quarantined_after_the_question_is_not_offered(
    device: Device, deployment: Deployment, new: Version, *, with_items: bool
) -> None:
    ci = asking(device, deployment, with_items=with_items)
    row = devices.find_deployment(ci, deployment.pk)
    assert row is not None
    assert row.is_free is (True if with_items else None)
    Version.objects.filter(pk=new.pk).update(state=Version.State.QUARANTINED)
    assert not devices.offer(row, ci, now=NOW)
    assert (row.state, state(deployment)) == ("queued", "queued")


def test_what_runs_is_recorded_once_when_it_changes_while_the_final_report_is_written(
    device: Device, deployment: Deployment, new: Version
) -> None:
    ConfigurationItem.objects.update(agent_profile=AgentProfile.objects.create(name="restarts first", proof="closed"))
    device.fetch(deployment)
    answer = answered_behind(
        lambda: record_installed(device.ci, product=new.product, label="1.5", now=NOW, is_drift=True),
        lambda: device.report(deployment, "closed", "success"),
    )
    assert answer.status_code == 200
    assert state(deployment) == "succeeded"
    rows = InstalledVersion.objects.filter(ci=device.ci).order_by("id")
    assert [(row.label, row.valid_to is None, row.is_drift) for row in rows] == [
        ("1.0", False, False),
        ("1.5", False, True),
        ("2.0", True, False),
    ]
    assert not device.ci.drifts.filter(ended_at=None).exists()
    check_deployments()


def answered_behind(change: Callable[[], object], ask: Callable[[], Any]) -> Any:
    """The answer to a request that has to wait for a change of the same CI, as a message that came first makes it."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(ask())
        finally:
            connection.close()

    asking = threading.Thread(target=run)
    with transaction.atomic():
        change()
        asking.start()
        wait_until_somebody_waits()
    asking.join(timeout=30)
    (answer,) = answers
    return answer


def wait_until_somebody_waits() -> None:
    """Until another connection waits for what this one has locked."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    for _ in range(600):
        with connection.cursor() as cursor:
            cursor.execute(query)
            if cursor.fetchone()[0]:
                return
            cursor.execute("SELECT pg_sleep(0.05)")
    raise AssertionError("nobody waits")
