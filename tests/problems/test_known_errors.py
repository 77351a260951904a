"""Known errors while somebody reports: what is shown to whom, and a workaround that saves a ticket."""

from typing import Any

import pytest
from django.test import Client

from incidents.models import Incident
from problems.known_errors import known_errors, workaround_helped
from problems.models import Problem
from tests.factories import NOW, make_ci, make_user
from tickets.exceptions import ConditionRefused, PermissionRefused

pytestmark = pytest.mark.django_db
PAGE = "/problems/known-errors/"
TYPING = {"HX-Request": "true", "HX-Target": "known-errors"}


@pytest.fixture
def rita() -> Any:
    return make_user("rita", "requester")


def make_problem(title: str, *, is_known: bool = True, state: str = "fix_in_progress", **values: Any) -> Problem:
    author = values.pop("author", None) or make_user(f"author-{Problem.objects.count()}")
    texts = {"root_cause": "A **secret** cause.", "workaround": "Print **twice**."} if is_known else {}
    return Problem.objects.create(
        title=title, requester=author, is_known_error=is_known, state=state, created_at=NOW, updated_at=NOW, **texts
    )


def login(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_what_is_typed_finds_known_errors_by_any_of_its_words_best_first(rita: Any) -> None:
    paper = make_problem("Printer eats paper")
    sums = make_problem("Printer prints invoices without sums")
    make_problem("Mail is slow")
    make_problem("Printer smells", is_known=False)
    make_problem("Printer is offline", state="resolved")
    assert known_errors(rita, "the printer prints an invoice wrongly") == [sums, paper]
    assert known_errors(rita, "on a it") == []
    tunnel = make_problem("VPN fails")
    assert known_errors(rita, "my VPN") == [tunnel]
    assert known_errors(rita, "'; DROP | & ! :*") == []


def test_suggestions_are_few_and_show_the_workaround_but_not_the_cause(rita: Any) -> None:
    for number in range(8):
        make_problem(f"Invoice {number} is wrong")
    text = login(rita).get(PAGE, {"title": "wrong invoice"}, headers=TYPING).content.decode()
    assert text.count("This solved it") == 5
    assert "Print <strong>twice</strong>" in text
    assert "secret" not in text
    assert "<html" not in text
    assert not login(rita).get(PAGE, {"title": ""}, headers=TYPING).content.strip()


def test_without_javascript_it_is_a_page(rita: Any) -> None:
    make_problem("Invoice is wrong")
    text = login(rita).get(PAGE).content.decode()
    assert "Invoice is wrong" in text
    assert "<html" in text
    assert "Nothing like this is known" in login(rita).get(PAGE, {"title": "elevator"}).content.decode()


def test_who_may_not_report_reads_none() -> None:
    make_problem("Invoice is wrong")
    stranger = make_user("stranger")
    assert known_errors(stranger, "invoice") == []
    assert login(stranger).get(PAGE).status_code == 403


def test_a_workaround_that_helps_leaves_no_ticket_and_is_noted_once(rita: Any) -> None:
    problem = make_problem("Invoice is wrong")
    client = login(rita)
    for _again in range(2):
        assert client.post(PAGE, {"number": problem.number})["Location"] == "/"
    assert not Incident.objects.exists()
    (entry,) = problem.entries.all()
    assert (entry.text, entry.is_public) == ("The workaround helped rita, who reported no incident.", False)


def test_only_a_published_known_error_can_have_helped(rita: Any) -> None:
    hidden = make_problem("Not yet known", is_known=False)
    assert login(rita).post(PAGE, {"number": hidden.number}).status_code == 404
    with pytest.raises(ConditionRefused):
        workaround_helped(hidden, actor=rita, now=NOW)
    with pytest.raises(PermissionRefused):
        workaround_helped(make_problem("Known"), actor=make_user("stranger"), now=NOW)


def test_ones_own_cis_are_offered_first_and_nobody_elses(rita: Any) -> None:
    laptop, _foreign = make_ci("laptop-7", owner=rita), make_ci("srv-9", owner=make_user("tom"))
    client = login(rita)
    page = client.get("/incidents/new/").content.decode()
    assert "laptop-7" in page
    assert "srv-9" not in page
    told = {"title": "It is slow", "impact": "low", "urgency": "low"}
    client.post("/incidents/new/", {**told, "own_ci": laptop.pk})
    client.post("/incidents/new/", {**told, "own_ci": ""})
    client.post("/incidents/new/", {**told, "own_ci": "", "ci": laptop.number})
    assert client.post("/incidents/new/", {**told, "own_ci": _foreign.pk}).status_code == 400
    assert list(Incident.objects.order_by("pk").values_list("ci__name", flat=True)) == ["laptop-7", None, "laptop-7"]


def test_the_requester_is_asked_whether_it_works_and_nobody_else(rita: Any) -> None:
    incident = Incident.objects.create(
        title="It is slow", requester=rita, state="resolved", resolved_at=NOW, created_at=NOW, updated_at=NOW
    )
    client, desk = login(rita), login(make_user("desk", "service desk"))
    address = f"/incidents/{incident.number}/"
    assert "Does it work again?" in client.get(address).content.decode()
    assert "Does it work again?" not in desk.get(address).content.decode()
    assert client.post(f"{address}close/").status_code == 302
    incident.refresh_from_db()
    assert incident.state == "closed"
    assert "Does it work again?" not in client.get(address).content.decode()
