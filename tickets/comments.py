"""What people say on a ticket, with the files that they send along, and who is told of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from notifications.kinds import Kind
from tickets.attachments import attach, told_text
from tickets.exceptions import PermissionRefused
from tickets.mentions import tell_mentioned
from tickets.models import Attachment, EntryKind, TimelineEntry
from tickets.notices import concerned, tell
from tickets.services import required, write_entry


def may_comment(ticket: Any, actor: Any, *permissions: str) -> bool:
    """Whoever may work on the ticket, and whoever it concerns: requester, author, assignee, watchers."""
    if any(actor.has_perm(permission) for permission in permissions):
        return True
    if actor.pk in (ticket.requester_id, ticket.created_by_id, ticket.assignee_id):
        return True
    return bool(ticket.watchers.filter(pk=actor.pk).exists())


def write_comment(
    ticket: Any,
    *,
    actor: Any,
    now: datetime,
    text: str,
    public: bool,
    permissions: tuple[str, ...],
    is_concerned: bool = False,
    files: Sequence[Attachment] = (),
) -> TimelineEntry:
    """Writes a comment, or with `public=False` a note among those with one of `permissions`.

    People whom it mentions (`@name`) are told, if they may read it. `is_concerned` lets somebody in whom only the
    process knows. `files` wait for it (`attachments.receive`). Refuses an empty text without files (`InvalidInput`),
    and with `PermissionRefused` people whom the ticket does not concern.
    """
    if public and not is_concerned and not may_comment(ticket, actor, *permissions):
        raise PermissionRefused(_("You may comment only on tickets that concern you."))
    if not public and not any(actor.has_perm(permission) for permission in permissions):
        raise PermissionRefused(_("Internal notes are for those who work on the ticket. Write a comment instead."))
    kind = EntryKind.COMMENT if public else EntryKind.NOTE
    entry = write_entry(
        ticket,
        kind=kind,
        actor=actor,
        now=now,
        text=text.replace("\0", "").strip() if files else required(text, "text", _("Write something.")),
        public=public,
    )
    assert entry is not None
    attach(entry, files, actor=actor, now=now)
    tell_mentioned(ticket, entry, actor=actor, now=now)
    return entry


def tell_comment(ticket: Any, entry: TimelineEntry, *, actor: Any, now: datetime) -> None:
    """Those concerned are told what somebody said, and which files came with it."""
    tell(
        ticket,
        event=f"{type(ticket)._meta.model_name}:{ticket.pk}:comment:{entry.pk}",
        recipients=concerned(ticket, assignee=True),
        actor=actor,
        now=now,
        headline=lambda: _("comment"),
        text=told_text(ticket, entry),
        kind=Kind.COMMENT,
    )


def comment_ticket(
    ticket: Any, *, actor: Any, now: datetime, text: str, public: bool, files: Sequence[Attachment]
) -> TimelineEntry:
    """Writes a comment, of which those concerned are told, or with `public=False` a note; see `write_comment`."""
    said: dict[str, Any] = {"text": text, "public": public, "files": files}
    with transaction.atomic():
        entry = write_comment(ticket, actor=actor, now=now, permissions=type(ticket).WORKERS, **said)
        if public:
            tell_comment(ticket, entry, actor=actor, now=now)
    return entry
