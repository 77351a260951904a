"""The pages and the API by which people approve devices and issue gateway tokens."""

import pytest
from django.test import Client

from cmdb.models import CIClass, CIGroup, ConfigurationItem, GatewayToken, Registration
from cmdb.services import digest
from tests.factories import NOW, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def gateway() -> GatewayToken:
    kind = CIClass.objects.create(name="Till", slug="till")
    group = CIGroup.objects.create(name="plant")
    return GatewayToken.objects.create(name="plant 1", group=group, ci_class=kind, sha256="0" * 64, created_at=NOW)


@pytest.fixture
def device(gateway: GatewayToken) -> Registration:
    says = {"serial": "<b>8922</b>"}
    return Registration.objects.create(
        agent_id="till-7", gateway_token=gateway, attributes=says, first_seen_at=NOW, last_seen_at=NOW
    )


@pytest.fixture
def adam() -> Client:
    client = Client()
    client.force_login(make_user("adam", "administrator"))
    return client


def test_a_device_is_approved_on_its_page(adam: Client, device: Registration, gateway: GatewayToken) -> None:
    page = f"/cis/waiting/{device.number}/"
    assert page in adam.get("/cis/waiting/").content.decode()
    text = adam.get(page).content.decode()
    assert 'value="till-7"' in text, "proposed"
    assert "&lt;b&gt;8922&lt;/b&gt;" in text, "what a device says is never HTML"

    answer = adam.post(page, {"name": "Till 7", "ci_class": gateway.ci_class_id})

    ci = ConfigurationItem.objects.get(agent_id="till-7")
    assert answer["Location"] == f"/cis/{ci.number}/"
    assert (ci.name, gateway.group.contains(ci)) == ("Till 7", True)
    assert page not in adam.get("/cis/waiting/").content.decode()
    assert adam.get(page).status_code == 200
    assert adam.post(page, {"name": "Till 8", "ci_class": gateway.ci_class_id}).status_code == 409


def test_a_name_that_is_taken_is_told_at_its_field(adam: Client, device: Registration, gateway: GatewayToken) -> None:
    ConfigurationItem.objects.create(name="taken", ci_class=gateway.ci_class, created_at=NOW)
    answer = adam.post(f"/cis/waiting/{device.number}/", {"name": "taken", "ci_class": gateway.ci_class_id})
    assert answer.status_code == 400
    assert "has this name" in answer.content.decode()
    device.refresh_from_db()
    assert device.state == "waiting"


def test_a_device_is_rejected_and_taken_back(adam: Client, device: Registration) -> None:
    assert adam.post(f"/cis/waiting/{device.number}/reject/", {"reason": "not ours"}).status_code == 302
    device.refresh_from_db()
    assert (device.state, device.reason, device.decided_by.username) == ("rejected", "not ours", "adam")
    assert device.number in adam.get("/cis/waiting/?state=rejected").content.decode()
    assert "not ours" in adam.get(f"/cis/waiting/{device.number}/").content.decode()
    assert adam.post(f"/cis/waiting/{device.number}/reopen/").status_code == 302
    device.refresh_from_db()
    assert device.state == "waiting"


def test_a_gateway_token_is_shown_once_and_ended(adam: Client, gateway: GatewayToken) -> None:
    answer = adam.post("/cis/gateways/new/", {"name": "plant 2", "group": gateway.group_id, "may_register": "on"})
    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    made = GatewayToken.objects.get(name="plant 2")
    secret = answer.content.decode().split('value="')[-1].split('"')[0]
    assert digest(secret) == made.sha256
    assert secret not in adam.get("/cis/gateways/").content.decode()
    assert adam.post("/cis/gateways/new/", {"name": "plant 2", "group": gateway.group_id}).status_code == 400
    adam.post(f"/cis/gateways/{made.number}/end/")
    made.refresh_from_db()
    assert made.revoked_at is not None


def test_both_are_shut_to_others(device: Registration, gateway: GatewayToken) -> None:
    client = Client()
    client.force_login(make_user("desk", "service desk"))
    pages = ("/cis/waiting/", f"/cis/waiting/{device.number}/", "/cis/gateways/", "/cis/gateways/new/")
    assert [client.get(page).status_code for page in pages] == [403] * 4
    posts = (f"/cis/waiting/{device.number}/reject/", f"/cis/gateways/{gateway.number}/end/")
    assert [client.post(page).status_code for page in posts] == [403] * 2
    assert "/cis/waiting/" not in client.get("/cis/").content.decode()
