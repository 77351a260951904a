"""Mails of the outbox against a real SMTP server."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications.models import Outbox
from notifications.services import (
    BACKOFF,
    LEASE,
    MAX_ATTEMPTS,
    notify,
    revive_dead_letters,
    send_notifications,
)
from tests.factories import NOW, make_user
from tests.notifications import smtp

pytestmark = pytest.mark.django_db


@pytest.fixture
def rita():
    return make_user("rita")


def tell(recipient, event="incident:42:resolved", thread="INC-0000042", **values) -> Outbox:
    values = {"subject": "resolved: Printer <b>on fire</b>", "text": "Line one\nline <two>", **values}
    notify(event=event, recipient=recipient, thread=thread, now=NOW, **values)
    return Outbox.objects.get(event=event, recipient=recipient, thread=thread)


def test_a_mail_arrives_once_with_thread_and_escaped_html(port, rita):
    row = tell(rita, path="/incidents/INC-0000042/")
    with smtp.mail_server(port) as inbox:
        assert send_notifications(now=NOW) == 1
        assert send_notifications(now=NOW) == 0
    (mail,) = inbox.mails
    row.refresh_from_db()
    assert (row.state, row.attempts, row.sent_at, row.lease) == ("sent", 1, NOW, None)
    assert mail["To"] == "rita@example.org"
    assert mail["Subject"] == "[INC-0000042] resolved: Printer <b>on fire</b>"
    assert mail["References"] == mail["In-Reply-To"] != mail["Message-ID"]
    assert mail["Message-ID"].endswith("@portal.example.org>")
    text, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert "line <two>" in text
    assert "https://portal.example.org/incidents/INC-0000042/" in text
    assert "Line one<br>line &lt;two&gt;" in html
    assert "<two>" not in html


def test_mails_of_a_ticket_share_a_thread_and_those_of_another_do_not(port, rita):
    tell(rita, event="a")
    tell(rita, event="b")
    tell(rita, event="a", thread="INC-0000043")
    with smtp.mail_server(port) as inbox:
        assert send_notifications(now=NOW) == 3
    first, second, other = inbox.mails
    assert first["References"] == second["References"] != other["References"]
    assert len({mail["Message-ID"] for mail in inbox.mails}) == 3


def test_a_server_that_is_down_delays_mails_and_loses_none(port, rita):
    first, second = tell(rita, event="a"), tell(rita, event="b")
    assert send_notifications(now=NOW) == 0
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, first.attempts, first.next_attempt_at) == ("pending", 1, NOW + BACKOFF)
    assert "ConnectionRefusedError" in first.last_error
    assert second.attempts == 0, "one try tells that the server is down; the others keep theirs"
    with smtp.mail_server(port) as inbox:
        assert send_notifications(now=NOW) == 1
        assert send_notifications(now=NOW + BACKOFF) == 1
    assert len(inbox.mails) == 2


def test_pauses_grow_and_end_in_a_dead_letter_that_can_be_revived(port, rita):
    row = tell(rita)
    now, pauses = NOW, []
    for _attempt in range(MAX_ATTEMPTS):
        send_notifications(now=now)
        row.refresh_from_db()
        pauses.append(row.next_attempt_at - now)
        now = row.next_attempt_at
    assert pauses[:3] == [BACKOFF, 2 * BACKOFF, 4 * BACKOFF]
    assert max(pauses) == timedelta(hours=4)
    assert (row.state, row.attempts) == ("dead", MAX_ATTEMPTS)
    assert send_notifications(now=now + timedelta(days=1)) == 0
    assert revive_dead_letters(now=now) == 1
    with smtp.mail_server(port) as inbox:
        assert send_notifications(now=now) == 1
    assert len(inbox.mails) == 1


def test_a_recipient_refused_for_good_is_dead_at_once_and_the_next_gets_his_mail(port, rita):
    gone = make_user("gone")
    refused, fine = tell(gone), tell(rita)
    with smtp.mail_server(port) as inbox:
        inbox.refusals["gone@example.org"] = "550 no such person"
        assert send_notifications(now=NOW) == 1
    refused.refresh_from_db()
    fine.refresh_from_db()
    assert (refused.state, fine.state) == ("dead", "sent")
    assert "no such person" in refused.last_error


def test_a_recipient_refused_for_now_is_tried_again(port, rita):
    row = tell(rita)
    with smtp.mail_server(port) as inbox:
        inbox.refusals["rita@example.org"] = "450 greylisted"
        assert send_notifications(now=NOW) == 0
        inbox.refusals.clear()
        assert send_notifications(now=NOW + BACKOFF) == 1
    row.refresh_from_db()
    assert (row.state, row.attempts) == ("sent", 2)


def test_a_worker_killed_between_sending_and_writing_repeats_the_same_message_id(port, rita, settings):
    row = tell(rita)
    with smtp.mail_server(port) as inbox:
        settings.EMAIL_BACKEND = "tests.notifications.smtp.DyingBackend"
        with pytest.raises(smtp.KilledError):
            send_notifications(now=NOW)
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        assert send_notifications(now=NOW + LEASE - timedelta(seconds=1)) == 0, "the lease is still running"
        assert send_notifications(now=NOW + LEASE) == 1
    first, again = inbox.mails
    assert first["Message-ID"] == again["Message-ID"]
    row.refresh_from_db()
    assert (row.state, row.attempts) == ("sent", 2)


def test_a_result_that_comes_after_the_lease_was_lost_is_not_written(port, rita, monkeypatch):
    row = tell(rita)
    from notifications import services

    send = services._send

    def somebody_else_takes_over(mine, server):
        Outbox.objects.filter(pk=mine.pk).update(lease="00000000-0000-0000-0000-000000000001")
        return send(mine, server)

    monkeypatch.setattr(services, "_send", somebody_else_takes_over)
    with smtp.mail_server(port):
        send_notifications(now=NOW)
    row.refresh_from_db()
    assert row.state == "pending"


def test_a_quiet_tick_writes_nothing(rita, port):
    tell(rita)
    with smtp.mail_server(port):
        send_notifications(now=NOW)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert send_notifications(now=NOW) == 0
    assert [q["sql"].split()[0] for q in queries] == ["SELECT"] * 3, "what is urgent, what is held, and what is due"
