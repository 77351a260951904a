"""Notices: written together with what they tell, sent as mail later, outside of any transaction."""

import logging
import smtplib
import time
import uuid
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.core.mail import get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import connection
from django.db.models import CharField, F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Cast, Coalesce, Concat

from failpoints import failpoint
from notifications.held import keep_in_portal, let_go, quiet_until
from notifications.kinds import URGENT, Kind, Mail
from notifications.mail import compose, gets_mails
from notifications.models import NoticePreference, Outbox

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 15
BACKOFF = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(hours=4)


class CannotBeWrittenError(Exception):
    """The text of a mail cannot be made of its row."""


# What is wrong with one mail; after anything else the server itself is in doubt.
MESSAGE_ERRORS = (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError, ValueError, CannotBeWrittenError)
# Longer than any tick may take, so that nobody claims what a living worker still sends.
LEASE = timedelta(minutes=5)

# How the person wants this kind decides in the same statement: recipients come in thousands.
_INSERT = """
    INSERT INTO notifications_outbox
        (event, recipient_id, thread, kind, subject, text, html, path, attempts, next_attempt_at, last_error,
        created_at, state, read_at)
    SELECT %(event)s, %(recipient)s, %(thread)s, %(kind)s, %(subject)s, %(text)s, '', %(path)s, 0, %(now)s, '', %(now)s,
        CASE WHEN NOT %(is_mailed)s OR mail = 'never' THEN 'portal_only'
             WHEN mail IN ('daily', 'weekly') THEN 'held'
             ELSE 'pending' END,
        CASE WHEN NOT bell THEN %(now)s::timestamptz END
    FROM (SELECT) AS one
    LEFT JOIN notifications_noticepreference ON person_id = %(recipient)s AND kind = %(kind)s
    ON CONFLICT (event, recipient_id, thread) DO NOTHING
"""


def notify(
    *,
    event: str,
    recipient: Any,
    thread: str,
    subject: str,
    text: str,
    now: datetime,
    path: str = "",
    kind: Kind = Kind.PROGRESS,
) -> bool:
    """Writes one notice, in the caller's transaction; False when this event told this person in this thread before.

    The subject gets the thread in front (`[INC-0000042] …`). How it comes (bell, mail, digest) is the recipient's
    choice for this kind. A person without an address, or who has left, has it in the portal only. Raises `ValueError`
    for line breaks in what becomes a mail header.
    """
    for value in (event, thread, subject, path):
        if any(character in value for character in "\r\n\0"):
            raise ValueError(f"A mail header must be one line: {value!r}")
    tag = f"[{thread}]"
    if not subject.startswith(tag):
        subject = f"{tag} {subject}"
    values = {
        "event": event,
        "recipient": recipient.pk,
        "thread": thread,
        "kind": str(kind),
        "subject": subject[:200],
        "text": text.replace("\0", ""),
        "path": path,
        "now": now,
        "is_mailed": gets_mails(recipient),
    }
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, values)
        return bool(cursor.rowcount)


def mark_read(user: Any, *, now: datetime, ids: Iterable[int] | None = None) -> int:
    """Marks a person's unread notices as read, all or those of `ids`; returns how many."""
    notices = Outbox.objects.filter(recipient=user, read_at__isnull=True)
    if ids is not None:
        notices = notices.filter(pk__in=list(ids))
    return notices.update(read_at=now)


def withdraw_notices(event: str, *, now: datetime, but_of: Collection[int] = ()) -> int:
    """Ends notices that have become pointless: read, and withdrawn if no mail has gone out; returns how many.

    They keep their rows, but not the event: the same may be told anew. `but_of`: keys of people who keep theirs.
    """
    told = Outbox.objects.filter(event=event).exclude(recipient__in=but_of)
    waiting = told.filter(state__in=[Outbox.State.PENDING, Outbox.State.HELD], lease__isnull=True)
    waiting.update(state=Outbox.State.WITHDRAWN)
    old = Concat("event", Value(":"), Cast("pk", CharField()), output_field=CharField())
    return told.update(event=old, read_at=Coalesce("read_at", Value(now)))


def revive_dead_letters(*, now: datetime, ids: Iterable[int] | None = None) -> int:
    """Puts mails that were given up back into the queue, with all their attempts; returns how many."""
    dead = Outbox.objects.filter(state=Outbox.State.DEAD)
    if ids is not None:
        dead = dead.filter(pk__in=list(ids))
    return dead.update(state=Outbox.State.PENDING, attempts=0, next_attempt_at=now, lease=None, leased_until=None)


def send_notifications(*, now: datetime, budget_seconds: float = 1.0) -> int:
    """Sends due mails until none is left or the time is up; returns how many were sent.

    Urgent ones first, then what was held for its time is let go, then the others; what falls into its reader's quiet
    hours is held until they end. At least once: a worker that dies between sending and writing leaves a lease that
    runs out; the repeat carries the same Message-ID. A refusal for good makes a dead letter at once, anything else is
    tried again with growing pauses. When the server is out of reach the rest waits for the next tick.
    """
    deadline = time.monotonic() + budget_seconds
    server = get_connection()  # opens nothing yet
    try:
        sent, is_reached = _send_due(server, now=now, deadline=deadline, kinds=Q(kind__in=sorted(URGENT)))
        let_go(now=now, deadline=deadline)
        if is_reached:
            sent += _send_due(server, now=now, deadline=deadline)[0]
    finally:
        _close(server)
    return sent


def _send_due(server: BaseEmailBackend, *, now: datetime, deadline: float, kinds: Q | None = None) -> tuple[int, bool]:
    """Sends what is due of these kinds (None: of all); how many were sent, and whether the server is in reach."""
    sent = 0
    while time.monotonic() < deadline:
        row = _claim(now, kinds or Q())
        if row is None:
            break
        if later := quiet_until(row, now):
            _hold(row, later)
            continue
        failpoint("mail.claimed")
        error = _send(row, server)
        failpoint("mail.sent")
        _write_result(row, error, now)
        failpoint("mail.marked")
        if error is None:
            sent += 1
        elif not isinstance(error, MESSAGE_ERRORS):
            return sent, False
    return sent, True


def _claim(now: datetime, kinds: Q) -> Outbox | None:
    """Takes the mail that has been due for the longest time, with a lease; None when none is due.

    What its reader has switched off since, and all of a reader who has left, stays in the portal instead.
    """
    free = Q(leased_until__isnull=True) | Q(leased_until__lte=now)
    due = Outbox.objects.filter(free, kinds, state=Outbox.State.PENDING, next_attempt_at__lte=now)
    chosen = NoticePreference.objects.filter(person=OuterRef("recipient"), kind=OuterRef("kind"))
    # Each look takes its row out of what is due: it is ours, another's by now, or stays in the portal.
    while (pk := due.order_by("next_attempt_at", "pk").values_list("pk", flat=True).first()) is not None:
        lease = uuid.uuid4()
        if not due.filter(pk=pk).update(lease=lease, leased_until=now + LEASE, attempts=F("attempts") + 1):
            continue
        claimed = Outbox.objects.filter(pk=pk, lease=lease).annotate(chosen=Subquery(chosen.values("mail")[:1]))
        row = claimed.select_related("recipient__notice_hours").get()
        if not gets_mails(row.recipient):
            keep_in_portal(row.recipient_id)
        elif row.chosen == Mail.NEVER:
            claimed.update(state=Outbox.State.PORTAL_ONLY, lease=None, leased_until=None)
        else:
            return row
    return None


def _hold(row: Outbox, until: datetime) -> None:
    """Puts it back until the quiet hours are over; that was no attempt."""
    Outbox.objects.filter(pk=row.pk, lease=row.lease).update(
        state=Outbox.State.HELD, next_attempt_at=until, attempts=F("attempts") - 1, lease=None, leased_until=None
    )


def _send(row: Outbox, server: BaseEmailBackend) -> Exception | None:
    """Sends one mail; None, or why it was not sent."""
    try:
        mail = compose(row, server)
    except ValueError as error:
        return error
    except Exception as error:
        return CannotBeWrittenError(f"{type(error).__name__}: {error}")
    try:
        server.open()
        mail.send()
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
