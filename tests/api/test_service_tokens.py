"""Service accounts come by token: for a while, for parts of the API, and never further than their roles."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import ServiceToken
from itsm_portal.service_tokens import issue_token, parts_of_the_api, revoke_token
from tests.factories import NOW, PASSWORD, make_ci, make_user
from tickets.clock import database_now
from tickets.exceptions import InvalidInput, PermissionRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def robot() -> Any:
    return make_user("robot", "service account", is_service_account=True, password=PASSWORD)


def client_with(robot: Any, *scopes: str) -> APIClient:
    _token, text = issue_token(actor=None, now=database_now(), user=robot, name="test", scopes=scopes, days=1)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["code"]


def test_a_scope_opens_its_part_and_no_other(robot) -> None:
    ci = make_ci()
    client = client_with(robot, "cis:read")
    assert client.get("/api/v1/cis/").json()["count"] == 1
    assert client.get(f"/api/v1/cis/{ci.number}/installed/").status_code == 200
    assert client.get("/api/v1/me/").json()["username"] == "robot"
    assert code(client.get("/api/v1/incidents/")) == (403, "out_of_scope")
    assert code(client.post("/api/v1/cis/", {"name": "x"})) == (403, "out_of_scope")
    assert code(client.get("/api/v1/ci-groups/")) == (403, "out_of_scope")


def test_writing_includes_reading_and_a_star_means_every_part(robot) -> None:
    writer = client_with(robot, "incidents:write")
    assert writer.post("/api/v1/incidents/", {"title": "It stopped"}).status_code == 201
    assert writer.get("/api/v1/incidents/").json()["count"] == 1
    reader = client_with(robot, "*:read")
    assert reader.get("/api/v1/incidents/").json()["count"] == 1
    assert code(reader.post("/api/v1/incidents/", {"title": "It stopped"})) == (403, "out_of_scope")


def test_a_service_account_issues_no_tokens_whatever_its_rights(robot) -> None:
    """Otherwise the scopes of its own token would mean nothing."""
    robot.user_permissions.add(Permission.objects.get(codename="manage_service_tokens"))
    client = client_with(robot, "service-tokens:write")
    wider = {"user": "robot", "name": "wider", "scopes": ["*:write"]}
    assert code(client.post("/api/v1/service-tokens/", wider)) == (403, "permission_refused")
    assert ServiceToken.objects.count() == 1


def test_a_scope_gives_no_right_that_the_account_lacks(robot) -> None:
    client = client_with(robot, "*:write")
    assert code(client.post("/api/v1/cis/", {"name": "x", "ci_class": "server"})) == (403, "permission_refused")
    assert code(client.post("/api/v1/service-tokens/", {"user": "robot"})) == (403, "permission_refused")


def test_a_token_ends(robot) -> None:
    client = client_with(robot, "cis:read")
    ServiceToken.objects.update(expires_at=database_now() - timedelta(seconds=1))
    assert client.get("/api/v1/cis/").status_code == 401
    client = client_with(robot, "cis:read")
    revoke_token(ServiceToken.objects.first(), actor=None, now=database_now())
    assert client.get("/api/v1/cis/").status_code == 401
    client = client_with(robot, "cis:read")
    robot.is_active = False
    robot.save()
    assert client.get("/api/v1/cis/").status_code == 401


@pytest.mark.parametrize("header", ["Bearer", "Bearer x", "Bearer x y", "Bearer " + "x" * 500, "Bearer ÿ"])
def test_a_wrong_token_is_refused(header: str) -> None:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=header)
    assert client.get("/api/v1/me/").status_code == 401


def test_service_accounts_do_not_log_in(robot) -> None:
    person = make_user("anna", "requester", password=PASSWORD)
    for user, status in ((robot, 401), (person, 200)):
        found = APIClient(REMOTE_ADDR="2001:db8::77").post(
            "/api/v1/login/", {"username": user.username, "password": PASSWORD}
        )
        assert found.status_code == status
    page = Client().post("/accounts/login/", {"login": "robot", "password": PASSWORD})
    assert page.status_code == 200
    assert "_auth_user_id" not in Client().session


def test_its_text_is_shown_once_and_kept_as_a_digest(robot) -> None:
    client = APIClient()
    client.force_authenticate(make_user("adam", "administrator"))
    body = {"user": "robot", "name": "CI", "scopes": ["deploy:write"], "days": 30}
    issued = client.post("/api/v1/service-tokens/", body, headers={"Idempotency-Key": "one"})
    assert issued.status_code == 201
    token = ServiceToken.objects.get()
    assert issued.json()["token"] not in f"{token.__dict__}"
    assert "token" not in client.get(f"/api/v1/service-tokens/{token.pk}/").json()
    again = client.post("/api/v1/service-tokens/", body, headers={"Idempotency-Key": "one"})
    assert code(again) == (409, "shown_once")
    assert client.post(f"/api/v1/service-tokens/{token.pk}/revoke/").json()["revoked_at"]
    client.force_authenticate(make_user("otto", "release engineer"))
    assert client.get("/api/v1/service-tokens/").json()["count"] == 0
    assert client.post("/api/v1/service-tokens/", body).status_code == 403


def test_the_page_issues_and_revokes(robot) -> None:
    client = Client()
    client.force_login(make_user("adam", "administrator"))
    typed = {"user": robot.pk, "name": "CI", "scopes": "cis:read, deploy:write", "days": 30}
    page = client.post("/service-tokens/", typed)
    assert "It is shown only now" in page.content.decode()
    assert page["Cache-Control"] == "no-store"
    token = ServiceToken.objects.get()
    assert token.scopes == ["cis:read", "deploy:write"]
    assert client.post("/service-tokens/", {**typed, "scopes": "everything"}).status_code == 400
    client.post("/service-tokens/", {"revoke": token.pk})
    assert ServiceToken.objects.get().revoked_at is not None
    client.force_login(make_user("otto", "release engineer"))
    assert client.get("/service-tokens/").status_code == 403


@pytest.mark.parametrize(
    "values", [{"scopes": []}, {"scopes": ["cis"]}, {"scopes": ["nothing:read"]}, {"days": 0}, {"days": 999}]
)
def test_a_token_without_bounds_is_refused(robot, values: dict[str, Any]) -> None:
    given = {"user": robot, "name": "x", "scopes": ["cis:read"], "days": 1, **values}
    with pytest.raises(InvalidInput):
        issue_token(actor=None, now=NOW, **given)


def test_people_get_none_and_issuing_needs_the_right(robot) -> None:
    anna = make_user("anna", "requester")
    given = {"now": NOW, "name": "x", "scopes": ["cis:read"], "days": 1}
    with pytest.raises(InvalidInput):
        issue_token(actor=None, user=anna, **given)
    with pytest.raises(PermissionRefused):
        issue_token(actor=anna, user=robot, **given)


def test_every_part_of_the_api_has_its_scope() -> None:
    assert {"cis", "ci-groups", "deploy", "releases", "versions", "standard-changes", "*"} <= parts_of_the_api()
