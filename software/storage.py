"""Taking in the file of a version: measured and hashed while it is written, complete on disk or not there at
all.
"""

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage
from django.utils.translation import gettext as _

from failpoints import failpoint
from software.models import Artifact
from software.models.library import artifact_storage
from tickets.exceptions import DomainError, InvalidInput

_BLOCK = 1024 * 1024
_LEFTOVER_SECONDS = 86_400
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class StorageFull(DomainError):
    """The media library's disk has no room (HTTP 507)."""

    code = "storage_full"
    status = 507


@dataclass(frozen=True, slots=True)
class Received:
    """A complete file under a temporary name."""

    path: Path
    size: int
    sha1: str
    md5: str
    sha256: str


def receive(stream: Any, *, now: datetime) -> Received:
    """Writes the stream to a temporary file and makes it durable.

    Refuses an empty or too large file (`InvalidInput`), a cut stream (`InvalidInput`, code upload_cut) and a
    full disk (`StorageFull`). Nothing is left after a refusal.
    """
    folder = Path(settings.MEDIA_ROOT) / "dml" / "incoming"
    check_limit(getattr(stream, "size", None))
    path = folder / f"{secrets.token_hex(16)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder, now)
        with path.open("xb") as file:
            received = _copy(stream, file, path)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise StorageFull(
                _("The media library is full; nothing was stored. Make room, then upload again.")
            ) from error
        raise
    return received


def keep(received: Received, name: str) -> None:
    """Gives a received file its final name in the artifact storage, durably; it replaces what had that name."""
    storage = artifact_storage()
    if not isinstance(storage, FileSystemStorage):
        _send(received, name, storage)
        return
    target = Path(storage.path(name))
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(received.path, target)
    for folder in (target.parent, target.parent.parent):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _send(received: Received, name: str, storage: Storage) -> None:
    """Into a storage that is no folder of this machine. Nothing of that name is left when it fails."""
    storage.delete(name)
    with received.path.open("rb") as file:
        stored = storage.save(name, File(file))
    if stored != name:
        storage.delete(stored)
        raise StorageFull(_("The artifact storage did not take the file under its name. Upload it again."))
    discard(received)


def measure(artifact: Artifact) -> tuple[int, str]:
    """Size and SHA-256 of the stored file, read in blocks. Raises OSError when it cannot be read."""
    digest, size = hashlib.sha256(), 0
    with artifact.file.storage.open(str(artifact.file.name), "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def stored_size(artifact: Artifact) -> int:
    """The size of the stored file; -1 when there is none."""
    try:
        return int(artifact.file.storage.size(str(artifact.file.name)))
    except OSError:
        return -1


def discard(received: Received) -> None:
    """Removes a received file that is not kept."""
    received.path.unlink(missing_ok=True)


def measure_file(path: Path) -> Received:
    """A file that is complete on disk, with its size and digests."""
    with path.open("rb") as file:
        return _copy(file, None, path)


def _copy(stream: Any, file: Any, path: Path) -> Received:
    sha1, md5 = hashlib.sha1(usedforsecurity=False), hashlib.md5(usedforsecurity=False)
    sha256, size = hashlib.sha256(), 0
    for block in blocks_of(stream):
        size += len(block)
        check_limit(size)
        for digest in (sha1, md5, sha256):
            digest.update(block)
        if file is not None:
            failpoint("upload.block")
            file.write(block)
    if size == 0:
        raise InvalidInput(_("The file is empty. Choose the right one."), field="file", code="empty_file")
    return Received(path, size, sha1.hexdigest(), md5.hexdigest(), sha256.hexdigest())


def blocks_of(stream: Any) -> Iterator[bytes]:
    """The stream in blocks; `InvalidInput` with code upload_cut when the sender goes away."""
    try:
        if hasattr(stream, "chunks"):
            yield from stream.chunks(_BLOCK)
        else:
            while block := stream.read(_BLOCK):
                yield block
    except OSError as error:
        # Django's UnreadablePostError too: the sender went away.
        raise InvalidInput(
            _("The upload was cut off; nothing was stored. Upload the file again."),
            field="file",
            code="upload_cut",
        ) from error


def check_limit(size: int | None) -> None:
    """Refuses what is larger than the portal takes."""
    if size is not None and size > settings.ARTIFACT_MAX_BYTES:
        raise InvalidInput(
            _("The file is larger than %(limit)d bytes, the most that this portal takes.")
            % {"limit": settings.ARTIFACT_MAX_BYTES},
            field="file",
            code="file_too_large",
        )


def _sweep(folder: Path, now: datetime) -> None:
    """Removes what a killed process left behind."""
    for leftover in folder.glob("*.part"):
        with contextlib.suppress(OSError):
            if leftover.stat().st_mtime < now.timestamp() - _LEFTOVER_SECONDS:
                leftover.unlink()
