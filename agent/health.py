"""Running a package's health check: bounded in time and output, with nothing left running behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from agent.errors import InstallError
from agent.log import printable
from agent.package import Software

_KEPT_OUTPUT = 16 * 1024
_KEPT_LINES = 40


def check_health(software: Software, root: Path) -> None:
    """Runs the check of ``software`` in its current folder; returns when it says healthy, or has no check.

    Raises InstallError ``health_check_failed`` with the last lines of output when the command cannot start,
    returns non-zero, or takes longer than its timeout. Its whole process group is ended in every case.
    """
    if not software.command:
        return
    command = list(software.command)
    if command[0] in ("python", "python3"):
        command[0] = sys.executable or command[0]
    environment = {
        **os.environ,
        "AGENT_CI_ROOT": str(root),
        "AGENT_PRODUCT": software.product,
        "AGENT_VERSION": software.version,
        # Version folders are immutable, so a check may not drop byte code into them.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        process = subprocess.Popen(
            command,
            cwd=root / software.product / "current",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise InstallError("health_check_failed", f"{software.product}: cannot start ({error})") from None
    try:
        output = _follow(process, software.timeout_seconds)
    finally:
        _end_group(process)
    if output is None:
        return
    reason, text = output
    output_lines = text.decode("utf-8", "replace").splitlines()
    lines = tuple(printable(line) for line in output_lines if line.strip())
    raise InstallError("health_check_failed", f"{software.product} {software.version}: {reason}", lines[-_KEPT_LINES:])


def _follow(process: subprocess.Popen[bytes], timeout: float) -> tuple[str, bytes] | None:
    """Waits for the command; None when it succeeded, else the reason and the end of its output."""
    deadline = time.monotonic() + timeout
    assert process.stdout is not None
    tail = b""
    reading = True
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            status = process.poll()
            left = deadline - time.monotonic()
            if status is None and left <= 0:
                return f"no answer within {timeout:g} s", tail
            # A child of the check may keep the pipe open after the check ended: then take what is there.
            wait = 0.0 if status is not None else min(0.05, left)
            ready = reading and selector.select(wait)
            if ready:
                block = os.read(process.stdout.fileno(), 65536)
                tail = (tail + block)[-_KEPT_OUTPUT:]
                reading = bool(block)
            elif status is not None:
                return None if status == 0 else (f"exit status {status}", tail)
            elif not reading:
                time.sleep(wait)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
