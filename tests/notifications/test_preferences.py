"""Bell and mail as each person wants them: kinds, quiet hours, digests, and nothing lost or told twice on the way."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from notifications.kinds import CHOSEN, MANDATORY, URGENT, Kind, Mail
from notifications.models import Outbox
from notifications.preferences import (
    Choice,
    Hours,
    choices_of,
    read_unsubscribe_token,
    save_preferences,
    switch_mail_off,
)
from notifications.services import LEASE, notify, send_notifications
from notifications.timing import end_of_quiet, next_digest
from tests.factories import NOW, make_user
from tests.notifications import smtp

pytestmark = pytest.mark.django_db
BERLIN = ZoneInfo("Europe/Berlin")
HOUR = timedelta(hours=1)


@pytest.fixture
def rita():
    return make_user("rita", time_zone="Europe/Berlin")


def tell(person, event: str, kind: Kind = Kind.COMMENT, now: datetime = NOW) -> Outbox:
    notify(
        event=event, recipient=person, thread="INC-0000042", subject=f"about {event}", text="Look <here>.",
        path="/incidents/INC-0000042/", now=now, kind=kind,
    )  # fmt: skip
    return Outbox.objects.get(event=event, recipient=person)


def states(*rows: Outbox) -> list[str]:
    return [Outbox.objects.get(pk=row.pk).state for row in rows]


def subjects(inbox: smtp.Inbox) -> list[str]:
    return [mail["Subject"] for mail in inbox.mails]


def berlin(day: int, clock: str) -> datetime:
    """A moment of November 2026 on Rita's clock."""
    return datetime.combine(datetime(2026, 11, day), time.fromisoformat(clock), BERLIN).astimezone(UTC)


def test_without_a_choice_everything_comes_at_once_and_rings(rita):
    assert set(choices_of(rita).values()) == {Choice(Mail.NOW, True)}
    row = tell(rita, "a")
    assert (row.state, row.read_at, row.kind) == ("pending", None, "comment")


def test_a_kind_without_mail_and_bell_still_stands_among_the_notices(rita):
    save_preferences(rita, {Kind.COMMENT: Choice(Mail.NEVER, bell=False)}, now=NOW)
    row, other = tell(rita, "a"), tell(rita, "b", Kind.FIX)
    assert (row.state, row.read_at) == ("portal_only", NOW)
    assert (other.state, other.read_at) == ("pending", None)
    assert list(Outbox.objects.shown_to(rita).order_by("pk")) == [row, other]


@pytest.mark.parametrize("kind", sorted(MANDATORY))
def test_what_would_stand_still_cannot_be_switched_off(rita, kind):
    for choice in (Choice(Mail.NEVER), Choice(Mail.NOW, bell=False)):
        with pytest.raises(ValueError, match="cannot come like this"):
            save_preferences(rita, {kind: choice}, now=NOW)
    save_preferences(rita, {kind: Choice(Mail.DAILY)}, now=NOW)


def test_quiet_hours_hold_mails_until_they_end_on_the_readers_clock(rita, port):
    save_preferences(rita, {}, Hours(time(20), time(7)), now=NOW)
    night = berlin(2, "23:30")
    row, urgent = tell(rita, "a", now=night), tell(rita, "b", Kind.MAJOR, now=night)
    with smtp.mail_server(port) as inbox:
        assert send_notifications(now=night) == 1
        assert states(row, urgent) == ["held", "sent"]
        assert send_notifications(now=berlin(3, "06:59")) == 0
        assert send_notifications(now=berlin(3, "07:00")) == 1
    row.refresh_from_db()
    assert (row.state, row.attempts, row.sent_at) == ("sent", 1, berlin(3, "07:00"))
    assert subjects(inbox) == ["[INC-0000042] about b", "[INC-0000042] about a"]


def test_a_mail_that_is_late_does_not_break_the_quiet_hours(rita, port):
    save_preferences(rita, {}, Hours(time(20), time(7)), now=NOW)
    row = tell(rita, "a", now=berlin(2, "19:59"))
    with smtp.mail_server(port):
        assert send_notifications(now=berlin(2, "20:01")) == 0
        assert states(row) == ["held"]


def test_switching_quiet_hours_off_lets_go_what_waits(rita, port):
    save_preferences(rita, {}, Hours(time(20), time(7)), now=NOW)
    night = berlin(2, "23:30")
    tell(rita, "a", now=night)
    with smtp.mail_server(port):
        assert send_notifications(now=night) == 0
        save_preferences(rita, {}, Hours(), now=night)
        rita.refresh_from_db()
        assert send_notifications(now=night) == 1


def test_a_daily_digest_has_all_of_the_day_in_one_mail(rita, port):
    save_preferences(rita, {Kind.COMMENT: Choice(Mail.DAILY), Kind.FIX: Choice(Mail.DAILY)}, now=NOW)
    rows = [tell(rita, "a"), tell(rita, "b", Kind.FIX), tell(rita, "c", now=NOW + 2 * HOUR)]
    other = tell(rita, "d", Kind.ASSIGNED)
    later = tell(rita, "e", now=berlin(3, "08:30"))
    with smtp.mail_server(port) as inbox:
        assert send_notifications(now=NOW + 3 * HOUR) == 1, "what was not chosen for the digest"
        assert send_notifications(now=berlin(3, "07:59")) == 0
        assert send_notifications(now=berlin(3, "08:00")) == 1
        assert send_notifications(now=berlin(3, "09:00")) == 0
    assert states(*rows, other, later) == ["bundled", "bundled", "bundled", "sent", "held"]
    digest = inbox.mails[1]
    assert digest["Subject"] == "[digest] 3 notices"
    text, html = (digest.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert [f"about {letter}" in text for letter in "abcde"] == [True, True, True, False, False]
    assert "https://portal.example.org/incidents/INC-0000042/" in text
    assert "Look &lt;here&gt;." in html
    assert Outbox.objects.shown_to(rita).count() == 5, "the digest itself is no news"


def test_a_weekly_digest_comes_on_its_day(rita, port):
    save_preferences(rita, {Kind.COMMENT: Choice(Mail.WEEKLY)}, Hours(digest_at=time(9), digest_weekday=4), now=NOW)
    tell(rita, "a"), tell(rita, "b", now=NOW + 24 * HOUR)
    with smtp.mail_server(port) as inbox:
        assert send_notifications(now=berlin(6, "08:59")) == 0
        assert send_notifications(now=berlin(6, "09:00")) == 1
    assert subjects(inbox) == ["[digest] 2 notices"]


def test_a_worker_killed_with_the_digest_repeats_the_same_mail_and_bundles_nothing_twice(rita, port, settings):
    save_preferences(rita, {Kind.COMMENT: Choice(Mail.DAILY)}, now=NOW)
    rows = [tell(rita, "a"), tell(rita, "b")]
    send_notifications(now=NOW)
    morning = berlin(3, "08:00")
    with smtp.mail_server(port) as inbox:
        settings.EMAIL_BACKEND = "tests.notifications.smtp.DyingBackend"
        with pytest.raises(smtp.KilledError):
            send_notifications(now=morning)
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        assert send_notifications(now=morning + LEASE) == 1
        assert send_notifications(now=morning + 2 * LEASE) == 0
    first, again = inbox.mails
    assert first["Message-ID"] == again["Message-ID"]
    assert states(*rows) == ["bundled", "bundled"]
    assert Outbox.objects.filter(kind=Kind.DIGEST).count() == 1


def test_a_worker_killed_while_it_bundles_has_bundled_nothing(rita, port, monkeypatch):
    from notifications import held

    save_preferences(rita, {Kind.COMMENT: Choice(Mail.DAILY)}, now=NOW)
    rows = [tell(rita, "a"), tell(rita, "b")]
    send_notifications(now=NOW)
    write, morning = held._write_digest, berlin(3, "08:00")

    def killed(*args):
        write(*args)
        raise smtp.KilledError

    with monkeypatch.context() as patch:
        patch.setattr(held, "_write_digest", killed)
        with pytest.raises(smtp.KilledError):
            send_notifications(now=morning)
    assert states(*rows) == ["held", "held"]
    with smtp.mail_server(port) as inbox:
        assert send_notifications(now=morning) == 1
    assert subjects(inbox) == ["[digest] 2 notices"]


def test_a_choice_counts_for_what_waits_already(rita, port):
    save_preferences(rita, dict.fromkeys((Kind.COMMENT, Kind.FIX), Choice(Mail.DAILY)), now=NOW)
    comment, fix = tell(rita, "a"), tell(rita, "b", Kind.FIX)
    send_notifications(now=NOW)
    save_preferences(rita, {Kind.COMMENT: Choice(Mail.NEVER), Kind.FIX: Choice(Mail.NOW)}, now=NOW)
    with smtp.mail_server(port) as inbox:
        assert send_notifications(now=NOW) == 1
    assert subjects(inbox) == ["[INC-0000042] about b"]
    assert states(comment, fix) == ["portal_only", "sent"]


def test_mails_name_the_way_to_stop_them_and_mandatory_ones_only_the_page(rita, port):
    tell(rita, "a"), tell(rita, "b", Kind.ROLLOUT)
    with smtp.mail_server(port) as inbox:
        assert send_notifications(now=NOW) == 2
    mandatory, mail = inbox.mails
    address = mail["List-Unsubscribe"].strip(" <>")
    assert address.startswith("https://portal.example.org/unsubscribe/")
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert read_unsubscribe_token(address.split("/")[-2]) == (rita, Kind.COMMENT)
    assert mandatory["List-Unsubscribe"].strip() == "<https://portal.example.org/notices/preferences/>"
    assert mandatory["List-Unsubscribe-Post"] is None


def test_switching_a_mail_off_keeps_the_bell_as_it_was(rita):
    save_preferences(rita, {Kind.COMMENT: Choice(Mail.NOW, bell=False)}, now=NOW)
    switch_mail_off(rita, Kind.COMMENT, now=NOW)
    rita.refresh_from_db()
    assert choices_of(rita)[Kind.COMMENT] == Choice(Mail.NEVER, bell=False)


def test_notices_cost_one_statement_whatever_the_person_chose(rita, django_assert_num_queries):
    save_preferences(rita, {Kind.COMMENT: Choice(Mail.DAILY)}, now=NOW)
    with django_assert_num_queries(1):
        notify(event="a", recipient=rita, thread="t", subject="s", text="x", now=NOW, kind=Kind.COMMENT)


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        ("2026-10-25T00:30+02:00", "2026-10-25T02:30+02:00"),  # the night in which the clock is set back
        ("2026-10-25T02:10+01:00", "2026-10-25T02:30+01:00"),  # the second time that it is ten past two
        ("2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00"),  # half past two does not exist in this night
        ("2026-11-02T21:59+01:00", None),
        ("2026-11-02T22:00+01:00", "2026-11-03T02:30+01:00"),
        ("2026-11-03T02:30+01:00", None),
    ],
)
def test_quiet_hours_end_in_the_future_whatever_the_clocks_do(moment, end):
    found = end_of_quiet(datetime.fromisoformat(moment), time(22), time(2, 30), BERLIN)
    assert found == (datetime.fromisoformat(end) if end else None)


def test_a_digest_is_always_after_what_it_tells():
    for hours in range(24 * 21):
        moment = berlin(2, "00:00") + timedelta(hours=hours)
        for period, most in ((Mail.DAILY, 25), (Mail.WEEKLY, 7 * 24 + 1)):
            found = next_digest(moment, period, time(8), 2, BERLIN)
            assert moment < found <= moment + timedelta(hours=most)
            assert found.astimezone(BERLIN).time() == time(8)


def test_kinds_fit_together():
    assert set(CHOSEN) >= URGENT | MANDATORY
