"""One deployment from the queue to the proof, as a device lives it; and every other way it can end."""

import pytest

from cmdb.models import AgentProfile, ConfigurationItem, InstalledVersion
from distribution import services
from distribution.models import Batch, Deployment
from software.models import Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import history, make_batch, make_fleet, queue, state, stored_version
from tests.factories import NOW, make_product

pytestmark = pytest.mark.django_db


def running(ci: ConfigurationItem) -> InstalledVersion:
    return InstalledVersion.objects.get(ci=ci, valid_to=None)


def test_the_whole_way(device: Device, deployment: Deployment, new: Version, ci: ConfigurationItem) -> None:
    href = device.links()["deploymentBase"]
    assert href.startswith(f"http://testserver{device.base}/deploymentBase/{deployment.pk}?c=")
    assert state(deployment) == "queued", "a poll offers nothing"

    body = device.fetch(deployment).json()
    (chunk,) = body["deployment"]["chunks"]
    artifact = new.artifacts.get()
    assert (body["id"], body["deployment"]["download"], body["deployment"]["update"]) == (
        str(deployment.pk),
        "forced",
        "forced",
    )
    assert (chunk["part"], chunk["version"]) == ("billing", "2.0")
    assert chunk["artifacts"][0]["size"] == artifact.size
    assert chunk["artifacts"][0]["hashes"]["sha256"] == artifact.sha256
    assert state(deployment) == "offered"

    for execution, expected in (
        ("download", "downloading"),
        ("downloaded", "installing"),
        ("proceeding", "installing"),
    ):
        assert device.report(deployment, execution).status_code == 200
        assert state(deployment) == expected
    assert device.report(deployment, "closed", "success", "installed").status_code == 200
    assert state(deployment) == "confirming"
    links = device.links()
    assert "deploymentBase" not in links
    assert "configData" in links
    assert running(ci).label == "1.0", "said is not proven"

    assert device.attributes(billing="2.0").status_code == 200
    assert state(deployment) == "succeeded"
    assert (running(ci).label, running(ci).source, running(ci).is_drift) == ("2.0", "ROL-0000001", False)
    assert running(ci).replaced.label == "1.0"
    assert history(deployment) == [
        ("created", "", "queued"),
        ("offered", "queued", "offered"),
        ("report", "offered", "downloading"),
        ("report", "downloading", "installing"),
        ("report", "installing", "installing"),
        ("report", "installing", "confirming"),
        ("attributes", "confirming", "succeeded"),
    ]
    links = device.links()
    assert "configData" not in links
    assert links["installedBase"].endswith(f"/installedBase/{deployment.pk}")
    assert device.get(f"/installedBase/{deployment.pk}").json()["id"] == str(deployment.pk)


def test_an_agent_whose_close_is_the_proof(device: Device, deployment: Deployment, ci: ConfigurationItem) -> None:
    ci.agent_profile = AgentProfile.objects.create(name="swupdate", proof="closed")
    ci.save()
    device.fetch(deployment)
    assert device.report(deployment, "closed", "success").status_code == 200
    assert state(deployment) == "succeeded"
    assert (running(ci).label, running(ci).source) == ("2.0", "ROL-0000001")


def test_a_failure_keeps_its_code_and_asks_what_runs(device: Device, deployment: Deployment) -> None:
    device.attributes(billing="1.0")
    device.fetch(deployment)
    text = ["health_check_failed: exit code 1", "went back to 1.0"]
    assert device.report(deployment, "closed", "failure", *text).status_code == 200

    deployment.refresh_from_db()
    assert (deployment.state, deployment.error_code, deployment.message) == (
        "failed",
        "health_check_failed",
        "exit code 1",
    )
    assert "configData" in device.links()
    device.attributes(billing="1.0")
    assert history(deployment)[-1] == ("report", "offered", "failed")


def test_a_failure_without_a_code(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    device.report(deployment, "closed", "failure", "Update Failed.")
    deployment.refresh_from_db()
    assert (deployment.state, deployment.error_code, deployment.message) == ("failed", "", "Update Failed.")


def test_a_device_that_said_success_but_runs_the_old_version_has_failed(
    device: Device, deployment: Deployment, ci: ConfigurationItem
) -> None:
    device.fetch(deployment)
    device.report(deployment, "closed", "success")
    device.attributes(billing="1.0")

    deployment.refresh_from_db()
    assert (deployment.state, deployment.error_code) == ("failed", "reverted")
    assert "billing 1.0" in deployment.message
    assert (running(ci).label, running(ci).is_drift) == ("1.0", False)


def test_attributes_that_say_nothing_about_the_product_prove_nothing(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    device.report(deployment, "closed", "success")
    device.attributes({"serial": "8922"}, mode="merge")
    assert state(deployment) == "confirming"


@pytest.mark.parametrize("last", ["offered", "downloading", "installing", "cancelling"])
def test_a_final_report_that_never_came_is_replaced_by_the_attributes(
    device: Device, deployment: Deployment, batch: Batch, last: str, ci: ConfigurationItem
) -> None:
    device.fetch(deployment)
    if last != "offered":
        device.report(deployment, "download" if last == "downloading" else "proceeding")
    if last == "cancelling":
        services.cancel_open([batch.pk], now=NOW, reason="abort")
    assert state(deployment) == last

    device.attributes(billing="2.0")

    assert state(deployment) == "succeeded"
    assert running(ci).source == "ROL-0000001"
    assert device.report(deployment, "closed", "success").status_code == 410


def test_a_waiting_deployment_is_not_ended_by_attributes_but_skipped_when_fetched(
    device: Device, deployment: Deployment
) -> None:
    device.attributes(billing="2.0")
    assert state(deployment) == "queued"
    assert device.fetch(deployment).status_code == 404
    assert state(deployment) == "skipped"
    assert "deploymentBase" not in device.links()


def test_a_waiting_and_overdue_deployment_is_ended_by_attributes(device: Device, deployment: Deployment) -> None:
    Deployment.objects.filter(pk=deployment.pk).update(overdue_at=NOW)
    device.attributes(billing="2.0")
    assert state(deployment) == "succeeded"
    assert history(deployment)[-1] == ("attributes", "queued", "succeeded")


def test_reports_out_of_order_never_move_it_back(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    device.report(deployment, "downloaded")
    for late in ("download", "scheduled", "resumed", "canceled", "rejected", "download"):
        assert device.report(deployment, late, "none", late).status_code == 200
        assert state(deployment) == "installing"
    device.fetch(deployment)
    assert state(deployment) == "installing", "fetching again resets nothing"


def test_a_repetition_is_an_event_marked_as_duplicate(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    for _ in range(3):
        assert device.report(deployment, "proceeding", "none", "40 %").status_code == 200
    device.report(deployment, "proceeding", "none", "50 %")
    marks = deployment.events.filter(kind="report").order_by("id").values_list("is_duplicate", flat=True)
    assert list(marks) == [False, True, True, False]
    deployment.refresh_from_db()
    assert (deployment.reports, deployment.message) == (4, "50 %")


def test_a_product_is_removed_by_going_back_to_nothing(device: Device, ci: ConfigurationItem, new: Version) -> None:
    device.attributes({"version.billing": "2.0", "serial": "7"})
    back = make_batch("ROL-0000002", purpose="rollback")
    deployment = Deployment.objects.create(batch=back, ci=ci, created_at=NOW, moved_at=NOW)
    deployment.items.create(product=new.product, from_version=new)

    (chunk,) = device.fetch(deployment).json()["deployment"]["chunks"]
    assert (chunk["part"], chunk["artifacts"], chunk["metadata"]) == (
        "billing",
        [],
        [{"key": "action", "value": "remove"}],
    )
    device.report(deployment, "closed", "success")
    device.attributes({"serial": "8"}, mode="merge")
    assert state(deployment) == "confirming", "what was not said proves nothing"
    device.attributes({"serial": "8"}, mode="replace")
    assert state(deployment) == "succeeded"
    assert not InstalledVersion.objects.filter(ci=ci, valid_to=None).exists()


def test_a_removal_is_not_proven_by_a_message_that_does_not_speak_of_it(
    device: Device, ci: ConfigurationItem, new: Version, deployment: Deployment
) -> None:
    shop = make_product("shop")
    deployment.items.create(product=shop, from_version=stored_version(shop, "1.0"), position=2)
    device.fetch(deployment)
    device.report(deployment, "closed", "success")
    device.attributes({"version.billing": "2.0"}, mode="merge")
    assert state(deployment) == "confirming"
    device.attributes({"version.billing": "2.0", "version.shop": None}, mode="merge")
    assert state(deployment) == "succeeded"


def test_all_items_have_to_match(device: Device, ci: ConfigurationItem, new: Version, batch: Batch) -> None:
    shop = make_product("shop")
    stored_version(shop, "1.0")
    shop_new = stored_version(shop, "1.1")
    device.attributes(billing="1.0", shop="1.0")
    (deployment,) = queue(batch, [ci], new, shop_new)
    assert len(device.fetch(deployment).json()["deployment"]["chunks"]) == 2

    device.attributes(billing="2.0", shop="1.0")
    assert state(deployment) == "offered"
    device.report(deployment, "closed", "success")
    device.attributes({"version.shop": "1.1"}, mode="merge")
    assert state(deployment) == "succeeded"


def test_an_attribute_of_another_name(device: Device, ci: ConfigurationItem, deployment: Deployment) -> None:
    ci.agent_profile = AgentProfile.objects.create(name="plain", attribute_key="sw_version")
    ci.save()
    device.fetch(deployment)
    device.report(deployment, "closed", "success")
    device.attributes({"sw_version": "2.0"})
    assert state(deployment) == "succeeded"


def test_the_first_look_is_no_drift_and_a_change_by_somebody_else_is(device: Device, ci: ConfigurationItem) -> None:
    make_product("shop")
    device.attributes(billing="1.0", shop="7 hand-made")
    first = InstalledVersion.objects.get(ci=ci, product__slug="shop")
    assert (first.is_drift, first.source, first.version) == (False, "", None)

    device.attributes(billing="0.9", shop="7 hand-made")
    drifted = InstalledVersion.objects.get(ci=ci, product__slug="billing", valid_to=None)
    assert (drifted.label, drifted.is_drift, drifted.replaced.label) == ("0.9", True, "1.0")
    device.attributes(billing="0.9", shop="7 hand-made")
    assert InstalledVersion.objects.filter(ci=ci).count() == 3, "the same again writes nothing"


def test_a_ci_that_somebody_changed_since_it_was_queued_is_held(
    device: Device, deployment: Deployment, ci: ConfigurationItem
) -> None:
    device.attributes(billing="0.9")
    assert "deploymentBase" not in device.links()
    assert device.fetch(deployment).status_code == 404
    device.attributes(billing="1.0")
    assert "deploymentBase" in device.links()


def test_the_way_back_is_taken_again_when_it_is_offered(device: Device, ci: ConfigurationItem, new: Version) -> None:
    between = stored_version(new.product, "1.5")
    first, second = make_batch("ROL-0000001", weight=900), make_batch("ROL-0000002")
    (one,), (two,) = queue(first, [ci], between), queue(second, [ci], new)
    assert two.items.get().from_version.label == "1.0"
    device.fetch(one)
    assert device.fetch(two).status_code == 404, "one at a time"
    device.report(one, "closed", "success")
    assert "deploymentBase" not in device.links(), "the first one is not confirmed"
    device.attributes(billing="1.5")
    assert f"/{two.pk}?" in device.links()["deploymentBase"]
    assert device.fetch(two).status_code == 200
    assert two.items.get().from_version.label == "1.5"


def test_a_withdrawn_version_is_not_offered_and_not_sent(
    device: Device, deployment: Deployment, new: Version, batch: Batch, ci: ConfigurationItem
) -> None:
    Version.objects.filter(pk=new.pk).update(state="withdrawn")
    assert "deploymentBase" not in device.links()
    assert device.fetch(deployment).status_code == 404
    Version.objects.filter(pk=new.pk).update(state="ready")
    device.fetch(deployment)
    Version.objects.filter(pk=new.pk).update(state="withdrawn")
    path = f"/softwaremodules/{new.pk}/artifacts/billing-2.0.tar.gz"
    assert device.get(path).status_code == 410


def test_a_closed_batch_offers_nothing_and_lets_go_on_what_began(
    device: Device, deployment: Deployment, batch: Batch
) -> None:
    services.close_batch(batch)
    assert "deploymentBase" not in device.links()
    assert device.fetch(deployment).status_code == 404
    services.open_batch(batch, now=NOW)
    assert device.fetch(deployment).status_code == 200
    services.close_batch(batch)
    assert "deploymentBase" in device.links()
    assert device.fetch(deployment).status_code == 200
    assert device.report(deployment, "closed", "success").status_code == 200


def test_a_retired_ci_gets_nothing(device: Device, deployment: Deployment, ci: ConfigurationItem) -> None:
    ConfigurationItem.objects.filter(pk=ci.pk).update(lifecycle="retired")
    assert "deploymentBase" not in device.links()
    assert device.fetch(deployment).status_code == 404


def test_a_full_cap_hides_the_link(new: Version) -> None:
    cis = make_fleet(3, new.product, "1.0", prefix="srv")
    batch = make_batch(max_in_flight=1)
    first, second, third = queue(batch, cis, new)
    one, two, _ = [Device(ci) for ci in cis]
    assert one.fetch(first).status_code == 200
    assert "deploymentBase" not in two.links()
    assert two.fetch(second).status_code == 404
    one.report(first, "closed", "failure", "no_space: 0 bytes")
    assert "deploymentBase" in two.links()
    assert two.fetch(second).status_code == 200
    assert state(third) == "queued"


def test_a_dead_device_does_not_hold_its_place_under_the_cap(new: Version) -> None:
    cis = make_fleet(2, new.product, "1.0", prefix="srv")
    first, second = queue(make_batch(max_in_flight=1), cis, new)
    one, two = [Device(ci) for ci in cis]
    one.fetch(first)
    Deployment.objects.filter(pk=first.pk).update(overdue_at=NOW)
    assert two.fetch(second).status_code == 200


def test_of_several_the_heavier_and_then_the_older_comes_first(new: Version, ci: ConfigurationItem) -> None:
    device = Device(ci)
    light, heavy, heavy_too = (make_batch(f"ROL-{i}", weight=weight) for i, weight in enumerate((100, 500, 500)))
    for batch in (light, heavy, heavy_too):
        queue(batch, [ci], new)
    expected = heavy.deployments.get()
    assert f"/deploymentBase/{expected.pk}?" in device.links()["deploymentBase"]
    services.close_batch(heavy)
    expected = heavy_too.deployments.get()
    assert f"/deploymentBase/{expected.pk}?" in device.links()["deploymentBase"]
