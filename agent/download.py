"""Fetching one artifact: resumable, never longer than announced, checked against its sha256."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from agent.backoff import backoff
from agent.ddi import Client, Unreachable
from agent.durable import sync_folder
from agent.errors import InstallError
from agent.failpoint import reach
from agent.offer import Item

_BLOCK = 64 * 1024
_MAX_BACKOFF = 30.0


class Downloader:
    """Fetches into ``folder``; the file's name is the digest, so a part can never be mixed up with another.

    ``watch`` is called between blocks and while waiting: it raises to stop the download (cancel, SIGTERM).
    """

    def __init__(self, client: Client, folder: Path, give_up_seconds: float, watch: Callable[[float], None]) -> None:
        self._client = client
        self._folder = folder
        self._give_up = give_up_seconds
        self._watch = watch

    def fetch(self, item: Item) -> Path:
        """The path of the complete, verified artifact. Raises InstallError, or what ``watch`` raises."""
        part = self._folder / f"{item.sha256}.part"
        last_progress = time.monotonic()
        failures = 0
        pieced_together, second_chance = True, True
        while True:
            had = _size(part)
            if had > item.size:
                part.unlink()
                had = 0
            if had == item.size:
                if _sha256(part) == item.sha256:
                    return part
                part.unlink()
                if pieced_together and second_chance:
                    # A part may have been spoilt on this side: it is worth one download from the start.
                    second_chance = False
                    continue
                raise InstallError("wrong_hash", f"the artifact of {item.product} is not the announced one")
            pieced_together = had > 0
            try:
                self._transfer(item, part, had)
                problem, retry_after = "the connection ended early", None
            except Unreachable as error:
                problem, retry_after = str(error), error.retry_after
            if _size(part) > had:
                last_progress, failures = time.monotonic(), 0
            if _size(part) == item.size:
                continue
            if time.monotonic() - last_progress > self._give_up:
                raise InstallError("download_failed", f"{item.product}: no progress, last: {problem}")
            failures += 1
            self._watch(max(backoff(failures, 0.5, _MAX_BACKOFF), retry_after or 0.0))

    def _transfer(self, item: Item, part: Path, offset: int) -> None:
        """One request: appends what comes to ``part``. Raises Unreachable when another try makes sense."""
        connection, response = self._client.open_download(item.url, offset)
        try:
            status = response.status
            if status in (404, 410):
                raise InstallError("artifact_withdrawn", f"the artifact of {item.product} is gone ({status})")
            if status == 416:
                # The server's file is not longer than what is here, which is not the announced size.
                part.unlink(missing_ok=True)
                raise Unreachable("download: the server does not have the rest (416)")
            if status == 200:
                offset = 0
            elif status != 206 or not _starts_at(response.getheader("Content-Range"), offset):
                raise Unreachable(f"download: answer {status}", None)
            if response.length is not None and offset + response.length > item.size:
                raise InstallError("artifact_too_long", f"the artifact of {item.product} exceeds its size")
            self._write(item, part, offset, response)
        finally:
            connection.close()

    def _write(self, item: Item, part: Path, offset: int, response: Any) -> None:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(handle, "wb", buffering=0) as file:
            file.truncate(offset)
            file.seek(offset)
            while True:
                self._watch(0.0)
                try:
                    block = response.read1(min(_BLOCK, item.size - offset + 1))
                except (OSError, HTTPException, ValueError) as error:
                    raise Unreachable(f"download: {type(error).__name__}") from None
                if not block:
                    break
                offset += len(block)
                if offset > item.size:
                    file.truncate(0)
                    raise InstallError("artifact_too_long", f"the artifact of {item.product} does not end")
                file.write(block)
                if offset < item.size:
                    reach("mid_download")
            os.fsync(file.fileno())
        sync_folder(self._folder)


def disk_error(error: OSError, what: str) -> InstallError:
    """The InstallError for a failed write."""
    code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "io_error"
    return InstallError(code, f"{what}: {error.strerror or error}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1024 * 1024):
            digest.update(block)
        return digest.hexdigest()


def _starts_at(content_range: str | None, offset: int) -> bool:
    return content_range is not None and content_range.startswith(f"bytes {offset}-")
