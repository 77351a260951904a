"""A cancellation that the device does not answer: closed by a person, or by the deadline."""

from datetime import timedelta

import pytest

from distribution import services
from distribution.models import Batch, Deployment
from distribution.steps import move_where
from tests.distribution.device_client import Device
from tests.distribution.fleet import history, state
from tests.factories import NOW
from tickets.exceptions import TransitionRefused

pytestmark = pytest.mark.django_db


def cancel(batch: Batch) -> None:
    services.cancel_open([batch.pk], now=NOW, reason="abort")


def test_the_device_is_asked_before_it_is_forced(device: Device, deployment: Deployment, batch: Batch) -> None:
    for step in ("fetch", "proceeding"):
        with pytest.raises(TransitionRefused, match="cancel it first"):
            services.force_quit(deployment, now=NOW, reason="no answer")
        if step == "fetch":
            device.fetch(deployment)
        else:
            device.report(deployment, step)
    cancel(batch)
    device.attributes({"serial": "7"}, mode="merge")

    assert services.force_quit(deployment, now=NOW, reason="no answer")
    assert not services.force_quit(deployment, now=NOW, reason="again")

    assert (deployment.state, deployment.reason, deployment.finished_at) == ("cancelled", "no answer", NOW)
    assert history(deployment)[-1] == ("engine", "cancelling", "cancelled")
    links = device.links()
    assert "cancelAction" not in links
    assert "configData" in links, "nobody knows how far it came"
    assert device.report(deployment, "closed", "success").status_code == 410
    assert device.answer(deployment, "closed", "success").status_code == 410


def test_the_deadline_closes_what_was_not_answered(device: Device, deployment: Deployment, batch: Batch) -> None:
    Batch.objects.filter(pk=batch.pk).update(cancel_deadline=60)
    device.fetch(deployment)
    move_where("d.id = %(id)s", {"id": deployment.pk}, to_state="cancelling", kind="engine", now=NOW)
    assert services.quit_cancellations([batch.pk], now=NOW + timedelta(seconds=59)) == 0
    assert services.pass_deadlines([batch.pk], now=NOW + timedelta(seconds=60)) == 1
    assert services.pass_deadlines([batch.pk], now=NOW + timedelta(seconds=61)) == 0
    assert state(deployment) == "cancelled"


def test_without_a_deadline_the_portal_waits_for_the_device(
    device: Device, deployment: Deployment, batch: Batch
) -> None:
    device.fetch(deployment)
    cancel(batch)
    assert services.quit_cancellations([batch.pk], now=NOW.replace(year=2040)) == 0
    assert state(deployment) == "cancelling"


def test_what_came_after_all_is_explained_and_not_drift(device: Device, deployment: Deployment, batch: Batch) -> None:
    device.attributes(billing="1.0")
    device.fetch(deployment)
    cancel(batch)
    services.force_quit(deployment, now=NOW, reason="no answer")
    device.attributes(billing="2.0")
    now = device.ci.installed_versions.get(valid_to=None)
    assert (now.label, now.source, now.is_drift) == ("2.0", "ROL-0000001", False)
