"""Running a command of somebody else: bounded in time and output, and ended for certain.

The command leads a process group of its own, which is killed when the command ends. It dies with the agent
(Linux: PR_SET_PDEATHSIG), and every process below it carries a mark in its environment: on a time-out, and
at the next start after the agent was killed, all that carry the mark are killed, also those that left the
group.
"""

from __future__ import annotations

import os
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from agent.command import Command
from agent.log import printable

_MARK = "AGENT_COMMAND_MARK"
_KEPT_OUTPUT = 16 * 1024
_KEPT_LINES = 40
_PR_SET_PDEATHSIG = 1
# Processes may fork while they are looked for.
_ROUNDS = 50


class CommandFailed(Exception):
    """A command could not start, took too long, or returned non-zero; ``lines`` are the end of its output."""

    def __init__(self, reason: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.lines = lines


def run_command(command: Command, folder: Path, environment: dict[str, str], record: Path) -> None:
    """Runs ``command`` in ``folder``. Raises CommandFailed; OSError when ``record`` cannot be written.

    ``record`` holds the mark while the command runs, for ``end_leftovers`` after a crash.
    """
    words = list(command.words)
    if words[0] in ("python", "python3"):
        words[0] = sys.executable or words[0]
    mark = secrets.token_hex(16)
    record.write_text(mark)
    try:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env={**os.environ, **environment, _MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_agent(),
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        record.unlink()
        raise CommandFailed(f"cannot start ({error})") from None
    in_time, output = False, b""
    try:
        in_time, output = _follow(process, command.timeout_seconds)
    finally:
        status = _end_group(process)
        if not in_time:
            end_marked(mark)
        record.unlink(missing_ok=True)
    if not in_time:
        raise CommandFailed(f"no answer within {command.timeout_seconds:g} s", _lines(output))
    if status:
        raise CommandFailed(f"exit status {status}", _lines(output))


def end_leftovers(record: Path) -> None:
    """Kills what a command left running whose agent was killed. Raises OSError."""
    try:
        mark = record.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return
    if mark:
        end_marked(mark)
    record.unlink()


def end_marked(mark: str) -> None:
    """Kills every process that carries ``mark``, as far as this user may. Needs /proc."""
    wanted = f"{_MARK}={mark}".encode()
    for _ in range(_ROUNDS):
        found = [process for process in _processes() if wanted in _environment(process)]
        for process in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        if not found:
            return
        time.sleep(0.02)


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    except FileNotFoundError:
        return []


def _environment(process: int) -> list[bytes]:
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _die_with_agent() -> Callable[[], None] | None:
    """What the child does before it becomes the command; None where the kernel knows no such thing."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    agent = os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != agent:
            os._exit(1)  # the agent was killed before the line above

    return in_child


def _follow(process: subprocess.Popen[bytes], timeout: float) -> tuple[bool, bytes]:
    """Waits for the command; whether it ended in time, and the end of its output."""
    deadline = time.monotonic() + timeout
    assert process.stdout is not None
    tail = b""
    reading = True
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            ended = _has_ended(process)
            left = deadline - time.monotonic()
            if not ended and left <= 0:
                return False, tail
            # A child of the command may keep the pipe open after it ended: then take what is there.
            wait = 0.0 if ended else min(0.05, left)
            ready = reading and selector.select(wait)
            if ready:
                block = os.read(process.stdout.fileno(), 65536)
                tail = (tail + block)[-_KEPT_OUTPUT:]
                reading = bool(block)
            elif ended:
                return True, tail
            elif not reading:
                time.sleep(wait)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    # Not yet reaped: until then its number cannot become that of somebody else's group.
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_group(process: subprocess.Popen[bytes]) -> int:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    status = process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return status


def _lines(output: bytes) -> tuple[str, ...]:
    lines = output.decode("utf-8", "replace").splitlines()
    return tuple(printable(line) for line in lines if line.strip())[-_KEPT_LINES:]
