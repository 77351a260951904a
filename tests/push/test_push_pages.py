"""The connection on a CI's page and in the API, and the logs of runs for those who may read them."""

import pytest
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from cmdb.credentials import set_secret
from cmdb.models import ConfigurationItem, Connection, Credential
from distribution.channels.ansible.models import PushTarget
from software.models import Version
from tests.distribution.fleet import make_batch, queue
from tests.factories import NOW, make_ci, make_user
from tests.push.conftest import MakeHost, claimed

pytestmark = pytest.mark.django_db
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4nFmJvdhgk1eSGoKp6UxyPnZVnTlbkBFPB4L0xWvqz"
SSH = {
    "kind": "ssh", "address": "shop.example.org", "port": 22, "user": "install", "host_key": KEY,
    "folder": "/srv/shop", "python": "/usr/bin/python3",
}  # fmt: skip


@pytest.fixture
def credential() -> Credential:
    made = Credential(name="shops", kind=Credential.Kind.PASSWORD)
    set_secret(made, secret="open sesame", actor=None, now=NOW)
    return made


def browser(*roles: str) -> Client:
    client = Client()
    client.force_login(make_user(roles[0].replace(" ", "-"), *roles))
    return client


def test_an_administrator_connects_a_host_and_leaves_it_again(credential: Credential):
    ci, client = make_ci("shop-1"), browser("administrator")
    page = reverse("ci_connection", args=[ci.number])
    answer = client.post(page, {**SSH, "credential": credential.pk, "host_key": "AAAA"})
    assert "This is no public host key" in answer.content.decode()
    answer = client.post(page, {**SSH, "credential": credential.pk})
    assert answer.status_code == 302, answer.content.decode()
    ci.refresh_from_db()
    assert ci.channel == ConfigurationItem.Channel.ANSIBLE
    text = client.get(reverse("ci_detail", args=[ci.number])).content.decode()
    assert "install@shop.example.org:22" in text
    assert "software is pushed to it" in text
    assert "open sesame" not in client.get(page).content.decode()

    client.post(reverse("ci_disconnect", args=[ci.number]))
    ci.refresh_from_db()
    assert ci.channel == ConfigurationItem.Channel.DDI
    assert Connection.objects.filter(ci=ci).exists(), "kept for another time"


def test_others_see_no_connection(credential: Credential):
    ci = make_ci("shop-1")
    client = browser("operator")
    assert client.get(reverse("ci_connection", args=[ci.number])).status_code == 403
    assert client.post(reverse("ci_disconnect", args=[ci.number])).status_code == 403
    assert "Connection" not in client.get(reverse("ci_detail", args=[ci.number])).content.decode()


def test_the_api_connects_and_shows_everything_but_the_secret(credential: Credential):
    ci, client = make_ci("shop-1"), APIClient()
    client.force_authenticate(make_user("adam", "administrator"))
    assert client.get(f"/api/v1/connections/{ci.number}/").json()["connection"] is None
    answer = client.post(f"/api/v1/connections/{ci.number}/connect/", {**SSH, "credential": "shops"})
    assert answer.status_code == 200, answer.content
    assert answer.json()["channel"] == "ansible"
    assert answer.json()["connection"] == {**SSH, "credential": "shops"}
    assert client.post(f"/api/v1/connections/{ci.number}/disconnect/").json()["channel"] == "ddi"
    refused = client.post(f"/api/v1/connections/{ci.number}/connect/", {**SSH, "folder": "no/path"})
    assert refused.status_code == 400


@pytest.mark.django_db(transaction=True)
def test_operators_read_what_the_host_said(make_host: MakeHost, new: Version):
    ci = make_host("shop-1")
    (deployment,) = queue(make_batch(), [ci], new)
    run = claimed()
    PushTarget.objects.update(log="Switch: failed – <b>no</b> room\n")
    page = reverse("ci_push_log", args=[ci.number, deployment.pk])
    operator, otto = browser("operator"), APIClient()
    assert "&lt;b&gt;no&lt;/b&gt; room" in operator.get(page).content.decode()
    assert page in operator.get(reverse("ci_detail", args=[ci.number])).content.decode()
    assert browser("service desk").get(page).status_code == 403
    otto.force_authenticate(make_user("otto", "operator"))
    (row,) = otto.get(f"/api/v1/deployments/{deployment.pk}/push-log/").json()["results"]
    assert (row["run"], row["kind"], "no</b> room" in row["log"]) == (run.pk, "install", True)
    otto.force_authenticate(make_user("desk", "service desk"))
    assert otto.get(f"/api/v1/deployments/{deployment.pk}/push-log/").status_code == 403
