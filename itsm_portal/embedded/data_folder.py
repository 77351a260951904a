"""Both servers for one data folder: run, share, and remove them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from itsm_portal.embedded.base import HOST, EmbeddedError, shelter, sheltered
from itsm_portal.embedded.postgres import EmbeddedPostgres
from itsm_portal.embedded.valkey import EmbeddedValkey


def running(data: Path) -> dict[str, str]:
    """DATABASE_URL and REDIS_URL of the servers that run for this data folder; empty if none do."""
    try:
        found = json.loads((data / "servers.json").read_text())
        with contextlib.suppress(PermissionError):  # it lives, but is another user's
            os.kill(found.pop("pid"), 0)
        for url in found.values():
            socket.create_connection((HOST, urlsplit(url).port or 0), timeout=2).close()
    except (OSError, ValueError, LookupError):  # left behind by a kill -9
        return {}
    return {str(key): str(url) for key, url in found.items()}


@contextlib.contextmanager
def servers(data: Path, durable: bool = True, environ: Mapping[str, str] = os.environ) -> Iterator[dict[str, str]]:
    """Yields DATABASE_URL and REDIS_URL, and runs the servers for it meanwhile.

    What `environ` sets is taken from there; servers that another process runs for the same data folder are
    shared and left running. While servers of ours run, `<data>/servers.json` tells others of them.
    """
    urls = running(data) | {key: environ[key] for key in ("DATABASE_URL", "REDIS_URL") if environ.get(key)}
    given = set(urls)
    with contextlib.ExitStack() as stack:
        if "DATABASE_URL" not in urls:
            urls["DATABASE_URL"] = stack.enter_context(EmbeddedPostgres(data / "postgres", durable)).url
        if "REDIS_URL" not in urls:
            urls["REDIS_URL"] = stack.enter_context(EmbeddedValkey(data / "valkey", durable)).url
        note = data / "servers.json"
        if not given or not running(data):
            ours = {key: url for key, url in urls.items() if key not in given}
            if ours:
                note.unlink(missing_ok=True)
                with open(os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    json.dump(ours | {"pid": os.getpid()}, file)
                stack.callback(note.unlink, missing_ok=True)
        yield urls


def clean(*data: Path, everything: bool = False) -> None:
    """Removes both servers' data of these data folders; raises EmbeddedError, and removes nothing, if one runs.

    `everything` also removes all that this clone keeps in its shelter, for whichever data folder.
    """
    folders = [place for each in data for place in (each / "postgres", each / "valkey", sheltered(each / "postgres"))]
    if everything:
        folders += [place for place in shelter().glob("*") if place not in folders]
    try:
        with contextlib.ExitStack() as locks:
            for folder in folders:
                with contextlib.suppress(FileNotFoundError):
                    lock = locks.enter_context((folder / "lock").open())
                    _refuse_if_held(folder, lock)
            for folder in [*folders, shelter()] if everything else folders:
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(folder)
            for each in data:
                (each / "servers.json").unlink(missing_ok=True)
    except PermissionError as error:
        raise EmbeddedError(f"not allowed to remove the servers' data: {error}") from error


def _refuse_if_held(folder: Path, lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EmbeddedError(f"the server in {folder} is running, pid {lock.read()}: stop it first") from None
