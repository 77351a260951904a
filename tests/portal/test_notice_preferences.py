"""The page of one's notices, the address in a mail that stops such mails, and both in the API."""

import time
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from notifications.kinds import Kind, Mail
from notifications.mail import unsubscribe_token
from notifications.preferences import Choice, choices_of, hours_chosen_by, save_preferences
from tests.factories import NOW, make_user

pytestmark = pytest.mark.django_db
PAGE = "/notices/preferences/"


def login(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def filled_in(client: Client, **changes: str) -> dict[str, str]:
    """What the browser would send of the page as it stands, with some fields changed; "" leaves a box empty."""
    form = client.get(PAGE).context["form"]
    values = {field.html_name: field.value() for field in form}
    sent = {name: value.strftime("%H:%M") if hasattr(value, "strftime") else value for name, value in values.items()}
    sent = {name: "on" if value is True else value for name, value in sent.items() if value not in (None, False)}
    return {name: value for name, value in {**sent, **changes}.items() if value != "" or name.startswith("quiet")}


def test_a_person_chooses_how_his_notices_come() -> None:
    rita = make_user("rita", "requester")
    client = login(rita)
    changes = {
        "mail_comment": "daily", "bell_comment": "", "quiet_from": "20:00", "quiet_until": "07:30",
        "digest_weekday": "4", "time_zone": "Europe/Berlin",
    }  # fmt: skip
    assert client.post(PAGE, filled_in(client, **changes)).status_code == 302
    rita.refresh_from_db()
    assert choices_of(rita)[Kind.COMMENT] == Choice(Mail.DAILY, bell=False)
    assert choices_of(rita)[Kind.FIX] == Choice()
    hours = hours_chosen_by(rita)
    assert (f"{hours.quiet_from}", f"{hours.quiet_until}", hours.digest_weekday) == ("20:00:00", "07:30:00", 4)
    assert rita.time_zone == "Europe/Berlin"
    text = client.get(PAGE).content.decode()
    assert 'value="20:00"' in text
    assert 'name="bell_comment" aria-label="Bell: Comments on tickets that concern me">' in text


@pytest.mark.parametrize(
    "changes", [{"mail_rollout": "never"}, {"quiet_from": "20:00"}, {"time_zone": "Mars/Base"}, {"digest_at": "25:00"}]
)
def test_what_nobody_may_choose_is_refused_and_changes_nothing(changes: dict[str, str]) -> None:
    rita = make_user("rita", "requester")
    client = login(rita)
    assert client.post(PAGE, filled_in(client, mail_comment="never", **changes)).status_code == 400
    assert choices_of(rita)[Kind.COMMENT] == Choice()


def test_an_address_in_a_mail_asks_first_and_a_post_switches_it_off_without_signing_in() -> None:
    rita = make_user("rita")
    client = Client(enforce_csrf_checks=True)
    address = f"/unsubscribe/{unsubscribe_token(rita.pk, Kind.FIX)}/"
    assert "My fix is installed" in client.get(address).content.decode()
    assert choices_of(rita)[Kind.FIX] == Choice()
    assert client.post(address, {"List-Unsubscribe": "One-Click"}).status_code == 200
    rita.refresh_from_db()
    assert choices_of(rita)[Kind.FIX] == Choice(Mail.NEVER)


@pytest.mark.parametrize("kind", [Kind.ROLLOUT, Kind.DIGEST, "nothing"])
def test_an_address_for_what_cannot_be_switched_off_is_none(kind: str) -> None:
    rita = make_user("rita")
    assert Client().post(f"/unsubscribe/{unsubscribe_token(rita.pk, kind)}/").status_code == 404


def test_an_address_that_somebody_made_up_is_none() -> None:
    rita = make_user("rita")
    token = unsubscribe_token(rita.pk, Kind.FIX)
    for wrong in (token[:-1], token.replace(token[0], "X", 1), "x"):
        assert Client().get(f"/unsubscribe/{wrong}/").status_code == 404


def test_an_address_of_more_than_a_year_ago_says_so_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rita = make_user("rita")
    with monkeypatch.context() as then:
        long_ago = time.time() - 366 * 24 * 3600
        then.setattr("django.core.signing.time.time", lambda: long_ago)
        token = unsubscribe_token(rita.pk, Kind.FIX)
    answer = Client().post(f"/unsubscribe/{token}/")
    assert answer.status_code == 410
    assert "too old" in answer.content.decode()
    assert choices_of(rita)[Kind.FIX] == Choice()


def test_the_api_reads_and_changes_ones_own_preferences() -> None:
    rita, tom = make_user("rita", "requester"), make_user("tom", "requester")
    save_preferences(tom, {Kind.FIX: Choice(Mail.WEEKLY)}, now=NOW)
    client = APIClient()
    client.force_authenticate(rita)
    found = client.get("/api/v1/notice-preferences/").json()
    by_kind = {row["kind"]: row for row in found["choices"]}
    assert by_kind["fix"] == {"kind": "fix", "mail": "now", "bell": True, "is_mandatory": False, "is_urgent": False}
    choice = {"kind": "fix", "mail": "daily", "bell": False}
    found |= {"choices": [choice], "quiet_from": "22:00", "quiet_until": "6:00"}
    answer = client.put("/api/v1/notice-preferences/", found, format="json")
    assert answer.status_code == 200
    assert {row["kind"]: row["mail"] for row in answer.json()["choices"]}["fix"] == "daily"
    assert answer.json()["quiet_until"] == "06:00:00"
    for wrong in (
        {"choices": [{"kind": "rollout", "mail": "never", "bell": True}]},
        {"choices": [{"kind": "digest", "mail": "never", "bell": True}]},
        {"quiet_until": None},
        {"digest_weekday": 7},
    ):
        assert client.put("/api/v1/notice-preferences/", {**found, **wrong}, format="json").status_code == 400
    assert choices_of(tom)[Kind.FIX].mail == Mail.WEEKLY
