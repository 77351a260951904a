"""While the database does not answer, polls are sent away and reports are asked for again: nothing is lost."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connection

from distribution.models import Deployment
from tests.distribution.device_client import Device
from tests.distribution.fleet import state
from tests.distribution.invariants import accepted_reports, check_deployments

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def locked(statement: str) -> Iterator[None]:
    """Somebody else holds what the statement locks, and nobody waits for it for long."""
    parameters = {**connection.get_connection_params(), "autocommit": False}
    with psycopg.connect(**parameters) as other, connection.cursor() as cursor:
        other.execute(statement)
        cursor.execute("SET lock_timeout = '50ms'")
        try:
            yield
        finally:
            other.rollback()
            cursor.execute("RESET lock_timeout")


@pytest.mark.parametrize("execution", ["proceeding", "closed"])
def test_a_report_that_finds_no_database_is_sent_again_and_taken_once(
    device: Device, deployment: Deployment, execution: str
) -> None:
    device.fetch(deployment)
    with locked("SELECT 1 FROM distribution_deployment FOR UPDATE"):
        answer = device.report(deployment, execution, "success")
    assert answer.status_code == 503
    assert int(answer["Retry-After"]) >= 5
    assert (state(deployment), accepted_reports(deployment)) == ("offered", 0)

    assert device.report(deployment, execution, "success").status_code == 200
    assert accepted_reports(deployment) == 1
    check_deployments()


def test_an_offer_and_attributes_are_asked_for_again(device: Device, deployment: Deployment) -> None:
    with locked("SELECT 1 FROM distribution_batch FOR UPDATE"):
        assert device.fetch(deployment).status_code == 503
    assert state(deployment) == "queued"
    with locked("SELECT 1 FROM cmdb_configurationitem FOR UPDATE"):
        assert device.attributes(billing="2.0").status_code == 503


def test_a_poll_is_sent_away(device: Device) -> None:
    with locked("LOCK TABLE cmdb_agenttoken IN ACCESS EXCLUSIVE MODE"):
        answer = device.get()
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) >= 5
