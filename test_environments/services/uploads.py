"""Disk images that people upload: in pieces that can be gone on with, into the folder shared with the test host.

A piece counts once it is on disk for certain; the row says how far it is. The file is looked at by the test host only.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Sum
from django.utils.translation import gettext as _

from accounts import language
from cmdb.models import ConfigurationItem
from software import pieces
from software.storage import DISK_FULL, StorageFull
from test_environments.drivers.receiving import FORMATS
from test_environments.models import CopySource, DiskReception, GoldenImage
from test_environments.services.log import log
from test_environments.services.receptions import MANAGE, check_order, create_reception
from tickets.exceptions import ConditionRefused, InvalidInput, TransitionRefused
from tickets.lifecycle import check_permission, move

State = DiskReception.State
# Kept free for everything else on that disk.
_RESERVE = 256 * 1024**2


def begin_disk_upload(
    ci: ConfigurationItem,
    *,
    actor: Any,
    now: datetime,
    reason: str,
    filename: str,
    size: int,
    expected_sha256: str = "",
    hours: int = 24,
    conversion: str = GoldenImage.Conversion.KEEP,
) -> DiskReception:
    """Announces a disk image of `size` bytes. The ending of the name says its format; nothing is guessed.

    Refuses: without the right; a CI that was not released for this; a second one while another is open; what is too
    large, or would not fit.
    """
    source = check_order(ci, actor=actor, reason=reason, hours=hours)
    if source.method != CopySource.Method.UPLOAD:
        raise ConditionRefused(
            _("%(ci)s is not released for an upload, but for: %(method)s.")
            % {"ci": ci, "method": source.get_method_display()}
        )
    format_ = FORMATS.get(Path(filename).suffix.lower())
    if format_ is None:
        text = _("The name must end in one of %(endings)s.") % {"endings": ", ".join(FORMATS)}
        raise InvalidInput(text, field="filename")
    if not 0 < size <= settings.TEST_ENVIRONMENT_UPLOAD_MAX_BYTES:
        text = _("Between 1 and %(most)d bytes.") % {"most": settings.TEST_ENVIRONMENT_UPLOAD_MAX_BYTES}
        raise InvalidInput(text, field="size", code="file_too_large")
    folder = Path(settings.TEST_ENVIRONMENT_EXCHANGE)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    expected = DiskReception.objects.filter(method=DiskReception.Method.UPLOAD, state__in=DiskReception.EXPECTED)
    promised = expected.aggregate(left=Sum(F("size") - F("received_bytes")))["left"] or 0
    if shutil.disk_usage(folder).free < promised + size + _RESERVE:
        raise StorageFull(_("There is no room for this image. Make room, then upload it."))
    return create_reception(
        ci, actor=actor, now=now, reason=reason, hours=hours, method=DiskReception.Method.UPLOAD, format=format_,
        state=State.WAITING, size=size, expected_sha256=expected_sha256.lower(), conversion=conversion,
    )  # fmt: skip


def upload_path(reception: DiskReception) -> Path:
    """Where its bytes are."""
    return Path(settings.TEST_ENVIRONMENT_EXCHANGE) / f"{reception.uuid}.upload"


def write_disk_piece(reception: DiskReception, *, actor: Any, now: datetime, offset: int, stream: Any) -> DiskReception:
    """Appends a piece that begins at `offset`, which must be how far the upload is (code offset_mismatch).

    With the last one the test host takes over. Refuses beyond the announced size, while another piece is written, and
    when it is not expected; a full disk leaves it as it was.
    """
    check_permission(actor, MANAGE, _("upload a disk image"))
    if reception.method != DiskReception.Method.UPLOAD:
        raise ConditionRefused(_("%(number)s comes by a capture medium.") % {"number": reception})
    with _held(reception) as file:
        if reception.state not in {State.WAITING, State.RECEIVING}:
            raise TransitionRefused(
                _("%(number)s is “%(state)s”.") % {"number": reception, "state": reception.get_state_display()}
            )
        if offset != reception.received_bytes:
            raise pieces.mismatch(reception.received_bytes)
        before, cut = reception.received_bytes, None
        try:
            end = pieces.append(file, stream, begin=before, size=reception.size)
        except OSError as error:
            pieces.cut_to(file, before)
            if error.errno in DISK_FULL:
                raise StorageFull(_("The disk is full. Make room, then go on with the upload.")) from error
            raise
        except InvalidInput as error:
            if error.code != "upload_cut":
                pieces.cut_to(file, before)
                raise
            end, cut = file.tell(), error  # what came counts, and he can ask how far it is
        os.fsync(file.fileno())
        _record(reception, end, now)
        if cut is not None:
            raise cut
    return reception


def _record(reception: DiskReception, end: int, now: datetime) -> None:
    """Writes how far it is. Refuses with TransitionRefused when it was revoked meanwhile."""
    with transaction.atomic():
        if reception.state == State.WAITING and end:
            move(reception, "receive", actor=None, now=now)
        if not DiskReception.objects.filter(pk=reception.pk, state=reception.state).update(
            received_bytes=end, updated_at=now
        ):
            raise TransitionRefused(_("%(number)s was ended meanwhile.") % {"number": reception})
        reception.received_bytes = end
        if end == reception.size:
            move(reception, "check_file", actor=None, now=now)
            log(reception, language.gettext("All %(n)d bytes are there.") % {"n": end}, now=now)


@contextmanager
def _held(reception: DiskReception) -> Iterator[IO[bytes]]:
    """The file, locked, not longer than what counts; the instance is read again."""
    path = upload_path(reception)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with pieces.locked(path) as file:
        reception.refresh_from_db()
        if reception.state in {State.REVOKED, State.EXPIRED, State.ERROR, State.DONE}:
            path.unlink(missing_ok=True)
        elif (there := pieces.keep(file, reception.received_bytes)) < reception.received_bytes:
            # The disk lost something: it goes on from there.
            DiskReception.objects.filter(pk=reception.pk).update(received_bytes=there)
            reception.received_bytes = there
        yield file
