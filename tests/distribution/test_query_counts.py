"""Devices are many: what they ask most must cost little. A savepoint of the test stands for BEGIN and COMMIT."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cmdb.models import AgentProfile, ConfigurationItem, InstalledVersion, MaintenanceWindow
from distribution.models import Batch, Deployment
from software.models import Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import make_batch, make_fleet, queue
from tests.factories import NOW

pytestmark = pytest.mark.django_db


def statements(call) -> list[str]:
    """The statements that a call makes, without the limits of its transaction."""
    with CaptureQueriesContext(connection) as queries:
        assert call().status_code == 200
    # Django does not know the text of a statement that psycopg carries out prepared.
    found = [q["sql"] or "" for q in queries]
    return [sql for sql in found if not sql.startswith(("SAVEPOINT", "RELEASE", "BEGIN", "COMMIT"))]


def writes(queries: list[str]) -> list[str]:
    return [q for q in queries if any(word in q for word in ("INSERT ", "UPDATE distribution", 'UPDATE "'))]


def test_a_poll_takes_one_query_and_writes_nothing(device: Device, deployment: Deployment) -> None:
    for _ in range(2):
        queries = statements(device.get)
        assert (len(queries), len(writes(queries))) == (1, 0)


def test_a_poll_costs_the_same_with_any_number_of_deployments(device: Device, new: Version) -> None:
    statements(device.get)
    for i in range(5):
        queue(make_batch(f"ROL-{i}", max_in_flight=3), [device.ci], new)
    make_fleet(5, new.product, "1.0", prefix="more")
    assert len(statements(device.get)) == 1


def test_a_poll_in_an_open_window_takes_two(device: Device, deployment: Deployment) -> None:
    always = MaintenanceWindow.objects.create(name="always", start="00:00", minutes=7 * 24 * 60)
    profile = AgentProfile.objects.create(name="obedient")
    ConfigurationItem.objects.update(maintenance_window=always, agent_profile=profile)
    assert len(statements(device.get)) == 2
    assert "deploymentBase" in device.links()


def test_an_offer(device: Device, deployment: Deployment) -> None:
    # Who asks for what, and what it consists of; then the step.
    assert len(statements(lambda: device.fetch(deployment))) == 2
    assert len(statements(lambda: device.fetch(deployment))) == 1


def test_an_offer_under_a_cap(device: Device, new: Version) -> None:
    (deployment,) = queue(make_batch(max_in_flight=2), [device.ci], new)
    # In between: lock the batch, what runs there.
    assert len(statements(lambda: device.fetch(deployment))) == 4


def test_a_report(device: Device, deployment: Deployment) -> None:
    device.attributes(billing="1.0")
    device.fetch(deployment)
    # Who reports on what; then the step with its event, and for the last one the question for the attributes.
    assert len(statements(lambda: device.report(deployment, "proceeding"))) == 2
    assert len(statements(lambda: device.report(deployment, "closed", "success"))) == 2
    assert ConfigurationItem.objects.get().attributes_wanted


def test_a_final_report_that_is_the_proof(device: Device, deployment: Deployment) -> None:
    ConfigurationItem.objects.update(agent_profile=AgentProfile.objects.create(name="restarts first", proof="closed"))
    device.fetch(deployment)
    # The same statement records what the CI runs.
    assert len(statements(lambda: device.report(deployment, "closed", "success"))) == 2
    assert InstalledVersion.objects.get(valid_to=None).label == "2.0"


def test_attributes(device: Device, deployment: Deployment, batch: Batch) -> None:
    statements(lambda: device.attributes(billing="1.0"))
    # Who, with everything that bears on it; then what it says, with the end of the deployment that it proves.
    assert len(statements(lambda: device.attributes(billing="1.0"))) == 2
    device.fetch(deployment)
    device.report(deployment, "closed", "success")
    assert len(statements(lambda: device.attributes(billing="2.0"))) == 2
    assert Deployment.objects.get().state == "succeeded"


def test_a_download(device: Device, deployment: Deployment, new: Version) -> None:
    device.fetch(deployment)
    path = f"/softwaremodules/{new.pk}/artifacts/{new.artifacts.get().filename}"
    device.get(path)  # the first one compares the file
    # Who fetches what; then that it was fetched.
    assert len(statements(lambda: device.get(path))) == 2


def test_a_device_leaves_no_session_and_no_history(device: Device, deployment: Deployment) -> None:
    before = ConfigurationItem.history.rel.related_model.objects.count()
    for response in (device.get(), device.fetch(deployment), device.report(deployment, "closed", "success")):
        assert not response.cookies
    device.attributes(billing="2.0")
    assert ConfigurationItem.history.rel.related_model.objects.count() == before
    assert Deployment.objects.get().state == "succeeded"
    assert NOW
