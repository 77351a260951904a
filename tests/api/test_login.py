"""Tokens: for user name and password, for a while, and counted against guessing."""

import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.test import APIClient

from incidents.models import Incident
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db
LOGIN = "/api/v1/login/"


@pytest.fixture
def source() -> Callable[[], APIClient]:
    """Clients from addresses that no test before had: attempts are counted in the cache."""

    def client() -> APIClient:
        return APIClient(REMOTE_ADDR=f"2001:{uuid.uuid4().hex[:4]}:{uuid.uuid4().hex[:4]}:{uuid.uuid4().hex[:4]}::1")

    return client


@pytest.fixture
def anna():
    return make_user(f"anna-{uuid.uuid4().hex[:8]}", "requester", password=PASSWORD)


def token_of(client: APIClient, username: str, password: str = PASSWORD) -> str:
    answer = client.post(LOGIN, {"username": username, "password": password})
    assert answer.status_code == 200, answer.content
    return answer.json()["token"]


def test_a_token_opens_the_api_until_the_logout(source, anna):
    client = source()
    token = token_of(client, anna.username)
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    assert client.get("/api/v1/me/").json()["roles"] == ["requester"]
    assert client.post("/api/v1/logout/").status_code == 204
    assert client.get("/api/v1/me/").status_code == 401


def test_a_token_expires(source, anna):
    client = source()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token_of(source(), anna.username)}")
    AuthToken.objects.filter(user=anna).update(expiry=timezone.now() - timedelta(seconds=1))
    assert client.get("/api/v1/me/").status_code == 401


def test_logout_everywhere_ends_every_token(source, anna):
    tokens = [token_of(source(), anna.username) for _ in range(2)]
    client = source()
    client.credentials(HTTP_AUTHORIZATION=f"Token {tokens[0]}")
    client.post("/api/v1/logout-everywhere/")
    client.credentials(HTTP_AUTHORIZATION=f"Token {tokens[1]}")
    assert client.get("/api/v1/me/").status_code == 401


def test_nobody_collects_tokens_without_end(source, anna):
    for _ in range(25):
        AuthToken.objects.create(user=anna)
    newest = token_of(source(), anna.username)
    assert AuthToken.objects.filter(user=anna).count() == 20
    client = source()
    client.credentials(HTTP_AUTHORIZATION=f"Token {newest}")
    assert client.get("/api/v1/me/").status_code == 200


def test_a_wrong_password_and_an_unknown_name_look_the_same(source, anna):
    wrong = source().post(LOGIN, {"username": anna.username, "password": "wrong"})
    unknown = source().post(LOGIN, {"username": "nobody-at-all", "password": "wrong"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()
    assert wrong.json()["errors"][0]["code"] == "authentication_failed"


def test_a_person_who_has_left_gets_no_token_and_keeps_none(source, anna):
    client = source()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token_of(source(), anna.username)}")
    anna.is_active = False
    anna.save()
    assert source().post(LOGIN, {"username": anna.username, "password": PASSWORD}).status_code == 401
    assert client.get("/api/v1/me/").status_code == 401


def test_an_account_is_locked_against_guesses_from_everywhere(source, anna):
    answers = [source().post(LOGIN, {"username": anna.username, "password": "wrong"}) for _ in range(6)]
    assert [a.status_code for a in answers] == [401] * 5 + [429]
    assert source().post(LOGIN, {"username": anna.username, "password": PASSWORD}).status_code == 429


def test_one_source_is_stopped_whatever_names_it_tries(source):
    client = source()
    answers = [client.post(LOGIN, {"username": f"u-{uuid.uuid4().hex}", "password": "x"}) for _ in range(11)]
    assert [a.status_code for a in answers] == [401] * 10 + [429]
    assert answers[-1].json()["errors"][0]["code"] == "throttled"


def test_right_passwords_are_not_counted(source, anna):
    client = source()
    for _ in range(12):
        token_of(client, anna.username)


def test_the_history_knows_who_came_with_a_token(source, anna):
    client = source()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token_of(source(), anna.username)}")
    number = client.post("/api/v1/incidents/", {"title": "It stopped"}).json()["id"]
    event = Incident.objects.get(pk=number).history.select_related("pgh_context").get()
    assert event.pgh_context.metadata["user"] == anna.pk
    assert event.pgh_context.metadata["url"] == "/api/v1/incidents/"
