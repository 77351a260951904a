"""Keeps a handful of long-running child processes alive, with the standard library alone.

Each child runs in a session (and so a process group) of its own. It ends with the supervisor, however the
supervisor ends: the kernel sends it SIGTERM when the thread that started it dies (Linux), and a small guard
process, which notices the supervisor's death through a closed pipe, kills what is left of the groups.

Because the kernel watches the starting *thread*, `start()`, `poll()` and `run_forever()` belong to one
thread that lives as long as the supervisor, normally the main one; `poll()` refuses any other. `kill()`,
`pid()`, `tail()` and `stop()` may be called from any thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Self

LOG_BYTES = 5_000_000  # a child's log is moved to <name>.log.1 beyond this size
TAIL_LINES = 10
FIRST_DELAY = 0.2  # seconds before the first restart; doubles with each further death
LONGEST_DELAY = 5.0  # seconds
DEATHS_ALLOWED = 5  # so many deaths of one child within DEATH_WINDOW seconds, and the supervisor gives up
DEATH_WINDOW = 60.0
STOP_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1

# Looked up before any fork: loading a library in a forked child may deadlock.
_prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None


class SupervisorError(RuntimeError):
    """The supervisor was used wrongly, or a child could not be started at all."""


class GaveUp(SupervisorError):
    """One child died too often; `name` is the child, `tail` its last log lines."""

    def __init__(self, name: str, tail: str, deaths: int, window: float, log: Path) -> None:
        super().__init__(
            f"{name} ended {deaths} times within {window:.0f} s; not starting it again. "
            f"Its last lines (all of them: {log}):\n{tail}"
        )
        self.name = name
        self.tail = tail


def die_with_parent(sig: int) -> Callable[[], None]:
    """A `preexec_fn` that makes the kernel send `sig` to the child when its starting thread dies.

    To be run after any change of user, because that clears the setting. Does nothing outside Linux.
    """
    parent = os.getpid()

    def arrange() -> None:
        if _prctl is not None:
            _prctl(_PR_SET_PDEATHSIG, sig, 0, 0, 0)
            if os.getppid() != parent:  # it died before the line above
                os.kill(os.getpid(), signal.SIGKILL)

    return arrange


def tail_of(path: Path, lines: int = TAIL_LINES) -> str:
    """The last `lines` lines of a log; empty if it cannot be read. Reads at most 64 KiB."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 65536))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _signal_group(group: int, sig: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, sig)


@dataclass
class _Child:
    name: str
    argv: list[str]
    env: dict[str, str]
    cwd: Path | None
    restart: bool
    stage: int
    log: Path
    process: subprocess.Popen[bytes] | None = None
    due: float | None = None  # time.monotonic() of the next restart
    deaths: deque[float] = field(default_factory=deque)
    returncode: int | None = None

    def dead(self) -> bool:
        """Whether the process has ended. Does not collect it, so its group number stays reserved."""
        assert self.process is not None
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.process.pid, flags) is not None


class Supervisor:
    """Starts children, restarts those that die, and stops them all.

    `log_dir` receives `<name>.log` of each child. `say` is called with lines for the person who watches;
    by default they go to standard error. The numbers are those of the module unless given.
    """

    def __init__(
        self,
        log_dir: Path,
        say: Callable[[str], None] | None = None,
        *,
        first_delay: float = FIRST_DELAY,
        deaths_allowed: int = DEATHS_ALLOWED,
        death_window: float = DEATH_WINDOW,
        stop_seconds: float = STOP_SECONDS,
        log_bytes: int = LOG_BYTES,
    ) -> None:
        self.log_dir = Path(log_dir)
        self._say = say or _tell
        self._first_delay = first_delay
        self._deaths_allowed = deaths_allowed
        self._death_window = death_window
        self._stop_seconds = stop_seconds
        self._log_bytes = log_bytes
        self._children: dict[str, _Child] = {}
        self._lock = threading.RLock()
        self._guard: subprocess.Popen[bytes] | None = None
        self._owner: threading.Thread | None = None
        # Plain flags, for signal handlers set them: an Event's lock might be held by the interrupted code.
        self._stopping = False
        self._hurry = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def add(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        restart: bool = True,
        stage: int = 0,
    ) -> None:
        """Declares a child; after `start()` it starts at the next `poll()`.

        `env` is laid over the inherited environment. `restart=False` leaves a child that ended alone. At
        `stop()`, children of a higher `stage` end before those of a lower one; one stage ends in parallel.
        """
        with self._lock:
            if name in self._children:
                raise SupervisorError(f"there is a child named {name} already")
            child = _Child(name, list(argv), dict(env or {}), cwd, restart, stage, self.log_dir / f"{name}.log")
            child.due = time.monotonic() if self._owner is not None else None
            self._children[name] = child

    def start(self) -> None:
        """Starts every child in the order they were added. Raises SupervisorError if one cannot."""
        with self._lock:
            if self._owner is not None:
                raise SupervisorError("the supervisor was started already")
            self._owner = threading.current_thread()
            self.log_dir.mkdir(parents=True, exist_ok=True)
            try:
                # -I: the folder of this file must not shadow modules of the standard library.
                self._guard = subprocess.Popen(
                    [sys.executable, "-I", "-S", os.path.abspath(__file__), str(self._stop_seconds)],
                    stdin=subprocess.PIPE,
                    start_new_session=True,
                )
                for child in self._children.values():
                    self._spawn(child)
            except BaseException as error:
                self.stop()
                if isinstance(error, OSError):
                    raise SupervisorError(f"could not start {error.filename or 'a child'}: {error}") from error
                raise

    def poll(self) -> None:
        """Restarts the children that are due; to be called a few times a second. Raises GaveUp."""
        if threading.current_thread() is not self._owner:
            raise SupervisorError("poll() must run on the thread that called start()")
        with self._lock:
            for child in list(self._children.values()):
                if self._stopping:
                    return
                if child.process is not None and child.dead():
                    self._collect(child)
                    self._after_death(child, f"exit status {child.returncode}")
                if child.due is not None and time.monotonic() >= child.due:
                    child.due = None
                    try:
                        self._spawn(child)
                    except OSError as error:
                        self._after_death(child, f"could not be started: {error}")
                self._bound_log(child)

    def run_forever(self, interval: float = 0.1) -> None:
        """Starts (unless started) and supervises until `stop()`, SIGINT, SIGTERM or SIGHUP; then stops all.

        A second signal kills at once what has not stopped yet. Raises GaveUp after stopping the others.
        To be called on the main thread.
        """

        def on_signal(_signum: int, _frame: FrameType | None) -> None:
            self._hurry = self._stopping
            self._stopping = True

        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, on_signal) for number in signals}
        try:
            if self._owner is None:
                self.start()
            while not self._stopping:
                self.poll()
                time.sleep(interval)
        finally:
            self._stopping = True
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Stops all children and returns when none is left; may be called again.

        SIGTERM goes to each child's first process only: pools such as Celery's would lose the work in hand
        if their members got it too. What is left of the group when that one has ended, or after
        `stop_seconds` altogether, is killed.
        """
        self._stopping = True
        with self._lock:
            deadline = time.monotonic() + self._stop_seconds
            for stage in sorted({child.stage for child in self._children.values()}, reverse=True):
                left = [c for c in reversed(self._children.values()) if c.stage == stage and c.process is not None]
                for child in left:
                    if child.process is not None and not child.dead():
                        os.kill(child.process.pid, signal.SIGTERM)
                while left:
                    try:
                        if self._hurry or time.monotonic() > deadline:
                            for child in left:
                                assert child.process is not None
                                _signal_group(child.process.pid, signal.SIGKILL)
                        for child in [c for c in left if c.dead()]:
                            self._collect(child)
                            left.remove(child)
                        if left:
                            time.sleep(0.02)
                    except KeyboardInterrupt:  # an impatient second Ctrl-C
                        self._hurry = True
            for child in self._children.values():
                child.due = None
            if self._guard is not None and self._guard.stdin is not None:
                self._guard.stdin.close()
                self._guard.wait()
                self._guard = None

    def kill(self, name: str, sig: int = signal.SIGKILL) -> bool:
        """Sends `sig` to the first process of a child; False if it is not running just now."""
        with self._lock:
            process = self._children[name].process
            if process is None or self._children[name].dead():
                return False
            os.kill(process.pid, sig)
            return True

    def pid(self, name: str) -> int | None:
        """The process id of a child, or None while it is not running."""
        with self._lock:
            child = self._children[name]
            return None if child.process is None or child.dead() else child.process.pid

    def tail(self, name: str, lines: int = TAIL_LINES) -> str:
        """The last lines of a child's log."""
        return tail_of(self._children[name].log, lines)

    def returncode(self, name: str) -> int | None:
        """How the child last ended, as in `subprocess`; None if it never has."""
        return self._children[name].returncode

    def _spawn(self, child: _Child) -> None:
        self._bound_log(child)
        with child.log.open("ab") as log:
            child.process = subprocess.Popen(
                child.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **child.env},
                cwd=child.cwd,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        self._tell_guard(f"+{child.process.pid}\n")

    def _collect(self, child: _Child) -> None:
        """Collects an ended child and kills what is left of its group (it may still hold a port)."""
        assert child.process is not None
        pid = child.process.pid
        _signal_group(pid, signal.SIGKILL)  # before wait(): until then nobody else can get this number
        child.returncode = child.process.wait()
        child.process = None
        self._tell_guard(f"-{pid}\n")

    def _after_death(self, child: _Child, how: str) -> None:
        now = time.monotonic()
        child.deaths.append(now)
        while now - child.deaths[0] > self._death_window:
            child.deaths.popleft()
        tail = tail_of(child.log)
        if not child.restart:
            self._say(f"{child.name} ended: {how}")
            return
        if len(child.deaths) >= self._deaths_allowed:
            raise GaveUp(child.name, tail, len(child.deaths), self._death_window, child.log)
        delay = min(self._first_delay * 2 ** (len(child.deaths) - 1), LONGEST_DELAY)
        child.due = now + delay
        self._say(f"{child.name} ended: {how}; starting it again in {delay:.1f} s. Its last lines:\n{tail}")

    def _bound_log(self, child: _Child) -> None:
        """Moves a log that grew too large aside. Lines written at that very moment may be lost."""
        with contextlib.suppress(OSError):
            if child.log.stat().st_size > self._log_bytes:
                shutil.copyfile(child.log, child.log.with_suffix(".log.1"))
                os.truncate(child.log, 0)  # the child goes on writing: its descriptor appends

    def _tell_guard(self, line: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # someone killed the guard: the belt is gone
                self._guard.stdin.write(line.encode())
                self._guard.stdin.flush()


def _guard_main(stop_seconds: float) -> None:
    """The guard: reads `+group` and `-group` lines until the supervisor is gone, then ends what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(group, signal.SIGTERM)
    deadline = time.monotonic() + stop_seconds
    while groups and time.monotonic() < deadline:
        for group in list(groups):
            try:
                os.kill(group, 0)
            except ProcessLookupError:  # the first process is gone: nobody leads the others any more
                _signal_group(group, signal.SIGKILL)
                groups.discard(group)
            except PermissionError:
                groups.discard(group)
        time.sleep(0.05)
    for group in groups:
        _signal_group(group, signal.SIGKILL)


if __name__ == "__main__":
    _guard_main(float(sys.argv[1]))
