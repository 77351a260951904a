"""What a device says it runs, however it came there; and what foreign agents leave out of their full lists."""

import importlib
from typing import Any

import pytest
from django.apps import apps

from cmdb.models import AgentProfile, ConfigurationItem, InstalledVersion
from distribution.models import Deployment
from software.models import Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import state, stored_version
from tests.factories import make_product

pytestmark = pytest.mark.django_db


def profile(name: str) -> AgentProfile:
    """A profile as the migrations bring it; tests with real transactions empty the tables."""
    importlib.import_module("cmdb.migrations.0006_seed_agent_profiles").seed(apps, None)
    return AgentProfile.objects.get(name=name)


def declare(device: Device, name: Any, version: Any) -> Any:
    return device.send("PUT", "/installedBase", {"name": name, "version": version})


def running(ci: ConfigurationItem, product: str = "billing") -> InstalledVersion:
    return InstalledVersion.objects.get(ci=ci, product__slug=product, valid_to=None)


def test_a_declaration_changes_the_record_once(device: Device, ci: ConfigurationItem, new: Version) -> None:
    assert declare(device, "billing", "2.0").status_code == 201
    assert (running(ci).label, running(ci).version, running(ci).is_drift) == ("2.0", new, True)
    assert declare(device, "billing", "2.0").status_code == 200
    assert "configData" in device.links(), "the attributes are still wanted"


def test_a_factory_image_is_no_drift(device: Device, ci: ConfigurationItem) -> None:
    stored_version(make_product("shop"), "7")
    assert declare(device, "shop", "7").status_code == 201
    assert not running(ci, "shop").is_drift


def test_an_offline_update_ends_the_deployment_that_was_to_bring_it(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    assert declare(device, "billing", "2.0").status_code == 201
    assert state(deployment) == "succeeded"
    assert running(device.ci).source == "ROL-0000001"


def test_an_attribute_of_the_same_version_is_kept_in_step(device: Device, ci: ConfigurationItem) -> None:
    device.attributes(billing="1.0")
    assert declare(device, "billing", "2.0").status_code == 201
    ci.refresh_from_db()
    assert ci.attributes == {"version.billing": "2.0"}
    device.attributes({"serial": "7"}, mode="merge")
    assert running(ci).label == "2.0"


@pytest.mark.parametrize(
    ("name", "version", "status"),
    [
        ("billing", "9.9", 404), ("nobody", "1.0", 404), ("Billing", "2.0", 404), ("bill\x00ing", "2.0", 201),
        ("\ud800", "2.0", 404), ("billing", None, 400), (None, "2.0", 400), ({}, [], 400), (1, 2, 400),
        ("x" * 9000, "2.0", 404),
    ],
)  # fmt: skip
def test_what_the_library_does_not_have_is_not_declared(device: Device, name: Any, version: Any, status: int) -> None:
    assert declare(device, name, version).status_code == status


def test_declaring_is_put_only_and_json_only(device: Device) -> None:
    assert device.send("POST", "/installedBase", {"name": "billing", "version": "2.0"}).status_code == 405
    assert device.send("PUT", "/installedBase", "x", content_type="text/plain").status_code == 415


@pytest.mark.parametrize("name", ["SWUpdate", "RAUC hawkBit updater", "Generic DDI agent"])
def test_a_full_list_of_an_agent_that_names_no_versions_removes_nothing(
    device: Device, ci: ConfigurationItem, name: str
) -> None:
    ConfigurationItem.objects.filter(pk=ci.pk).update(agent_profile=profile(name))
    assert device.attributes({"serial": "8922673153"}, mode="replace").status_code == 200
    assert running(ci).label == "1.0"


def test_a_full_list_of_the_portals_agent_removes_what_it_does_not_name(device: Device, ci: ConfigurationItem) -> None:
    ConfigurationItem.objects.filter(pk=ci.pk).update(agent_profile=profile("Portal agent"))
    device.attributes(billing="1.0")
    device.attributes({"serial": "8922673153"}, mode="replace")
    assert not InstalledVersion.objects.filter(ci=ci, valid_to=None).exists()


def test_the_seeded_profiles_stay_as_they_were_edited() -> None:
    edited = profile("SWUpdate")
    assert (edited.proof, edited.takes, edited.can_wait, edited.can_remove) == ("closed", "swu", False, False)
    AgentProfile.objects.filter(pk=edited.pk).update(can_wait=True)
    assert profile("SWUpdate").can_wait
