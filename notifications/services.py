"""Notices: written together with what they tell, sent as mail later, outside of any transaction."""

import logging
import smtplib
import time
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.core.mail import get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import connection
from django.db.models import F, Q

from failpoints import failpoint
from notifications.mail import compose
from notifications.models import Outbox

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 15
BACKOFF = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(hours=4)
# What the server says about one mail; after anything else the server itself is in doubt.
MESSAGE_ERRORS = (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError, ValueError)
# Longer than any tick may take, so that nobody claims what a living worker still sends.
LEASE = timedelta(minutes=5)

_INSERT = """
    INSERT INTO notifications_outbox
        (event, recipient_id, thread, subject, text, html, path, state, attempts, next_attempt_at,
        last_error, created_at) VALUES (%s, %s, %s, %s, %s, '', %s, %s, 0, %s, '', %s) ON CONFLICT (event,
        recipient_id, thread) DO NOTHING
"""


def notify(*, event: str, recipient: Any, thread: str, subject: str, text: str, now: datetime, path: str = "") -> bool:
    """Writes one notice, in the caller's transaction; False when this event told this person in this thread before.

    The subject gets the thread in front (`[INC-0000042] …`). A person without an address, or who has left, has it in
    the portal only. Raises `ValueError` for line breaks in what becomes a mail header.
    """
    for value in (event, thread, subject, path):
        if any(character in value for character in "\r\n\0"):
            raise ValueError(f"A mail header must be one line: {value!r}")
    tag = f"[{thread}]"
    if not subject.startswith(tag):
        subject = f"{tag} {subject}"
    is_mailed = bool(recipient.email) and recipient.is_active
    state = Outbox.State.PENDING if is_mailed else Outbox.State.PORTAL_ONLY
    values = (event, recipient.pk, thread, subject[:200], text.replace("\0", ""), path, state.value, now, now)
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, values)
        return bool(cursor.rowcount)


def mark_read(user: Any, *, now: datetime, ids: Iterable[int] | None = None) -> int:
    """Marks a person's unread notices as read, all or those of `ids`; returns how many."""
    notices = Outbox.objects.filter(recipient=user, read_at__isnull=True)
    if ids is not None:
        notices = notices.filter(pk__in=list(ids))
    return notices.update(read_at=now)


def revive_dead_letters(*, now: datetime, ids: Iterable[int] | None = None) -> int:
    """Puts mails that were given up back into the queue, with all their attempts; returns how many."""
    dead = Outbox.objects.filter(state=Outbox.State.DEAD)
    if ids is not None:
        dead = dead.filter(pk__in=list(ids))
    return dead.update(state=Outbox.State.PENDING, attempts=0, next_attempt_at=now, lease=None, leased_until=None)


def send_notifications(*, now: datetime, budget_seconds: float = 1.0) -> int:
    """Sends due mails until none is left or the time is up; returns how many were sent.

    At least once: a worker that dies between sending and writing leaves a lease that runs out; the repeat carries the
    same Message-ID. A refusal for good makes a dead letter at once, anything else is tried again with growing pauses.
    When the server is out of reach the rest waits for the next tick.
    """
    started = time.monotonic()
    sent = 0
    server: BaseEmailBackend | None = None
    try:
        while time.monotonic() - started < budget_seconds:
            row = _claim(now)
            if row is None:
                break
            server = server or get_connection()
            failpoint("mail.claimed")
            error = _send(row, server)
            failpoint("mail.sent")
            _write_result(row, error, now)
            failpoint("mail.marked")
            if error is None:
                sent += 1
            elif not isinstance(error, MESSAGE_ERRORS):
                break
    finally:
        if server is not None:
            _close(server)
    return sent


def _claim(now: datetime) -> Outbox | None:
    """Takes the mail that has been due for the longest time, with a lease; None when none is due."""
    free = Q(leased_until__isnull=True) | Q(leased_until__lte=now)
    due = Outbox.objects.filter(free, state=Outbox.State.PENDING, next_attempt_at__lte=now)
    for pk in due.order_by("next_attempt_at", "pk").values_list("pk", flat=True)[:20]:
        lease = uuid.uuid4()
        rows = due.filter(pk=pk).update(lease=lease, leased_until=now + LEASE, attempts=F("attempts") + 1)
        if rows:
            return Outbox.objects.select_related("recipient").get(pk=pk)
    return None


def _send(row: Outbox, server: BaseEmailBackend) -> Exception | None:
    """Sends one mail; None, or why it was not sent."""
    try:
        server.open()
        compose(row, server).send()
    except Exception as error:
        _close(server)
        return error
    return None


def _close(server: BaseEmailBackend) -> None:
    try:
        server.close()
    except (OSError, smtplib.SMTPException):
        logger.debug("The mail server did not say goodbye.", exc_info=True)


def _is_permanent(error: Exception) -> bool:
    """Whether trying this very mail again is pointless: the server refused the recipient or the text for good."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(500 <= code < 600 for code, _text in error.recipients.values())
    if isinstance(error, smtplib.SMTPDataError):
        return 500 <= error.smtp_code < 600
    return isinstance(error, ValueError)  # a header or an address that no mail can have


def _write_result(row: Outbox, error: Exception | None, now: datetime) -> None:
    """Writes how it went, if the lease is still ours."""
    values: dict[str, Any] = {"lease": None, "leased_until": None}
    if error is None:
        values |= {"state": Outbox.State.SENT, "sent_at": now, "last_error": ""}
    else:
        values["last_error"] = f"{type(error).__name__}: {error}".replace("\0", "")[:2000]
        if _is_permanent(error) or row.attempts >= MAX_ATTEMPTS:
            values["state"] = Outbox.State.DEAD
            logger.error("Mail %s to user %s is given up: %s", row.pk, row.recipient_id, values["last_error"])
        else:
            values["next_attempt_at"] = now + min(BACKOFF * 2 ** (row.attempts - 1), LONGEST_BACKOFF)
            logger.warning("Mail %s is tried again later: %s", row.pk, values["last_error"])
    if not Outbox.objects.filter(pk=row.pk, lease=row.lease).update(**values):
        logger.warning("Mail %s took longer than its lease; somebody else has it now.", row.pk)
