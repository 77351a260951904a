"""A file that arrives in pieces: one writer at a time, and nothing in it beyond what counts."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from django.utils.translation import gettext as _

from software.storage import blocks_of
from tickets.exceptions import ConditionRefused, InvalidInput


class Nothing:
    """A piece without content."""

    def read(self, size: int = -1) -> bytes:
        return b""


@contextmanager
def locked(path: Path) -> Iterator[IO[bytes]]:
    """The file, made when it is not there. Refuses while somebody else writes (`ConditionRefused`, upload_busy)."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            text = _("A piece of this upload is being written just now. Ask how far it is, then go on.")
            raise ConditionRefused(text, code="upload_busy") from error
        yield file


def keep(file: IO[bytes], received: int) -> int:
    """Cuts off what a killed writer left beyond what counts; how much is there, less when the disk lost something."""
    size = os.fstat(file.fileno()).st_size
    if size > received:
        file.truncate(received)
    return min(size, received)


def append(file: IO[bytes], stream: Any, *, begin: int, size: int) -> int:
    """Writes a piece from `begin` on; where it ends. Refuses what goes beyond `size`, and what breaks off
    (`InvalidInput`, upload_cut), after which the file ends where it broke off.
    """
    file.seek(begin)
    end = begin
    for block in blocks_of(stream):
        end += len(block)
        if end > size:
            text = _("The piece goes beyond the announced %d bytes.") % size
            raise InvalidInput(text, field="file", code="file_too_large")
        rest = memoryview(block)
        while rest:
            rest = rest[file.write(rest) :]
    return end


def cut_to(file: IO[bytes], size: int) -> None:
    with contextlib.suppress(OSError):
        file.truncate(size)


def mismatch(received: int) -> ConditionRefused:
    """A piece that does not begin at how far the upload is."""
    text = _("The next piece begins at byte %d.") % received
    return ConditionRefused(text, code="offset_mismatch", detail={"offset": received})
