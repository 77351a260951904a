"""A device's token leaves the portal in one answer only: the one of its issue."""

import hashlib

import pytest
from django.urls import reverse

from cmdb.models import AgentToken
from tests.api.world import make_objects, routes
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def test_the_token_is_shown_once_and_its_digest_never(as_user, client):
    boss = make_user("boss", is_superuser=True, is_staff=True)
    objects = make_objects("own", boss, make_user("author"))
    api = as_user(boss)
    issued = api.post(f"/api/v1/cis/{objects.keys['cis']}/issue_token/")
    assert issued.status_code == 201
    token = issued.json()["token"]
    row = AgentToken.objects.get(sha256=hashlib.sha256(token.encode()).hexdigest())
    secrets = {token, *AgentToken.objects.values_list("sha256", flat=True)}

    pages = [
        api.get("/api/v1/" + path.replace("<str:number>", str(objects.keys.get(path.split("/")[0]))))
        for method, path in routes()
        if method == "GET" and "download" not in path
    ]
    client.force_login(boss)
    pages += [
        client.get(reverse("admin:cmdb_agenttoken_changelist")),
        client.get(reverse("admin:cmdb_agenttoken_change", args=[row.pk])),
        client.get(reverse("admin:cmdb_configurationitem_change", args=[objects.keys["cis"]])),
        client.get(reverse("admin:cmdb_agenttokenhistory_changelist")),
    ]
    for page in pages:
        text = b"".join(page).decode()
        assert not [secret for secret in secrets if secret in text], page.request["PATH_INFO"]


def test_a_token_of_another_ci_is_not_revoked_here(as_user):
    boss = as_user(make_user("boss", "administrator"))
    own = make_objects("own", make_user("one"), make_user("author"))
    other = make_objects("other", make_user("two"), make_user("author2"))
    token = AgentToken.objects.get(ci=other.keys["cis"])
    path = "/api/v1/cis/{}/revoke_token/"
    assert boss.post(path.format(own.keys["cis"]), {"token": token.pk}).status_code == 400
    assert boss.post(path.format(other.keys["cis"]), {"token": token.pk}).status_code == 200
    assert AgentToken.objects.get(pk=token.pk).revoked_at is not None
