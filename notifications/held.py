"""Mails that wait for their time: the end of quiet hours, or a digest.

What is held stays a row of the outbox. A digest is one more row, written in the transaction that marks what is in it:
it goes out by the same door, as often and as recognisable as any mail.
"""

import logging
import time as clock
from datetime import datetime, time
from typing import Any

from django.db import transaction
from django.utils import translation
from django.utils.translation import ngettext

from notifications.kinds import URGENT, Kind, Mail
from notifications.mail import gets_mails, language_of
from notifications.models import NoticeHours, Outbox
from notifications.timing import end_of_quiet, next_digest, zone_of

logger = logging.getLogger(__name__)

PEOPLE_AT_ONCE = 100
ROWS_A_STATEMENT = 1000


def hours_of(person: Any) -> NoticeHours:
    """The person's hours, or those of people who chose none."""
    return getattr(person, "notice_hours", None) or NoticeHours(person=person, digest_at=time(8))


def quiet_until(row: Outbox, now: datetime) -> datetime | None:
    """When the quiet hours of its reader end; None when it may go out now, because it is none or it is urgent."""
    if row.kind in URGENT:
        return None
    hours = hours_of(row.recipient)
    return end_of_quiet(now, hours.quiet_from, hours.quiet_until, zone_of(row.recipient))


def let_go(*, now: datetime, deadline: float) -> int:
    """Moves what is held and due: into the queue, into a digest, or to the time it really has; returns how many rows.

    What a person chose last decides, also for what waits already; who has left gets no mail at all. People whose rows
    another worker holds are left to it, and those who are not reached before `deadline` (of `time.monotonic`) to the
    next round. What fails for one person is logged, waits for the next round, and keeps nobody else waiting.
    """
    due = Outbox.objects.filter(state=Outbox.State.HELD, next_attempt_at__lte=now)
    moved = 0
    for key in list(due.order_by().values_list("recipient", flat=True).distinct()[:PEOPLE_AT_ONCE]):
        if clock.monotonic() >= deadline:
            break
        rows = due.filter(recipient=key).select_related("recipient__notice_hours").defer("text", "html").order_by("pk")
        try:
            with transaction.atomic():
                moved += _let_go_of(list(rows.select_for_update(of=("self",), skip_locked=True)), now)
        except Exception:
            logger.exception("What is held for user %s waits for the next round.", key)
    return moved


def _let_go_of(rows: list[Outbox], now: datetime) -> int:
    """Moves the due rows of one person."""
    if not rows:
        return 0
    person = rows[0].recipient
    if not gets_mails(person):
        return keep_in_portal(person.pk)
    hours, zone = hours_of(person), zone_of(person)
    chosen = dict(person.notice_preferences.values_list("kind", "mail"))
    digests: dict[str, list[Outbox]] = {}
    others: list[Outbox] = []
    for row in rows:
        mail = chosen.get(row.kind, Mail.NOW)
        if mail in (Mail.DAILY, Mail.WEEKLY):
            at = next_digest(row.created_at, mail, hours.digest_at, hours.digest_weekday, zone)
            if at <= now:
                digests.setdefault(mail, []).append(row)
                continue
            row.next_attempt_at = at
        else:
            row.state = Outbox.State.PORTAL_ONLY if mail == Mail.NEVER else Outbox.State.PENDING
        others.append(row)
    Outbox.objects.bulk_update(others, ["state", "next_attempt_at"], batch_size=ROWS_A_STATEMENT)
    for period, bundle in digests.items():
        _write_digest(person, period, bundle, now)
    return len(rows)


def keep_in_portal(recipient: int) -> int:
    """Takes all that waits for a person out of the mails, in one statement; returns how many rows."""
    waiting = Outbox.objects.filter(recipient=recipient, state__in=[Outbox.State.PENDING, Outbox.State.HELD])
    return waiting.update(state=Outbox.State.PORTAL_ONLY, lease=None, leased_until=None)


def _write_digest(person: Any, period: str, bundle: list[Outbox], now: datetime) -> None:
    """One mail for all of them; the first one names it, because no row is ever in two."""
    count = len(bundle)
    with translation.override(language_of(person)):
        subject = ngettext("%(n)d notice", "%(n)d notices", count) % {"n": count}
    digest = Outbox.objects.create(
        event=f"digest:{period}:{bundle[0].pk}",
        recipient=person,
        thread="digest",
        kind=Kind.DIGEST,
        subject=f"[digest] {subject}",
        text="",
        path="/notices/",
        next_attempt_at=now,
        created_at=now,
        read_at=now,
    )
    Outbox.objects.filter(pk__in=[row.pk for row in bundle]).update(state=Outbox.State.BUNDLED, digest=digest)
