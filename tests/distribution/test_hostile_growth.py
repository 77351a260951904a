"""However often a device says something, what the portal keeps of it is bounded."""

import pytest
from django.apps import apps

from cmdb.models import Drift, InstalledVersion
from distribution.models import Deployment
from software.models import Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import make_batch, make_fleet, queue
from tests.factories import make_version

pytestmark = pytest.mark.django_db


def sizes() -> dict[str, int]:
    """Rows of every table of the portal."""
    models = [m for m in apps.get_models(include_auto_created=True) if m._meta.managed and not m._meta.proxy]
    return {model._meta.db_table: model._default_manager.count() for model in models}


def grown(before: dict[str, int]) -> dict[str, int]:
    return {table: count - before[table] for table, count in sizes().items() if count != before[table]}


def test_a_device_that_goes_to_and_fro_fills_no_table(device: Device) -> None:
    def alternate(times: int) -> None:
        for n in range(times):
            assert device.attributes(billing=("1.0", "2.0")[n % 2]).status_code == 200
            assert device.send("PUT", "/installedBase", {"name": "billing", "version": "2.0"}).status_code in {200, 201}

    alternate(30)
    before = sizes()
    alternate(30)
    assert grown(before) == {}
    assert InstalledVersion.objects.get(valid_to=None).label == "2.0"
    assert InstalledVersion.objects.count() <= 12
    assert Drift.objects.count() <= 12


def test_the_versions_that_a_rollout_brought_do_not_help_either(new: Version) -> None:
    """Each version is explained by a deployment, so it is no drift; it is no less often told."""
    (ci,) = make_fleet(1, new.product, "1.0", prefix="flap")
    make_version(new.product, "3.0")
    device = Device(ci)
    (deployment,) = queue(make_batch(), [ci], new)
    device.fetch(deployment)
    device.report(deployment, "closed", "success")
    device.attributes(billing="2.0")
    for n in range(60):
        device.attributes(billing=("3.0", "2.0")[n % 2])
    assert InstalledVersion.objects.filter(ci=ci).count() <= 14
    brought = InstalledVersion.objects.filter(ci=ci, source="ROL-0000001", changes=0)
    assert brought.count() == 1, "what the rollout brought stands for itself"


def test_the_same_again_a_hundred_times_is_kept_once(device: Device, deployment: Deployment) -> None:
    for _ in range(3):
        device.poll()
        device.fetch(deployment)
        device.attributes(billing="1.0")
    before = sizes()
    for _ in range(100):
        device.poll()
        device.fetch(deployment)
        device.get(f"/softwaremodules/{deployment.items.get().to_version_id}/artifacts")
        device.attributes(billing="1.0")
        device.send("PUT", "/installedBase", {"name": "billing", "version": "1.0"})
        device.get("/deploymentBase/999999")
        device.send("POST", "/cancelAction/999999/feedback", {})
    assert grown(before) == {}
