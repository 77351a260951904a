"""Asking a device what it runs: with a button, with a verb, answered at its next poll."""

import pytest
from django.test import Client
from django.urls import reverse

from cmdb.models import ConfigurationItem
from cmdb.services import request_attributes
from tests.distribution.device_client import Device
from tests.factories import NOW, make_ci, make_user
from tickets.exceptions import PermissionRefused, TransitionRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def device() -> Device:
    """One that has said what it runs."""
    found = Device(make_ci("till-7", agent_id="till-7"))
    found.attributes({"serial": "1"})
    assert "configData" not in found.links()
    return found


def as_person(*roles: str) -> Client:
    client = Client()
    client.force_login(make_user(roles[0].replace(" ", "-"), *roles))
    return client


def test_the_button_asks_the_device_at_its_next_poll(device: Device) -> None:
    client, page = as_person("administrator"), reverse("ci_detail", args=[device.ci.number])
    address = reverse("ci_request_attributes", args=[device.ci.number])
    assert address in client.get(page).content.decode()
    assert client.post(address).status_code == 302
    assert address not in client.get(page).content.decode(), "it is asked already"
    assert "configData" in device.links()
    device.attributes({"serial": "2"})
    assert "configData" not in device.links()
    assert client.get(address).status_code == 405


def test_the_verb_asks_it_too(device: Device) -> None:
    client, address = as_person("administrator"), f"/api/v1/cis/{device.ci.number}/request_attributes/"

    def ask(who: Client) -> int:
        return who.post(address, content_type="application/json").status_code

    assert ask(client) == 200
    assert "configData" in device.links()
    assert ask(client) == 200, "a repetition is no change"
    assert ask(as_person("auditor")) == 403


def test_who_may_not_and_who_would_not_be_answered(device: Device) -> None:
    with pytest.raises(PermissionRefused):
        request_attributes(device.ci, actor=make_user("otto", "operator"), now=NOW)
    mute = make_ci("mute")
    pushed = make_ci("pushed", agent_id="pushed", channel=ConfigurationItem.Channel.ANSIBLE)
    for ci in (mute, pushed):
        with pytest.raises(TransitionRefused, match="nobody would answer"):
            request_attributes(ci, actor=None, now=NOW)
    assert as_person("auditor").post(reverse("ci_request_attributes", args=[device.ci.number])).status_code == 403
