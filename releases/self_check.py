"""The portal checks its own invariants from time to time, keeps what it found, and calls people when something is new.

It reads one snapshot of the database, so that what moves meanwhile is no violation, and takes at most one hundredth of
the time: a check that took a minute is due again after a hundred.
"""

import logging
import time
from datetime import datetime, timedelta

from django.db import DatabaseError, connection, transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import User
from notifications.kinds import Kind
from notifications.services import notify
from releases.invariants import check_invariants
from releases.models import SelfCheck

logger = logging.getLogger(__name__)
LEAST_PAUSE = timedelta(minutes=9)
TIMES_ITS_DURATION = 100
KEEP = timedelta(days=90)
STATEMENT_SECONDS = 600
ADMINISTRATORS = "administrator"
MOST_LINES = 20
_LOCK = 7_240_116  # of the database, for one self-check at a time


def check_when_due(*, now: datetime) -> SelfCheck | None:
    """Checks unless it is too early, or somebody else is at it."""
    last = SelfCheck.objects.first()
    if last is not None and now < last.started_at + max(
        LEAST_PAUSE, timedelta(seconds=last.seconds) * TIMES_ITS_DURATION
    ):
        return None
    return check(now=now)


def check(*, now: datetime) -> SelfCheck | None:
    """Checks, stores the result and tells administrators what the check before had not found. None: somebody else does.

    The stored files of the media library are not read: they are compared before they are served.
    """
    began, violations, error = time.monotonic(), [], ""
    try:
        with transaction.atomic():
            if not _snapshot():
                return None
            violations = [{"invariant": v.invariant, "text": v.text} for v in check_invariants(files=False)]
    except DatabaseError as problem:
        error = f"{type(problem).__name__}: {problem}"
        logger.exception("the self-check could not be finished")
    with transaction.atomic():
        last = SelfCheck.objects.first()
        known = [] if last is None else last.violations
        result = SelfCheck.objects.create(
            started_at=now, seconds=time.monotonic() - began, violations=violations, error=error
        )
        new = [violation for violation in violations if violation not in known]
        if new or (error and not (last and last.error)):
            _call(result, new, now)
        SelfCheck.objects.filter(started_at__lt=now - KEEP, violations=[], error="").delete()
    return result


def _snapshot() -> bool:
    """Begins to read one state of the database, with time for long statements; False: somebody else checks just now."""
    with connection.cursor() as cursor:
        if len(connection.savepoint_ids) == 0:  # a test's transaction is under way already
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        return bool(cursor.fetchone()[0])


def _call(result: SelfCheck, new: list[dict[str, str]], now: datetime) -> None:
    """One notice to each administrator with everything that is new."""
    count = len(new)
    subject = ngettext("The self-check found %(n)d violation", "The self-check found %(n)d violations", count)
    if not new:
        subject = _("The self-check could not be finished")
    lines = [f"{violation['invariant']}: {violation['text']}" for violation in new[:MOST_LINES]]
    lines += [_("… and %d more") % (count - MOST_LINES)] if count > MOST_LINES else []
    text = "\n".join([*lines, *([result.error] if result.error else [])])
    for violation in new:
        logger.error("invariant %s is broken: %s", violation["invariant"], violation["text"])
    for person in User.objects.filter(is_active=True, groups__name=ADMINISTRATORS).order_by("pk"):
        notify(
            event=f"self-check:{result.pk}",
            recipient=person,
            thread="operations",
            subject=subject % {"n": count} if new else subject,
            text=text,
            path="/operations/",
            now=now,
            kind=Kind.OPERATIONS,
        )
