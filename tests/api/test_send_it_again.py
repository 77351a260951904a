"""`Idempotency-Key`: whoever sends a request again gets its first answer, and nothing is done twice."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from rest_framework.test import APIClient

from cmdb.models import AgentToken
from incidents import services
from incidents.models import Incident
from tests.factories import make_ci, make_user
from tickets.clock import database_now
from tickets.idempotency import forget_expired_keys
from tickets.models import IdempotencyKey

INCIDENTS = "/api/v1/incidents/"


def client_of(user: Any) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


def report(user: Any, key: str, title: str = "It stopped", **extra: Any) -> Any:
    return client_of(user).post(INCIDENTS, {"title": title}, headers={"Idempotency-Key": key}, **extra)


@pytest.fixture
def anna(db: None) -> Any:
    return make_user("anna", "requester")


def test_the_second_answer_is_the_first(anna) -> None:
    first, second = report(anna, "one"), report(anna, "one")
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()
    assert "Idempotency-Replayed" not in first
    assert second["Idempotency-Replayed"] == "true"
    assert Incident.objects.count() == 1


def test_a_verb_is_done_once(anna) -> None:
    number = report(anna, "one").json()["number"]
    for _ in range(2):
        answer = client_of(anna).post(
            f"{INCIDENTS}{number}/comment/", {"text": "Again."}, headers={"Idempotency-Key": "two"}
        )
        assert answer.status_code == 200
    assert Incident.objects.get().entries.filter(kind="comment").count() == 1


def test_a_key_stands_for_one_request_only(anna) -> None:
    report(anna, "one")
    other = report(anna, "one", title="Something else")
    assert (other.status_code, other.json()["errors"][0]["code"]) == (422, "idempotency_key_reused")
    number = Incident.objects.get().number
    elsewhere = client_of(anna).post(
        f"{INCIDENTS}{number}/comment/", {"title": "It stopped"}, headers={"Idempotency-Key": "one"}
    )
    assert elsewhere.status_code == 422
    assert Incident.objects.count() == 1


def test_keys_belong_to_the_person_who_sent_them(anna) -> None:
    ben = make_user("ben", "requester")
    assert report(anna, "one").json()["id"] != report(ben, "one").json()["id"]


def test_without_a_key_everything_is_done_anew(anna) -> None:
    for _ in range(2):
        client_of(anna).post(INCIDENTS, {"title": "It stopped"})
    assert (Incident.objects.count(), IdempotencyKey.objects.count()) == (2, 0)


def test_a_refusal_is_not_kept(anna) -> None:
    assert report(anna, "one", title="x").status_code == 400
    assert report(anna, "one", title="It stopped").status_code == 201


@pytest.mark.parametrize("key", ["x" * 256, "  ", "a\tb"])
def test_a_key_that_is_none_is_refused(anna, key: str) -> None:
    answer = report(anna, key)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "idempotency_key_invalid")


def test_a_key_is_free_again_after_its_time_and_its_row_goes(anna) -> None:
    report(anna, "one")
    IdempotencyKey.objects.update(expires_at=database_now() - timedelta(seconds=1))
    assert report(anna, "one", title="Another thing").status_code == 201
    assert Incident.objects.count() == 2
    assert forget_expired_keys(now=database_now()) == 0
    assert forget_expired_keys(now=database_now() + timedelta(days=2)) == 1


def test_a_secret_is_not_kept(db) -> None:
    ci, admin = make_ci(agent_id="srv-1"), make_user("adam", "administrator")
    path = f"/api/v1/cis/{ci.number}/issue_token/"
    first = client_of(admin).post(path, headers={"Idempotency-Key": "one"})
    assert first.status_code == 201
    again = client_of(admin).post(path, headers={"Idempotency-Key": "one"})
    assert (again.status_code, again.json()["errors"][0]["code"]) == (409, "shown_once")
    assert AgentToken.objects.count() == 1
    assert first.json()["token"] not in IdempotencyKey.objects.get().body


@pytest.mark.django_db(transaction=True)
def test_a_crash_leaves_neither_the_work_nor_the_key(monkeypatch) -> None:
    anna = make_user("anna", "requester")

    def crash(*args: Any) -> None:
        raise RuntimeError("the power fails")

    with monkeypatch.context() as patch:
        patch.setattr(services, "_tell_reported", crash)
        with pytest.raises(RuntimeError):
            report(anna, "one")
    assert (Incident.objects.count(), IdempotencyKey.objects.count()) == (0, 0)
    assert report(anna, "one").status_code == 201


@pytest.mark.django_db(transaction=True)
def test_many_at_once_with_one_key_do_it_once() -> None:
    anna = make_user("anna", "requester")
    answers: list[Any] = []
    start = threading.Barrier(8)

    def send() -> None:
        try:
            start.wait(timeout=30)
            answers.append(report(anna, "one"))
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    done = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    busy = [answer.json()["errors"][0]["code"] for answer in answers if answer.status_code != 201]
    assert len(answers) == 8
    assert len(set(done)) == 1
    assert set(busy) <= {"request_in_progress"}  # waited longer than a request may
    assert Incident.objects.count() == 1


class AnySequence(TestCase):
    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["First", "Second"])), max_size=8))
    def test_each_key_does_its_first_request_and_no_other(self, sent: list[tuple[str, str]]) -> None:
        anna = make_user("anna", "requester")
        first: dict[str, tuple[str, int]] = {}
        for key, title in sent:
            answer = report(anna, key, title=title)
            if key not in first:
                assert answer.status_code == 201
                first[key] = (title, answer.json()["id"])
            elif first[key][0] == title:
                assert (answer.status_code, answer.json()["id"]) == (201, first[key][1])
            else:
                assert answer.status_code == 422
        assert Incident.objects.count() == len(first)
