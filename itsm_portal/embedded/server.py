"""What both servers have in common: start, readiness, stop, and the lock on their folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self

from itsm_portal.embedded.base import Account, EmbeddedError, free_port, processes_in
from itsm_portal.supervisor import die_with_parent, tail_of

LOG_BYTES = 5_000_000  # a server's log is moved to server.log.1 at a start beyond this size
PORT_TRIES = 5
READY_SECONDS = 60.0  # includes recovery after a crash
STOP_SECONDS = 10.0


class Server:
    """What both servers have in common; `folder` becomes theirs entirely. A context manager."""

    kind = ""
    command = ""  # the process name
    death_signal = signal.SIGTERM
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, durable: bool = True) -> None:
        self.folder = Path(folder).absolute()
        self.durable = durable
        self.account: Account | None = None
        self.port = 0
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The process id of the server; None if it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> str:
        """Starts the server, waits until it answers, and returns its URL. Raises EmbeddedError."""
        if threading.current_thread() is not threading.main_thread():
            raise EmbeddedError(f"start {self.kind} on the main thread: it would end with this one")
        if self._process is not None:
            raise EmbeddedError(f"this {self.kind} was started already")
        try:
            self._prepare()
            for _ in range(PORT_TRIES):
                self.port = free_port()
                if self._launch():
                    return self.url
            raise EmbeddedError(f"{self.kind} found no free port in {PORT_TRIES} tries\n{tail_of(self.log)}")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the server gracefully, or by SIGKILL after 10 s; may be called again."""
        process, self._process = self._process, None
        try:
            for number in (self.stop_signal, signal.SIGKILL):
                if process is not None and process.poll() is None:
                    process.send_signal(number)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(STOP_SECONDS)
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def _take_folder(self, work: Path) -> None:
        """Locks the folder; waits for the servers of a launcher that was killed to end."""
        # a root launcher must not follow a link that the unprivileged account may have left here
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._lock = os.fdopen(lock, "r+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = self._lock.read().strip() or "unknown"
            raise EmbeddedError(f"{self.kind} in {self.folder} is already running, pid {holder}") from None
        deadline = time.monotonic() + STOP_SECONDS
        while found := processes_in(work, self.command)[0]:
            if time.monotonic() > deadline:
                pids = ", ".join(map(str, sorted(found)))
                raise EmbeddedError(f"{self.kind} in {self.folder} is already running, pid {pids}")
            time.sleep(0.05)

    def _launch(self) -> bool:
        """Starts the process and waits for it; False if its port was taken meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.lstat().st_size > LOG_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "ab") as log:
            begin = os.fstat(descriptor).st_size
            self._process = self._spawn(log)
        if self._lock is not None:
            self._lock.seek(0)
            self._lock.truncate()
            self._lock.write(str(self._process.pid))
            self._lock.flush()
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                said = self.log.read_bytes()[begin:].decode(errors="replace")
                if re.search(r"address already in use|could not bind", said, re.IGNORECASE):
                    return False
                raise EmbeddedError(f"{self.kind} ended while starting. The end of {self.log}:\n{tail_of(self.log)}")
            with contextlib.suppress(OSError):
                if self._ready():
                    return True
            time.sleep(0.02)
        raise EmbeddedError(
            f"{self.kind} did not answer within {READY_SECONDS:.0f} s. The end of {self.log}:\n{tail_of(self.log)}"
        )

    def _popen(self, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
        """Starts a program as the account, in a session of its own so that Ctrl-C does not reach it."""
        if self.account is not None:
            options |= {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        try:
            return subprocess.Popen(
                [str(part) for part in argv],
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                start_new_session=True,
                preexec_fn=die_with_parent(self.death_signal),
                **options,
            )
        except OSError as error:
            raise EmbeddedError(f"{self.kind} cannot be started: {error}") from error

    def _prepare(self) -> None:
        raise NotImplementedError

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def _ready(self) -> bool:
        raise NotImplementedError
