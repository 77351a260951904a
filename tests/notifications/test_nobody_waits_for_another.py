"""Who has left gets no mail, a choice counts until the last moment, and the trouble of one is not that of all."""

from datetime import timedelta

import pytest

from notifications import held, services
from notifications.kinds import Kind, Mail
from notifications.models import NoticePreference, Outbox
from notifications.preferences import Choice, save_preferences, switch_mail_off
from notifications.services import LEASE, notify, send_notifications
from tests.factories import NOW, make_user
from tests.notifications import smtp

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(days=2)


def tell(person, event: str, kind: Kind = Kind.COMMENT) -> Outbox:
    notify(event=event, recipient=person, thread="INC-0000042", subject=event, text="Look.", now=NOW, kind=kind)
    return Outbox.objects.get(event=event, recipient=person)


def states(*rows: Outbox) -> list[str]:
    return [Outbox.objects.get(pk=row.pk).state for row in rows]


def test_who_has_left_gets_neither_what_was_held_nor_what_waits(port):
    tom, rita = make_user("tom"), make_user("rita")
    save_preferences(tom, {Kind.FIX: Choice(Mail.DAILY)}, now=NOW)
    rows = [tell(tom, "a"), tell(tom, "b"), tell(tom, "c", Kind.FIX), tell(tom, "d", Kind.MAJOR)]
    hers = tell(rita, "e")
    tom.is_active = False
    tom.save()
    with smtp.mail_server(port) as inbox:
        assert send_notifications(now=LATER) == 1
    assert [mail["To"] for mail in inbox.mails] == ["rita@example.org"]
    assert states(*rows, hers) == ["portal_only"] * 4 + ["sent"]


def test_many_that_nobody_wants_any_more_keep_no_mail_behind_them_waiting(port):
    tom, rita = make_user("tom"), make_user("rita")
    his = [tell(tom, f"a{number}") for number in range(25)]
    hers = tell(rita, "b")
    # Chosen while they were being written: nobody has looked at what waits.
    NoticePreference.objects.create(person=tom, kind=Kind.COMMENT, mail=Mail.NEVER)
    with smtp.mail_server(port):
        assert send_notifications(now=NOW) == 1
    assert states(*his, hers) == ["portal_only"] * 25 + ["sent"]


def test_who_left_before_his_digest_gets_none(port):
    tom = make_user("tom")
    save_preferences(tom, {Kind.COMMENT: Choice(Mail.DAILY)}, now=NOW)
    rows = [tell(tom, "a"), tell(tom, "b")]
    tom.is_active = False
    tom.save()
    with smtp.mail_server(port) as inbox:
        assert send_notifications(now=LATER) == 0
    assert (inbox.mails, states(*rows)) == ([], ["portal_only"] * 2)


def test_a_digest_that_fails_is_logged_tried_again_and_keeps_nobody_else_waiting(port, monkeypatch, caplog):
    tom, rita = make_user("tom"), make_user("rita")
    for person in (tom, rita):
        save_preferences(person, {Kind.COMMENT: Choice(Mail.DAILY)}, now=NOW)
        tell(person, "a")
    write = held._write_digest

    def fails_for_tom(person, *rest):
        if person == tom:
            raise RuntimeError("no digest")
        write(person, *rest)

    with smtp.mail_server(port) as inbox:
        with monkeypatch.context() as patch:
            patch.setattr(held, "_write_digest", fails_for_tom)
            assert send_notifications(now=LATER) == 1
        assert f"user {tom.pk} waits" in caplog.text
        assert send_notifications(now=LATER) == 1
    assert [mail["To"] for mail in inbox.mails] == ["rita@example.org", "tom@example.org"]


def test_a_mail_whose_text_cannot_be_made_does_not_end_the_round(port, monkeypatch):
    rita = make_user("rita")
    broken, fine = tell(rita, "a"), tell(rita, "b")
    compose = services.compose

    def fails_once(row, server):
        if row.pk == broken.pk:
            raise KeyError("missing")
        return compose(row, server)

    monkeypatch.setattr(services, "compose", fails_once)
    with smtp.mail_server(port):
        assert send_notifications(now=NOW) == 1
    assert states(broken, fine) == ["pending", "sent"]


def test_urgent_mails_go_first_and_digests_wait_for_a_round_with_time(port):
    tom, rita = make_user("tom"), make_user("rita")
    save_preferences(tom, {Kind.COMMENT: Choice(Mail.DAILY)}, now=NOW)
    waits = tell(tom, "a")
    tell(rita, "b")
    tell(rita, "c", Kind.ROLLOUT)
    assert send_notifications(now=LATER, budget_seconds=0) == 0
    assert states(waits) == ["held"]
    with smtp.mail_server(port) as inbox:
        assert send_notifications(now=LATER) == 3
    assert inbox.mails[0]["Subject"] == "[INC-0000042] c"


def test_a_digest_of_more_rows_than_a_statement_takes_is_one_mail(port, monkeypatch):
    monkeypatch.setattr(held, "ROWS_AT_ONCE", 2, raising=False)
    monkeypatch.setattr(held, "ROWS_A_STATEMENT", 2, raising=False)
    rita = make_user("rita")
    save_preferences(rita, {Kind.COMMENT: Choice(Mail.DAILY)}, now=NOW)
    for event in "abcde":
        tell(rita, event)
    with smtp.mail_server(port) as inbox:
        send_notifications(now=LATER)
        send_notifications(now=LATER)
    assert [mail["Subject"] for mail in inbox.mails] == ["[digest] 5 notices"]


def test_a_kind_switched_off_while_a_worker_has_its_mail_is_not_tried_again(port, settings):
    rita = make_user("rita")
    row = tell(rita, "a")
    with smtp.mail_server(port) as inbox:
        settings.EMAIL_BACKEND = "tests.notifications.smtp.DyingBackend"
        with pytest.raises(smtp.KilledError):
            send_notifications(now=NOW)
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        switch_mail_off(rita, Kind.COMMENT, now=NOW)
        assert send_notifications(now=NOW + LEASE) == 0
    assert len(inbox.mails) == 1
    assert states(row) == ["portal_only"]
    assert NoticePreference.objects.get().mail == Mail.NEVER


def test_the_plain_text_names_the_way_to_stop_too(port):
    tell(make_user("rita"), "a")
    with smtp.mail_server(port) as inbox:
        send_notifications(now=NOW)
    (mail,) = inbox.mails
    assert mail["List-Unsubscribe"].strip(" <>") in mail.get_body(("plain",)).get_content()
