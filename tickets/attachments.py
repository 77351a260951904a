"""Files on tickets: taken in, bound to the entry that names them, removed, and cleaned up.

A file's row is written before its bytes and deleted after them, so that no file lies in the storage without a row.
"""

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import Storage, storages
from django.db import transaction
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.language import portal_language
from tickets.content_types import HEAD, content_type_of
from tickets.exceptions import DomainError, InvalidInput, PermissionRefused
from tickets.models import Attachment, EntryKind, TimelineEntry
from tickets.text import as_data
from tickets.timeline import sees_notes

MOST_FILES = 10
# What somebody has sent without a comment that was taken.
MOST_WAITING = 50
WAITS_FOR = timedelta(days=1)
LONGEST_NAME = 120
_BLOCK = 256 * 1024


class FilesFull(DomainError):
    """The storage of files did not take one (HTTP 507)."""

    code = "storage_full"
    status = 507


def storage() -> Storage:
    """Files lie where the media library's do, in a folder of their own."""
    return storages["artifacts"]


def most_bytes() -> int:
    """What one request with files may weigh: as many as are taken at once, and the form around them."""
    return MOST_FILES * int(settings.ATTACHMENT_MAX_BYTES) + 1024 * 1024


def safe_name(name: str) -> str:
    """The last part of a name without what hides or tricks: folders, control characters, turned writing."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(one for one in name if unicodedata.category(one)[0] != "C")
    name = re.sub(r'[<>:"|?*\s]+', " ", name).strip(" .")
    if len(name) > LONGEST_NAME:
        ending = PurePosixPath(name).suffix[:16]
        name = name[: LONGEST_NAME - len(ending)] + ending
    return name or "file"


def receive(upload: Any, *, actor: Any, now: datetime) -> Attachment:
    """Stores a file that waits for its comment. Refuses an empty, a cut and a too large one (`InvalidInput`), more than
    `MOST_WAITING` of one person, and a full disk (`FilesFull`). To be called outside a transaction: it stays.
    """
    name = safe_name(str(upload.name or ""))
    if upload.size > settings.ATTACHMENT_MAX_BYTES:
        most = filesizeformat(settings.ATTACHMENT_MAX_BYTES)
        text = _("%(name)s is larger than %(most)s. Send a smaller one, or put it on a share and name that.")
        raise InvalidInput(text % {"name": name, "most": most}, field="files", code="file_too_large")
    if not upload.size:
        text = _("%(name)s is empty. Choose the right file.")
        raise InvalidInput(text % {"name": name}, field="files", code="empty_file")
    if Attachment.objects.filter(uploader=actor, attached_at=None, removed_at=None).count() >= MOST_WAITING:
        text = _("Too many files of yours wait for a comment. Send it, or come back tomorrow.")
        raise InvalidInput(text, field="files", code="too_many_files")
    row = Attachment.objects.create(
        name=name, file=f"attachments/{secrets.token_hex(1)}/{secrets.token_hex(24)}", uploader=actor, created_at=now
    )
    digest, size, head = hashlib.sha256(), 0, b""
    for block in upload.chunks(_BLOCK):
        head = head or block[:HEAD]
        digest.update(block)
        size += len(block)
    try:
        stored = storage().save(row.file, File(upload.file))
    except OSError as error:
        raise FilesFull(_("There is no room for files now; nothing was stored. Tell an administrator.")) from error
    Attachment.objects.filter(pk=row.pk).update(
        file=stored, size=size, sha256=digest.hexdigest(), content_type=content_type_of(head)
    )
    row.refresh_from_db()
    return row


def discard(attachment: Attachment) -> None:
    """Deletes a file that no entry has."""
    storage().delete(attachment.file)
    attachment.delete()


def waiting(keys: Iterable[int], *, actor: Any) -> list[Attachment]:
    """Those among the keys that this person has sent and no comment has yet."""
    return list(Attachment.objects.filter(pk__in=list(keys), uploader=actor, attached_at=None, removed_at=None))


def attach(entry: TimelineEntry, files: Sequence[Attachment], *, actor: Any, now: datetime) -> None:
    """Makes files that wait part of an entry, each once. Refuses too many, and what was sent or removed meanwhile."""
    if not files:
        return
    if len(files) > MOST_FILES:
        text = _("At most %(most)d files at once. Send the others with another comment.")
        raise InvalidInput(text % {"most": MOST_FILES}, field="files", code="too_many_files")
    keys = {file.pk for file in files}
    rows = Attachment.objects.filter(pk__in=keys, uploader=actor, attached_at=None, removed_at=None).exclude(sha256="")
    if rows.update(attached_at=now) != len(keys):
        raise InvalidInput(_("A file was sent already. Choose it again."), field="files", code="file_gone")
    entry.attachments.add(*keys)


def find(ticket: Any, key: int, *, user: Any) -> tuple[Attachment, TimelineEntry] | None:
    """A file of this ticket and its entry, if the person may read that entry; he sees the ticket."""
    entries = ticket.entries.filter(attachments=key).select_related("author")
    if not sees_notes(ticket, user):
        entries = entries.filter(is_public=True)
    entry = entries.first()
    return (Attachment.objects.select_related("uploader").get(pk=key), entry) if entry is not None else None


def files_of(ticket: Any, *, user: Any) -> Any:
    """The files on a ticket that the person may read, oldest first."""
    entries = ticket.entries.all() if sees_notes(ticket, user) else ticket.entries.filter(is_public=True)
    through = type(ticket).entries.rel.related_model.attachments.through
    keys = through._default_manager.filter(**{f"{entries.model._meta.model_name}__in": entries.order_by()})
    return Attachment.objects.filter(pk__in=keys.values("attachment_id")).select_related("uploader").order_by("id")


def may_remove(ticket: Any, user: Any, attachment: Attachment) -> bool:
    """Those who work on such tickets, and who sent it."""
    return attachment.uploader_id == user.pk or works_on(ticket, user)


def works_on(ticket: Any, user: Any) -> bool:
    return any(user.has_perm(right) for right in type(ticket).WORKERS)


def remove(ticket: Any, key: int, *, actor: Any, now: datetime) -> None:
    """Takes a file off the ticket; the timeline says which one and by whom. Its bytes go with the next clean-up."""
    with transaction.atomic():
        found = find(ticket, key, user=actor)
        if found is None:
            return
        attachment, entry = found
        if not may_remove(ticket, actor, attachment):
            raise PermissionRefused(_("Only those who work on the ticket and who sent a file remove it."))
        if not Attachment.objects.filter(pk=key, removed_at=None).update(removed_at=now):
            return
        entry.attachments.remove(attachment)
        ticket.entries.create(
            kind=EntryKind.SYSTEM,
            is_public=entry.is_public,
            text=_removed_text(attachment),
            author=actor,
            created_at=now,
        )


@portal_language()
def _removed_text(attachment: Attachment) -> str:
    return _("Removed the file %(name)s (%(size)s, SHA-256 %(digest)s).") % {
        "name": as_data(attachment.name),
        "size": filesizeformat(attachment.size),
        "digest": as_data(attachment.sha256),
    }


def address_of(ticket: Any, attachment: Attachment) -> str:
    """Where it is fetched."""
    return reverse("ticket_file", args=[ticket.number, attachment.pk])


def told_text(ticket: Any, entry: TimelineEntry) -> str:
    """What an entry says, and which files came with it and where they are: for notices."""
    lines = [
        f"{file.name} ({filesizeformat(file.size)}): {settings.PORTAL_URL}{address_of(ticket, file)}"
        for file in entry.attachments.all()
    ]
    return "\n\n".join(part for part in (entry.text, "\n".join(lines)) if part)


def forget_files(*, now: datetime, limit: int = 500) -> int:
    """Deletes what was removed, and what has waited for a comment too long; returns how many."""
    rows = Attachment.objects.filter(attached_at=None, created_at__lt=now - WAITS_FOR)
    gone = [*rows[:limit], *Attachment.objects.filter(removed_at__isnull=False)[:limit]]
    for row in gone:
        if row.removed_at is None and not rows.filter(pk=row.pk).update(removed_at=now):
            continue  # it was sent just now
        discard(row)
    return len(gone)
