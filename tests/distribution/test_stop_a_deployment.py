"""One person cancels one deployment; without its device only after it was asked."""

from typing import Any

import pytest
from django.test import Client

from distribution import stopping
from distribution.models import Deployment, DeploymentEvent, DeploymentItem
from distribution.services import create_batch
from tests.factories import NOW, make_ci, make_user, make_version
from tickets.exceptions import InvalidInput, PermissionRefused, TransitionRefused

pytestmark = pytest.mark.django_db


def deployment_in(state: str) -> Deployment:
    version = make_version()
    batch = create_batch(label="ROL-0000001", purpose="forward", now=NOW)
    made = Deployment.objects.create(
        batch=batch, ci=make_ci("srv-1", agent_id="srv-1"), state=state, created_at=NOW, moved_at=NOW,
        finished_at=NOW if state in {"succeeded", "failed", "cancelled"} else None,
    )  # fmt: skip
    DeploymentItem.objects.create(deployment=made, product=version.product, to_version=version)
    return made


def stop(deployment: Deployment, verb: str, actor: Any = None, reason: str = "The plant is busy.") -> None:
    getattr(stopping, f"{verb}_deployment")(deployment, actor=actor, now=NOW, reason=reason)


@pytest.mark.parametrize(
    ("state", "after"),
    [("queued", "cancelled"), ("offered", "cancelling"), ("downloading", "cancelling"), ("installing", "cancelling")],
)
def test_what_waits_is_cancelled_and_a_device_is_asked(state: str, after: str) -> None:
    deployment, olga = deployment_in(state), make_user("olga", "operator")
    for _ in range(2):
        stop(deployment, "cancel", olga)
    assert deployment.state == after
    event = DeploymentEvent.objects.get(deployment=deployment)
    assert (event.from_state, event.to_state, event.details) == (state, after, ["olga: The plant is busy."])
    assert deployment.state_before_cancel == ("" if state == "queued" else state)


@pytest.mark.parametrize("state", ["confirming", "succeeded", "failed"])
def test_what_the_device_has_closed_is_not_cancelled(state: str) -> None:
    deployment = deployment_in(state)
    with pytest.raises(TransitionRefused):
        stop(deployment, "cancel")
    assert deployment.state == state


@pytest.mark.parametrize("state", ["queued", "offered", "installing", "confirming", "failed"])
def test_nothing_is_forced_before_its_device_was_asked(state: str) -> None:
    deployment = deployment_in(state)
    with pytest.raises(TransitionRefused):
        stop(deployment, "force_quit")
    assert deployment.state == state


def test_a_silent_device_is_given_up() -> None:
    deployment = deployment_in("installing")
    stop(deployment, "cancel")
    for _ in range(2):
        stop(deployment, "force_quit")
    assert deployment.state == "cancelled"
    assert DeploymentEvent.objects.filter(deployment=deployment).count() == 2


def test_it_needs_a_right_and_a_reason() -> None:
    deployment = deployment_in("queued")
    for verb in ("cancel", "force_quit"):
        with pytest.raises(PermissionRefused):
            stop(deployment, verb, make_user(f"erik-{verb}", "release engineer"))
        with pytest.raises(InvalidInput):
            stop(deployment, verb, reason=" ")


def test_the_page_of_the_ci_has_the_buttons() -> None:
    deployment = deployment_in("offered")
    client = Client()
    client.force_login(make_user("olga", "operator"))
    page = f"/cis/{deployment.ci.number}/"
    assert "Cancel" in client.get(page).content.decode()
    answer = client.post(f"/deployments/{deployment.pk}/stop/", {"verb": "cancel", "reason": "Busy."})
    assert answer["Location"] == page
    assert "Close without the device" in client.get(page).content.decode()
    client.post(f"/deployments/{deployment.pk}/stop/", {"verb": "force_quit", "reason": "It is gone."})
    assert Deployment.objects.get().state == "cancelled"
    assert client.post(f"/deployments/{deployment.pk}/stop/", {"verb": "delete", "reason": "x"}).status_code == 404
