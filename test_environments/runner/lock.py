"""What makes a process the only test host."""

import fcntl
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection
from django.utils.translation import gettext as _

from test_environments.services import HOST_LOCK


class AnotherHost(Exception):
    """A test host runs already; the text says where to look."""


class HostLock:
    """What makes this the only host: a file lock on the folder of copies, an advisory lock in the database.

    The file lock ends with the process; the other one also ends with its connection, which is one of its own.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file: int | None = None
        self._session: psycopg.Connection[Any] | None = None

    def take(self, *, wait: float, stop: threading.Event) -> None:
        """Takes both within `wait` seconds: a killed host's locks take a moment to go. Raises AnotherHost."""
        deadline = time.monotonic() + wait
        while not self._try():
            if stop.is_set() or time.monotonic() >= deadline:
                raise AnotherHost(
                    _("Another test host runs, for this database or for %(folder)s. There can be only one.")
                    % {"folder": self._root}
                )
            stop.wait(0.2)

    def _try(self) -> bool:
        if self._file is None:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._root / ".host.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                return False
            self._file = handle
        return self._take_session()

    def _take_session(self) -> bool:
        if self._session is None:
            parameters = connection.get_connection_params()
            self._session = psycopg.connect(**{**parameters, "autocommit": True})
        row = self._session.execute("SELECT pg_try_advisory_lock(%s)", [HOST_LOCK]).fetchone()
        return bool(row and row[0])

    def is_held(self) -> bool:
        """Whether the database still knows us as the host; connects again after a loss. Raises its errors."""
        if self._session is not None:
            try:
                self._session.execute("SELECT 1")
            except psycopg.Error:
                self._session.close()
                self._session = None
            else:
                return True
        return self._take_session()

    def release(self) -> None:
        """Gives both back."""
        if self._session is not None:
            with suppress(psycopg.Error):
                self._session.close()
        if self._file is not None:
            os.close(self._file)
        self._session = self._file = None
