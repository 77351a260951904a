"""Fetching one artifact: resumable, never longer than announced, checked against its sha256."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from agent.backoff import backoff
from agent.config import Config
from agent.connection import Response
from agent.ddi import Client, Unreachable, retry_after
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

    def __init__(self, client: Client, folder: Path, config: Config, watch: Callable[[float], None]) -> None:
        self._client = client
        self._folder = folder
        self._config = config
        self._watch = watch

    def missing(self, item: Item) -> int:
        """Bytes that ``fetch`` has to bring."""
        return max(0, item.size - _size(self._part(item)))

    def fetch(self, item: Item) -> Path:
        """The path of the complete, verified artifact. Raises InstallError, or what ``watch`` raises."""
        part = self._part(item)
        pace = _Pace(item, self._config, _size(part))
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
                self._transfer(item, part, had, pace)
                problem, wait = "the connection ended early", None
            except Unreachable as error:
                problem, wait = str(error), error.retry_after
            if _size(part) > had:
                failures = 0
            if _size(part) == item.size:
                continue
            pace.check(_size(part), problem)
            failures += 1
            self._watch(max(backoff(failures, 0.5, _MAX_BACKOFF), wait or 0.0))

    def _part(self, item: Item) -> Path:
        return self._folder / f"{item.sha256}.part"

    def _transfer(self, item: Item, part: Path, offset: int, pace: _Pace) -> None:
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
                raise Unreachable(f"download: answer {status}", retry_after(response))
            if response.length is not None and offset + response.length > item.size:
                raise InstallError("artifact_too_long", f"the artifact of {item.product} exceeds its size")
            self._write(item, part, offset, response, pace)
        finally:
            connection.close()

    def _write(self, item: Item, part: Path, offset: int, response: Response, pace: _Pace) -> None:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(handle, "wb", buffering=0) as file:
            file.truncate(offset)
            file.seek(offset)
            while True:
                self._watch(0.0)
                pace.check(offset, "the server sends too little")
                response.allow()
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


class _Pace:
    """Gives a download up that brings less than the least rate over the whole of the given time."""

    def __init__(self, item: Item, config: Config, bytes_there: int) -> None:
        self._product = item.product
        self._seconds = config.download_give_up_seconds
        self._step = max(1.0, config.download_min_rate * self._seconds)
        self._most = bytes_there
        self._since = time.monotonic()

    def check(self, bytes_there: int, problem: str) -> None:
        """Raises InstallError download_failed when it is time to give up."""
        if bytes_there >= self._most + self._step:
            self._most, self._since = bytes_there, time.monotonic()
        elif time.monotonic() - self._since > self._seconds:
            raise InstallError("download_failed", f"{self._product}: no progress, last: {problem}")


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
