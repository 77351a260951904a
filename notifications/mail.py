"""A notice as a mail: threads, Message-ID, and both bodies."""

import hashlib
import re

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.template.loader import render_to_string
from django.utils import translation

from notifications.models import Outbox


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


def compose(row: Outbox, mail_connection: BaseEmailBackend) -> EmailMultiAlternatives:
    """The mail of an outbox row, in the recipient's language, with an HTML alternative in which all text is escaped."""
    language = language_of(row.recipient)
    context = {
        "row": row,
        "paragraphs": [p for p in re.split(r"\n\s*\n", row.text.strip()) if p],
        "url": f"{settings.PORTAL_URL}{row.path}" if row.path else "",
        "language": language,
    }
    with translation.override(language):
        text = render_to_string("notifications/mail.txt", context)
        html = row.html or render_to_string("notifications/mail.html", context)
    root = thread_id(row.thread)
    mail = EmailMultiAlternatives(
        subject=row.subject,
        body=text,
        to=[row.recipient.email],
        headers={
            "Message-ID": message_id(row.event, row.recipient_id, row.thread),
            "In-Reply-To": root,
            "References": root,
            "Auto-Submitted": "auto-generated",
        },
        connection=mail_connection,
    )
    mail.attach_alternative(html, "text/html")
    return mail
