"""Ending every process of a run, wherever in the process tree it has gone: they share a mark in their environment.

Standard library only: the run's own process uses it, too.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path

MARK = "ITSM_PUSH_RUN"


def processes_of(mark: str) -> list[int]:
    """Ids of this user's processes that were started with `ITSM_PUSH_RUN=<mark>`, without the asking one."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def end_processes(mark: str) -> None:
    """Kills them all, also those that they start meanwhile."""
    for _round in range(20):
        left = processes_of(mark)
        if not left:
            return
        for process in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
