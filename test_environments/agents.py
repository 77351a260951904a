"""The processes of the copies' agents, as one test host runs them.

Each agent runs in a session of its own and dies with the host, however the host ends (PR_SET_PDEATHSIG).
What an agent started itself (a health check) carries `TEST_ENVIRONMENT` in its environment and is found by
it and ended. All methods belong to the host's main thread: the kernel watches the thread that started the
process.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from test_environments.failpoint import reach

FIRST_DELAY = 0.5  # seconds before the first restart; doubles with each further death
LONGEST_DELAY = 30.0
LONG_LIFE = 60.0  # seconds after which earlier deaths are forgotten
DEATHS_ALLOWED = 6
STOP_SECONDS = 5.0
KILL_SECONDS = 2.0
LOG_BYTES = 5_000_000
MARK = "TEST_ENVIRONMENT"

_LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass
class _Agent:
    folder: Path
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    due: float = 0.0
    deaths: int = 0
    kill_at: float | None = None


class Agents:
    """The agents of this host by environment id. `say` takes log lines."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._agents: dict[int, _Agent] = {}

    def known(self) -> list[int]:
        """Environments that have a process, or had one that was not stopped."""
        return list(self._agents)

    def pid(self, environment_id: int) -> int | None:
        """The process that runs, None without one."""
        agent = self._agents.get(environment_id)
        return agent.process.pid if agent and agent.process else None

    def keep_running(self, environment_id: int, folder: Path) -> str:
        """Starts the agent in `folder` unless it runs, a died one after a delay. Returns at once.

        The result is empty, or says why the agent will not be started again.
        """
        agent = self._agents.setdefault(environment_id, _Agent(folder))
        if agent.kill_at is not None:
            self.stop(environment_id)
            return ""
        if agent.process is not None and agent.process.poll() is not None:
            code, agent.process = agent.process.returncode, None
            end_processes_in(folder)
            lived = time.monotonic() - agent.started
            agent.deaths = 1 if lived > LONG_LIFE else agent.deaths + 1
            delay = min(FIRST_DELAY * 2 ** (agent.deaths - 1), LONGEST_DELAY)
            agent.due = time.monotonic() + delay
            self._say(f"environment {environment_id}: its agent ended with {code} after {lived:.0f} s")
        if agent.deaths >= DEATHS_ALLOWED:
            return _last_lines(folder / "agent.log")
        if agent.process is None and time.monotonic() >= agent.due:
            self._start(environment_id, agent)
        return ""

    def _start(self, environment_id: int, agent: _Agent) -> None:
        if is_locked(agent.folder):
            # Only the children of an agent that died can still be there.
            end_processes_in(agent.folder)
            agent.due = time.monotonic() + FIRST_DELAY
            return
        agent.started = time.monotonic()
        try:
            agent.process = _spawn(agent.folder)
        except OSError as error:
            agent.deaths += 1
            agent.due = agent.started + LONGEST_DELAY
            self._say(f"environment {environment_id}: its agent cannot be started: {error}")
            return
        self._say(f"environment {environment_id}: agent started as process {agent.process.pid}")
        reach("started")

    def stop(self, environment_id: int) -> bool:
        """Ends the agent, after a while by force. Returns at once; True once nothing of it is left."""
        agent = self._agents.get(environment_id)
        if agent is None:
            return True
        if agent.process is not None and agent.process.poll() is None:
            if agent.kill_at is None:
                agent.kill_at = time.monotonic() + STOP_SECONDS
                agent.process.terminate()
                self._say(f"environment {environment_id}: agent is being stopped")
            elif time.monotonic() >= agent.kill_at:
                agent.process.kill()
            return False
        end_processes_in(agent.folder)
        del self._agents[environment_id]
        return True

    def stop_all(self) -> None:
        """Ends all agents and waits for it."""
        while self._agents:
            for environment_id in self.known():
                self.stop(environment_id)
            time.sleep(0.02)


def command() -> list[str]:
    """How an agent is started, without its arguments: the module, or the file that a setting names."""
    archive = getattr(settings, "TEST_ENVIRONMENT_AGENT", "")
    return [sys.executable, archive] if archive else [sys.executable, "-m", "agent"]


def _spawn(folder: Path) -> "subprocess.Popen[bytes]":
    # Nothing of the portal's own environment: it holds the database's password and the signing key.
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    environment |= {"HOME": str(folder), "PYTHONPATH": str(settings.BASE_DIR), MARK: str(folder)}
    log = folder / "agent.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(folder / "agent.log.1")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    output = os.open(log, flags, 0o600)
    try:
        return subprocess.Popen(
            [
                *(sys.executable, "-S", "-E", str(_LAUNCHER), str(os.getpid())),
                *(*command(), "run", "--config", str(folder / "agent.json")),
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


def _last_lines(log: Path) -> str:
    """The end of a log, for the page of the environment."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()[-5:]
    except OSError:
        lines = []
    return "\n".join(lines) or "It wrote no log."
