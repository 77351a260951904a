"""The processes of the copies' agents, as one runner runs them.

Each agent runs in a session of its own and dies with the runner, however that ends (PR_SET_PDEATHSIG). What an
agent started itself (a health check) carries `TEST_ENVIRONMENT` in its environment and is found by it and
ended. The kernel watches the thread that started a process: start only in threads that live as long as the runner.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Failed, GuestUnresponsive, Interrupted
from test_environments.drivers.interface import StoppedHow
from test_environments.drivers.texts import Text as _
from test_environments.failpoint import reach

CLOSE_SECONDS = 5.0
KILL_SECONDS = 2.0
LOG_BYTES = 5_000_000
MARK = "TEST_ENVIRONMENT"

_LAUNCHER = Path(__file__).with_name("launcher.py")
_PROJECT = Path(__file__).resolve().parents[3]

Process = subprocess.Popen[bytes]


class Agents:
    """The agents of this runner by environment; `command` is how one is started. `say` takes log lines."""

    def __init__(self, command: list[str], say: Callable[[str], None]) -> None:
        self._command = command
        self._say = say
        self._processes: dict[UUID, Process] = {}
        self._is_closed = threading.Event()

    def process_of(self, key: UUID) -> Process | None:
        """The process that was started last and not stopped, whether it still runs or not."""
        return self._processes.get(key)

    def start(self, key: UUID, folder: Path, bound: Bound) -> None:
        """Starts the agent in `folder` unless it runs. Ends first what is left of one that died.

        Raises Failed where the lock of the copy stays taken or the process cannot be started.
        """
        process = self._processes.get(key)
        if process is not None and process.poll() is None:
            return
        end_processes_in(folder)
        if not bound.wait(lambda: not is_locked(folder), seconds=KILL_SECONDS):
            raise Failed(_("Another process holds the lock of the copy in %(folder)s.", folder=folder))
        if self._is_closed.is_set():
            raise Interrupted
        try:
            process = _spawn(self._command, folder)
        except OSError as error:
            raise Failed(_("Its agent cannot be started: %(error)s", error=error)) from error
        self._processes[key] = process
        self._say(f"environment {key}: agent started as process {process.pid}")
        reach("started")

    def stop(self, key: UUID, folder: Path, bound: Bound, *, grace_seconds: float) -> StoppedHow:
        """Ends the agent, after `grace_seconds` by force, and all that it started. Raises GuestUnresponsive."""
        process = self._processes.get(key)
        how = StoppedHow.ALREADY
        if process is not None and process.poll() is None:
            ending = process
            how = StoppedHow.GRACEFUL
            ending.terminate()
            if not grace_seconds or not bound.wait(lambda: ending.poll() is not None, seconds=grace_seconds):
                how = StoppedHow.FORCED
                ending.kill()
                if not bound.wait(lambda: ending.poll() is not None, seconds=KILL_SECONDS):
                    bound.check()
                    raise GuestUnresponsive(
                        _("Its agent (process %(pid)s) does not end, not even by force.", pid=ending.pid)
                    )
            self._say(f"environment {key}: agent stopped ({how})")
        self._processes.pop(key, None)
        if end_processes_in(folder) and how is StoppedHow.ALREADY:
            how = StoppedHow.FORCED
        return how

    def close(self) -> None:
        """Ends all agents side by side, after a while by force; nothing is started any more."""
        self._is_closed.set()
        for process in list(self._processes.values()):
            process.terminate()
        deadline = time.monotonic() + CLOSE_SECONDS
        for process in list(self._processes.values()):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(KILL_SECONDS)
        for process in list(self._processes.values()):
            end_processes_in(Path(str(process.args[-1])).parent)  # type: ignore[index]  # …/agent.json
        self._processes.clear()


def command(archive: str = "") -> list[str]:
    """How an agent is started, without its arguments: the module, or the file `archive`."""
    return [sys.executable, archive] if archive else [sys.executable, "-m", "agent"]


def _spawn(command: list[str], folder: Path) -> Process:
    # Nothing of the portal's own environment: it holds the database's password and the signing key.
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    environment |= {"HOME": str(folder), "PYTHONPATH": str(_PROJECT), MARK: str(folder)}
    log = folder / "agent.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(folder / "agent.log.1")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    output = os.open(log, flags, 0o600)
    try:
        return subprocess.Popen(
            [
                *(sys.executable, "-S", "-E", str(_LAUNCHER), str(os.getpid())),
                *(*command, "run", "--config", str(folder / "agent.json")),
            ],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    finally:
        os.close(output)


def is_locked(folder: Path) -> bool:
    """Whether an agent holds the lock of the copy in `folder`."""
    try:
        handle = os.open(folder / "root" / ".agent" / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def end_processes_in(folder: Path) -> int:
    """Kills every process that an agent started for `folder`, in whatever group, and waits for their end.

    Returns how many there were. Waits no longer than a moment: one that hangs in the kernel is left behind.
    """
    ended: set[int] = set()
    deadline = time.monotonic() + KILL_SECONDS
    # Looked for again: the killed take a moment to go, and one of them may have started another one meanwhile.
    while found := _processes_in(folder):
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        ended |= found
        if time.monotonic() >= deadline:
            break
        time.sleep(0.005)
    return len(ended)


def _processes_in(folder: Path) -> set[int]:
    mark = f"{MARK}={folder}".encode()
    found = set()
    for entry in os.scandir("/proc"):
        # Those of other users cannot be read; a process that has ended has no environment any more.
        if entry.name.isdigit():
            with suppress(OSError), open(f"/proc/{entry.name}/environ", "rb") as environ:
                if mark in environ.read().split(b"\0"):
                    found.add(int(entry.name))
    return found


def last_lines(log: Path, *, lines: int = 5, max_bytes: int = 4096) -> str:
    """The end of a log, for the page of the environment."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - max_bytes))
            found = file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        found = []
    return "\n".join(found)
