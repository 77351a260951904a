"""Two rollouts want one CI: the older one makes way, or the newer one waits; and nobody goes back by accident."""

import pytest

from cmdb.models import ConfigurationItem
from cmdb.services import record_installed
from distribution import services
from distribution.models import Batch, Deployment
from distribution.superseding import supersede_older, supersede_overtaken, waits_behind
from software.models import Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import history, make_batch, make_fleet, queue, state, stored_version
from tests.distribution.invariants import check_deployments
from tests.factories import NOW, make_product

pytestmark = pytest.mark.django_db


@pytest.fixture
def newest(new: Version) -> Version:
    return stored_version(new.product, "3.0")


@pytest.fixture
def later(ci: ConfigurationItem, newest: Version, deployment: Deployment) -> Deployment:
    """Billing 3.0 for the same CI, by a later rollout."""
    return queue(make_batch("ROL-0000002"), [ci], newest)[0]


def test_what_was_not_fetched_is_superseded_silently(device: Device, deployment: Deployment, later: Deployment) -> None:
    assert supersede_older(later.batch, now=NOW) == (1, 0)
    assert supersede_older(later.batch, now=NOW) == (0, 0)
    deployment.refresh_from_db()
    assert (deployment.state, deployment.reason) == ("superseded", "Superseded by ROL-0000002.")
    assert history(deployment)[-1] == ("engine", "queued", "superseded")
    assert f"/{later.pk}?" in device.links()["deploymentBase"]
    assert device.fetch(deployment).status_code == 404


@pytest.mark.parametrize("last", ["offered", "downloading"])
def test_what_was_fetched_is_stopped_first(
    device: Device, deployment: Deployment, later: Deployment, last: str
) -> None:
    device.fetch(deployment)
    if last == "downloading":
        device.report(deployment, "download")
    assert supersede_older(later.batch, now=NOW) == (0, 1)
    assert "cancelAction" in device.links()
    assert device.fetch(later).status_code == 404, "one at a time"
    assert device.answer(deployment, "closed", "success").status_code == 200
    assert device.fetch(later).status_code == 200
    check_deployments()


def test_what_is_being_installed_goes_on_and_the_new_one_waits_and_says_for_whom(
    device: Device, deployment: Deployment, later: Deployment
) -> None:
    device.fetch(deployment)
    device.report(deployment, "proceeding")
    assert supersede_older(later.batch, now=NOW) == (0, 0)
    assert waits_behind(later.batch, [deployment.batch_id]) == [("ROL-0000001", 1)]
    assert waits_behind(deployment.batch, [later.batch_id]) == []
    device.report(deployment, "closed", "success")
    device.attributes(billing="2.0")
    assert waits_behind(later.batch, [deployment.batch_id]) == []
    assert device.fetch(later).status_code == 200


def test_without_being_asked_a_new_rollout_waits_for_the_older_one(
    device: Device, deployment: Deployment, later: Deployment
) -> None:
    assert f"/{deployment.pk}?" in device.links()["deploymentBase"], "the older one first"
    assert device.fetch(later).status_code == 404, "not the one that the device would like better"


def test_an_older_rollout_never_follows_a_newer_one(
    device: Device, deployment: Deployment, later: Deployment, batch: Batch
) -> None:
    services.close_batch(batch)
    device.fetch(later)
    device.attributes(billing="3.0")
    assert state(later) == "succeeded"
    services.open_batch(batch, now=NOW)
    assert "deploymentBase" not in device.links()
    assert device.fetch(deployment).status_code == 404
    assert supersede_overtaken([batch.pk], now=NOW) == 1
    assert supersede_overtaken([batch.pk], now=NOW) == 0
    assert state(deployment) == "superseded"


def test_going_back_is_no_step_back_by_accident(
    device: Device, new: Version, newest: Version, ci: ConfigurationItem
) -> None:
    record_installed(ci, product=new.product, label="3.0", now=NOW)
    back = make_batch("ROL-0000003", purpose="rollback")
    (deployment,) = [Deployment.objects.create(batch=back, ci=ci, created_at=NOW, moved_at=NOW)]
    deployment.items.create(product=new.product, from_version=newest, to_version=new)
    assert supersede_overtaken([back.pk], now=NOW) == 0
    assert device.fetch(deployment).status_code == 200


def test_a_deployment_that_brings_something_else_too_is_not_superseded(
    ci: ConfigurationItem, new: Version, newest: Version
) -> None:
    shop = stored_version(make_product("shop"), "1.1")
    record_installed(ci, product=shop.product, label="1.0", now=NOW)
    (both,) = queue(make_batch(), [ci], new, shop)
    (alone,) = queue(make_batch("ROL-2"), [ci], newest)
    assert supersede_older(alone.batch, now=NOW) == (0, 0)
    (all_of_it,) = queue(make_batch("ROL-3"), [ci], newest, shop)
    assert supersede_older(all_of_it.batch, now=NOW) == (2, 0)
    assert (state(both), state(alone), state(all_of_it)) == ("superseded", "superseded", "queued")


def test_neither_other_cis_nor_newer_rollouts_nor_older_versions_are_touched(
    deployment: Deployment, later: Deployment, new: Version
) -> None:
    other = make_fleet(1, new.product, "1.0", prefix="other")
    (elsewhere,) = queue(make_batch("ROL-0000004"), other, new)
    assert supersede_older(deployment.batch, now=NOW) == (0, 0), "it is the older one"
    (again,) = queue(make_batch("ROL-0000005"), [later.ci], new)
    assert supersede_older(again.batch, now=NOW) == (1, 0), "2.0 makes way for 2.0, 3.0 does not"
    assert (state(deployment), state(later), state(elsewhere)) == ("superseded", "queued", "queued")
