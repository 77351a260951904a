"""A notice as a mail: threads, Message-ID, and both bodies."""

import hashlib
import re
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core import signing
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.template.loader import render_to_string
from django.utils import timezone, translation

from notifications.kinds import MANDATORY, Kind
from notifications.models import Outbox
from notifications.timing import zone_of

# Pages of the portal; mails know nothing else of it.
PREFERENCES_PATH = "/notices/preferences/"
UNSUBSCRIBE_PATH = "/unsubscribe/"
# Nothing else is signed with it.
UNSUBSCRIBE_SALT = "notifications.unsubscribe"
# An address in a mail that was forwarded or leaked does not work for ever.
UNSUBSCRIBE_MAX_AGE = timedelta(days=365)
MOST_IN_A_DIGEST = 100


def _domain() -> str:
    """The right side of our ids: only characters that a Message-ID may hold, whatever the portal's host is."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", settings.MESSAGE_ID_DOMAIN).strip(".-") or "localhost"


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()[:32]


def message_id(event: str, recipient_id: int, thread: str) -> str:
    """Derived from the outbox key: a mail that goes out twice is recognisable as one."""
    return f"<{_digest(event, recipient_id, thread)}@{_domain()}>"


def thread_id(thread: str) -> str:
    """What all mails of a thread refer to, so that mail programs group them."""
    return f"<thread-{_digest(thread)}@{_domain()}>"


def language_of(user: object) -> str:
    """The person's language if the portal speaks it."""
    wanted = str(getattr(user, "language", ""))
    return wanted if wanted in dict(settings.LANGUAGES) else settings.LANGUAGE_CODE


def gets_mails(person: Any) -> bool:
    """Whether mails go out to the person at all: he has an address and has not left."""
    return bool(person.email) and bool(person.is_active)


def compose(row: Outbox, mail_connection: BaseEmailBackend) -> EmailMultiAlternatives:
    """The mail of an outbox row, in the recipient's language, with an HTML alternative in which all text is escaped."""
    language = language_of(row.recipient)
    stop = _way_to_stop(row)
    context = {
        "row": row,
        "paragraphs": paragraphs_of(row.text),
        "url": f"{settings.PORTAL_URL}{row.path}" if row.path else "",
        "preferences_url": f"{settings.PORTAL_URL}{PREFERENCES_PATH}",
        "stop_url": stop,
        "language": language,
        "portal_url": settings.PORTAL_URL,
    }
    template = "mail"
    if row.kind == Kind.DIGEST:
        template = "digest"
        bundled = row.bundled.order_by("thread", "pk")
        notices = [(notice, " ".join(notice.text.split())) for notice in bundled[:MOST_IN_A_DIGEST]]
        context |= {"count": bundled.count(), "notices": notices}
    with translation.override(language), timezone.override(zone_of(row.recipient)):
        text = render_to_string(f"notifications/{template}.txt", context)
        html = row.html or render_to_string(f"notifications/{template}.html", context)
    root = thread_id(row.thread)
    headers = {
        "Message-ID": message_id(row.event, row.recipient_id, row.thread),
        "In-Reply-To": root,
        "References": root,
        "Auto-Submitted": "auto-generated",
        "List-Unsubscribe": f"<{stop or context['preferences_url']}>",
    }
    if stop:
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail = EmailMultiAlternatives(
        subject=row.subject, body=text, to=[row.recipient.email], headers=headers, connection=mail_connection
    )
    mail.attach_alternative(html, "text/html")
    return mail


def paragraphs_of(text: str) -> list[str]:
    """What empty lines separate."""
    return [paragraph for paragraph in re.split(r"\n\s*\n", text.strip()) if paragraph]


def unsubscribe_token(person_id: int, kind: str) -> str:
    """What an address in a mail of this kind carries to switch such mails off, without signing in."""
    return signing.dumps([person_id, kind], salt=UNSUBSCRIBE_SALT)


def _way_to_stop(row: Outbox) -> str:
    """The address that switches mails of this kind off; empty where nobody may, or where the reader chose a digest."""
    if row.kind in MANDATORY or row.kind == Kind.DIGEST:
        return ""
    return f"{settings.PORTAL_URL}{UNSUBSCRIBE_PATH}{unsubscribe_token(row.recipient_id, row.kind)}/"
