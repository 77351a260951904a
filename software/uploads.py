"""Uploads in pieces that can be gone on with: begin, send pieces in order, ask how far it is, finish.

A piece counts once it is on disk for certain. What a cut connection or a killed process left beyond that is cut off
before the next piece. A lock on the file lets one writer in; the row says how far it is.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Sum
from django.utils.translation import gettext as _

from software import pieces
from software.models import Artifact, Upload, Version
from software.services import MANAGE, check_may_store, store_received
from software.storage import DISK_FULL, StorageFull, check_limit, measure_file
from tickets.exceptions import ConditionRefused, InvalidInput, TransitionRefused
from tickets.lifecycle import check_permission

# What nobody goes on with for so long is thrown away.
ABANDONED = timedelta(days=1)
MOST_OPEN = 20


def begin_upload(
    *,
    actor: Any,
    now: datetime,
    version: Version,
    filename: str,
    size: int,
    sha256: str = "",
    format: str = "",
    more: bool = False,
) -> Upload:
    """Announces a file of a version. Refuses what the version could not take, and what would not fit on the disk."""
    check_permission(actor, MANAGE, _("upload software"))
    check_may_store(version, actor=actor, now=now, filename=filename, format=format)
    check_limit(size)
    sweep_uploads(now=now)
    under_way = Upload.objects.filter(artifact__isnull=True)
    if under_way.filter(created_by=actor).count() >= MOST_OPEN:
        raise ConditionRefused(_("You have %d uploads under way. Finish or remove some first.") % MOST_OPEN)
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    promised = under_way.aggregate(n=Sum(F("size") - F("received")))["n"] or 0
    if shutil.disk_usage(folder).free < promised + size:
        raise StorageFull(_("The media library has no room for this file. Make room, then upload it."))
    upload = Upload.objects.create(
        version=version,
        filename=filename,
        size=size,
        sha256=sha256.lower(),
        format=format,
        more=more,
        token=secrets.token_hex(16),
        created_by=actor,
        created_at=now,
        updated_at=now,
    )
    _path(upload).touch(mode=0o600)
    return upload


def write_piece(upload: Upload, *, actor: Any, now: datetime, offset: int, stream: Any) -> Upload:
    """Appends a piece that begins at `offset`, which must be how far the upload is (`ConditionRefused`, code
    offset_mismatch, with the right one in its detail).

    What arrived before a connection broke counts. Refuses while another piece is being written (code upload_busy), a
    piece beyond the announced size, and a full disk, after which the upload is as before.
    """
    check_permission(actor, MANAGE, _("upload software"))
    with _held(upload) as file:
        if upload.artifact_id is not None:
            raise TransitionRefused(_("This upload is finished."))
        if offset != upload.received:
            raise pieces.mismatch(upload.received)
        try:
            end = pieces.append(file, stream, begin=upload.received, size=upload.size)
        except OSError as error:
            pieces.cut_to(file, upload.received)
            if error.errno in DISK_FULL:
                raise StorageFull(_("The media library is full. Make room, then go on with the upload.")) from error
            raise
        except InvalidInput as error:
            if error.code != "upload_cut":
                pieces.cut_to(file, upload.received)
                raise
            # The sender went away: what came counts, and he can ask how far it is.
            _record(file, upload, file.tell(), now)
            raise
        _record(file, upload, end, now)
    return upload


def _record(file: IO[bytes], upload: Upload, end: int, now: datetime) -> None:
    os.fsync(file.fileno())
    rows = Upload.objects.filter(pk=upload.pk, received=upload.received, artifact__isnull=True)
    if not rows.update(received=end, updated_at=now):
        raise pieces.mismatch(upload.received)
    upload.received, upload.updated_at = end, now


def finish_upload(upload: Upload, *, actor: Any, now: datetime, sha256: str = "", as_it_is: bool = False) -> Artifact:
    """Makes the file an artifact of its version once all of it is there and has the SHA-256 that was announced here or
    at the beginning; `as_it_is` takes what arrived as right where none was. A repetition returns the same artifact.

    Refuses what is not complete (code upload_incomplete). With another SHA-256 (hash_mismatch) everything is thrown
    away, and the upload begins anew.
    """
    check_permission(actor, MANAGE, _("upload software"))
    expected = (sha256 or upload.sha256).lower()
    if not expected and not as_it_is:
        raise InvalidInput(_("Say which SHA-256 the file must have."), field="sha256")
    with _held(upload) as file:
        if upload.artifact is not None:
            return upload.artifact
        if upload.received != upload.size:
            text = _("%(left)d bytes are missing.") % {"left": upload.size - upload.received}
            raise ConditionRefused(text, code="upload_incomplete", detail={"offset": upload.received})
        received = measure_file(_path(upload))
        if (received.size, received.sha256) != (upload.size, expected or received.sha256):
            pieces.cut_to(file, 0)
            Upload.objects.filter(pk=upload.pk).update(received=0, updated_at=now)
            text = _("The file's SHA-256 is %(found)s, not the one that was given. Upload the right file again.")
            raise InvalidInput(text % {"found": received.sha256}, field="sha256", code="hash_mismatch")
        with transaction.atomic():
            artifact = store_received(
                upload.version,
                actor=actor,
                now=now,
                filename=upload.filename,
                format=upload.format,
                received=received,
                more=upload.more,
            )
            Upload.objects.filter(pk=upload.pk).update(artifact=artifact, updated_at=now)
        upload.artifact = artifact
        _path(upload).unlink(missing_ok=True)  # there still when the library had the file already
    return artifact


def abandon_upload(upload: Upload, *, actor: Any) -> None:
    """Removes an upload and what came of it; an artifact that it became stays."""
    check_permission(actor, MANAGE, _("upload software"))
    upload.delete()
    _path(upload).unlink(missing_ok=True)


def sweep_uploads(*, now: datetime) -> int:
    """Removes uploads that nobody went on with for a day, and files without an upload. How many."""
    old = Upload.objects.filter(updated_at__lte=now - ABANDONED)
    swept = 0
    for upload in old:
        # Not the one that is being written or finished just now.
        with contextlib.suppress(ConditionRefused), _held(upload):
            if upload.updated_at <= now - ABANDONED:
                abandon_upload(upload, actor=None)
                swept += 1
    return swept + _sweep_files(now)


def _sweep_files(now: datetime) -> int:
    swept = 0
    for path in _folder().glob("*.upload"):
        with contextlib.suppress(OSError):
            is_old = path.stat().st_mtime < (now - ABANDONED).timestamp()
            if is_old and not Upload.objects.filter(token=path.stem).exists():
                path.unlink()
                swept += 1
    return swept


def _folder() -> Path:
    return Path(settings.MEDIA_ROOT) / "dml" / "incoming"


def _path(upload: Upload) -> Path:
    return _folder() / f"{upload.token}.upload"


@contextmanager
def _held(upload: Upload) -> Iterator[IO[bytes]]:
    """The upload's file, locked, not longer than what counts; the instance is read again."""
    with pieces.locked(_path(upload)) as file:
        try:
            upload.refresh_from_db()
        except Upload.DoesNotExist:
            _path(upload).unlink(missing_ok=True)
            raise TransitionRefused(_("This upload was removed. Begin anew.")) from None
        if upload.artifact_id is not None:
            _path(upload).unlink(missing_ok=True)
        elif (there := pieces.keep(file, upload.received)) < upload.received:
            # The disk lost something: it goes on from there.
            Upload.objects.filter(pk=upload.pk).update(received=there)
            upload.received = there
        yield file
