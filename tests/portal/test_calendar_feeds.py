"""Calendar feeds: made and shown once, what other programs read, and everything that ends one."""

from datetime import UTC, timedelta
from secrets import token_urlsafe
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from icalendar import Calendar

from accounts.models import CalendarFeed, User
from changes.models import Change, Freeze
from itsm_portal.calendar.feeds import MOST_FEEDS, feed_of, make_feed
from itsm_portal.views.calendar_feeds import PER_HOUR
from tests.factories import make_ci, make_user
from tickets.clock import database_now
from tickets.exceptions import InvalidInput, PermissionRefused
from tickets.services import create_ticket

pytestmark = pytest.mark.django_db
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def fresh_count() -> None:
    """All tests come from one source; their secrets are new each time."""
    cache.delete("calendar-feed:source:127.0.0.1")


def login(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def address_of(answer: Any) -> str:
    return str(answer.context["address"]).removeprefix("http://127.0.0.1:8000")


def events(text: bytes) -> dict[str, Any]:
    return {str(event["uid"]): event for event in Calendar.from_ical(text).walk("VEVENT")}


def make_change(author: Any, title: str = "Swap the disks", **values: Any) -> Change:
    now = database_now()
    change = create_ticket(
        Change, actor=author, now=now, title=title, description="password: hunter2", planned_start=now + DAY,
        planned_end=now + DAY + HOUR, **values,
    )  # fmt: skip
    return change


def test_the_address_is_shown_once_and_kept_as_a_digest() -> None:
    anna = make_user("anna", "change manager")
    client = login(anna)
    answer = client.post("/calendar/feeds/", {"name": "Mail", "kinds": ["change", "freeze"]})
    assert answer["Cache-Control"] == "no-store"
    address = address_of(answer)
    secret = address.removeprefix("/feeds/").removesuffix(".ics")
    assert len(secret) >= 43
    assert secret not in client.get("/calendar/feeds/").content.decode()
    feed = CalendarFeed.objects.get()
    assert secret not in str(vars(feed))
    assert Client().get(address).status_code == 200
    feed.refresh_from_db()
    assert feed.last_used_at is not None


def test_a_service_account_has_no_feed() -> None:
    robot = make_user("robot", "change manager")
    values = {"now": database_now(), "name": "x", "kinds": ["freeze"]}
    _feed, secret = make_feed(actor=robot, **values)
    User.objects.filter(pk=robot.pk).update(is_service_account=True)
    assert feed_of(secret, now=database_now()) is None
    robot.refresh_from_db()
    with pytest.raises(PermissionRefused):
        make_feed(actor=robot, **values)


def test_a_refused_address_stands_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    secret = token_urlsafe(32)
    assert Client().get(f"/feeds/{secret}.ics").status_code == 404
    assert secret not in caplog.text


def test_other_programs_read_what_the_owner_may_see_and_no_text() -> None:
    anna, otto = make_user("anna", "change manager"), make_user("otto", "requester")
    change = make_change(anna, title="Ü, ;\\ swap")
    now = database_now()
    freeze = Freeze.objects.create(
        name="Books", reason="secret reason", starts_at=now, ends_at=now + DAY, created_by=anna, created_at=now
    )
    addresses = {
        user.username: address_of(login(user).post("/calendar/feeds/", {"name": "x", "kinds": ["change", "freeze"]}))
        for user in (anna, otto)
    }
    answer = Client().get(addresses["anna"])
    assert answer["Content-Type"] == "text/calendar; charset=utf-8"
    assert "private" in answer["Cache-Control"]
    found = events(answer.content)
    uid = f"{change.number.lower()}@127.0.0.1"
    assert set(found) == {uid, f"{freeze.number.lower()}@127.0.0.1"}
    assert found[uid]["summary"] == f"{change.number} Ü, ;\\ swap"
    assert found[uid].decoded("dtstart") == change.planned_start.astimezone(UTC).replace(microsecond=0)
    assert found[uid]["status"] == "TENTATIVE"
    assert found[uid]["url"] == f"http://127.0.0.1:8000/changes/{change.number}/"
    assert b"hunter2" not in answer.content
    assert b"secret reason" not in answer.content
    assert set(events(Client().get(addresses["otto"]).content)) == {f"{freeze.number.lower()}@127.0.0.1"}


def test_the_text_keeps_the_form_of_the_standard() -> None:
    anna = make_user("anna", "change manager")
    make_change(anna, title="A very long title with umlauts äöü " * 5)
    address = address_of(login(anna).post("/calendar/feeds/", {"name": "x", "kinds": ["change"]}))
    text = Client().get(address).content
    lines = text.split(b"\r\n")
    assert lines[0] == b"BEGIN:VCALENDAR"
    assert lines[-2:] == [b"END:VCALENDAR", b""]
    assert b"\n" not in text.replace(b"\r\n", b"")
    assert max(len(line) for line in lines) <= 75
    calendar = Calendar.from_ical(text)
    assert calendar["version"] == "2.0"
    for event in calendar.walk("VEVENT"):
        for needed in ("uid", "dtstamp", "dtstart", "summary", "sequence"):
            assert needed in event, needed
        assert event["dtstart"].to_ical().endswith(b"Z")


def test_an_event_keeps_its_uid_grows_its_sequence_and_is_told_as_cancelled() -> None:
    anna = make_user("anna", "change manager")
    change = make_change(anna)
    address = address_of(login(anna).post("/calendar/feeds/", {"name": "x", "kinds": ["change"]}))
    ((uid, before),) = events(Client().get(address).content).items()
    later = database_now() + 2 * HOUR
    Change.objects.filter(pk=change.pk).update(planned_start=later, planned_end=later + HOUR, updated_at=later)
    ((same, moved),) = events(Client().get(address).content).items()
    assert same == uid
    assert moved["sequence"] > before["sequence"]
    Change.objects.filter(pk=change.pk).update(state="cancelled")
    ((same, cancelled),) = events(Client().get(address).content).items()
    assert (same, cancelled["status"]) == (uid, "CANCELLED")


def test_what_has_not_changed_is_not_sent_again() -> None:
    anna = make_user("anna", "change manager")
    make_change(anna)
    address = address_of(login(anna).post("/calendar/feeds/", {"name": "x", "kinds": ["change", "freeze"]}))
    answer = Client().get(address)
    again = Client().get(address, headers={"If-None-Match": answer["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_revoked_feed_an_owner_who_left_and_a_guess_look_the_same() -> None:
    anna = make_user("anna", "change manager")
    client = login(anna)
    address = address_of(client.post("/calendar/feeds/", {"name": "x", "kinds": ["change"]}))
    type(anna).objects.filter(pk=anna.pk).update(is_active=False)
    gone = Client().get(address)
    type(anna).objects.filter(pk=anna.pk).update(is_active=True)
    assert Client().get(address).status_code == 200
    client.post("/calendar/feeds/", {"revoke": CalendarFeed.objects.get().pk})
    revoked, guess = Client().get(address), Client().get(f"/feeds/{token_urlsafe(32)}.ics")
    assert {(answer.status_code, answer.content) for answer in (gone, revoked, guess)} == {(404, guess.content)}
    assert Client().get(f"/feeds/{token_urlsafe(400)}.ics").status_code == 404


def test_nobody_revokes_the_feed_of_another() -> None:
    anna, otto = make_user("anna", "change manager"), make_user("otto", "requester")
    feed, _secret = make_feed(actor=anna, now=database_now(), name="x", kinds=["change"])
    assert login(otto).post("/calendar/feeds/", {"revoke": feed.pk}).status_code == 404
    feed.refresh_from_db()
    assert feed.revoked_at is None


def test_who_asks_too_often_waits() -> None:
    anna = make_user("anna", "change manager")
    _feed, secret = make_feed(actor=anna, now=database_now(), name="x", kinds=["freeze"])
    client = Client()
    assert [client.get(f"/feeds/{secret}.ics").status_code for _n in range(PER_HOUR)] == [200] * PER_HOUR
    answer = client.get(f"/feeds/{secret}.ics")
    assert (answer.status_code, answer["Retry-After"]) == (429, "3600")


def test_a_person_has_so_many_feeds_of_known_kinds() -> None:
    anna, now = make_user("anna", "requester"), database_now()
    with pytest.raises(InvalidInput):
        make_feed(actor=anna, now=now, name="x", kinds=["change", "nonsense"])
    with pytest.raises(InvalidInput):
        make_feed(actor=anna, now=now, name=" ", kinds=["change"])
    for _n in range(MOST_FEEDS):
        _feed, secret = make_feed(actor=anna, now=now, name="x", kinds=["change"])
    with pytest.raises(InvalidInput, match="Revoke one"):
        make_feed(actor=anna, now=now, name="x", kinds=["change"])
    assert feed_of(secret, now=now) is not None


def test_the_api_makes_lists_and_revokes_ones_own() -> None:
    from rest_framework.test import APIClient

    anna, otto = make_user("anna", "change manager"), make_user("otto", "requester")
    client = APIClient()
    client.force_authenticate(anna)
    made = client.post("/api/v1/calendar-feeds/", {"name": "x", "kinds": ["change"]})
    assert made.status_code == 201, made.content
    address = made.json()["address"].removeprefix("http://127.0.0.1:8000")
    assert Client().get(address).status_code == 200
    (listed,) = client.get("/api/v1/calendar-feeds/").json()["results"]
    assert "address" not in listed
    stranger = APIClient()
    stranger.force_authenticate(otto)
    assert stranger.post(f"/api/v1/calendar-feeds/{listed['id']}/revoke/").status_code == 404
    assert client.post(f"/api/v1/calendar-feeds/{listed['id']}/revoke/").json()["revoked_at"]
    assert Client().get(address).status_code == 404


def test_the_api_gives_the_calendar_conflicts_and_free_slots() -> None:
    from rest_framework.test import APIClient

    anna = make_user("anna", "change manager")
    ci = make_ci()
    one, other = make_change(anna), make_change(anna, "Other")
    Change.objects.filter(pk__in=[one.pk, other.pk]).update(state="scheduled")
    for change in (one, other):
        change.affected_cis.add(ci)
    client = APIClient()
    client.force_authenticate(anna)
    listed = client.get(f"/api/v1/calendar/?kind=change&ci={ci.number}").json()
    assert [entry["number"] for entry in listed] == [one.number, other.number]
    assert client.get("/api/v1/calendar/?after=2026-01-01T00:00:00Z&before=2028-01-01T00:00:00Z").status_code == 400
    assert client.get("/api/v1/calendar/?after=9999-12-31T23:00:00Z").status_code == 400
    base = f"/api/v1/changes/{one.number}"
    found = client.get(f"{base}/conflicts/").json()
    assert [conflict["number"] for conflict in found["conflicts"]] == [other.number]
    (slot,) = client.get(f"{base}/free-slots/?count=1").json()
    to = {"planned_start": one.planned_start.isoformat(), "planned_end": one.planned_end.isoformat()}
    refused = client.post(f"{base}/reschedule/", to)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (409, "schedule_conflicts")
    assert client.post(f"{base}/reschedule/", {**to, "seen_conflicts": found["digest"]}).status_code == 200
    assert client.post(f"{base}/reschedule/", slot).json()["planned_start"] == slot["planned_start"]
    assert client.get(f"{base}/conflicts/").json()["conflicts"] == []
