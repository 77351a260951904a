"""The command line of the embedded servers; see the package."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from itsm_portal.embedded.base import CLONE, EmbeddedError, tell
from itsm_portal.embedded.data_folder import clean, servers
from itsm_portal.supervisor import die_with_parent


def run_in_foreground(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Runs one command in this terminal and passes signals on; returns its exit code as a shell would.

    `env` is laid over the inherited environment. To be called on the main thread.
    """
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        if process is None:
            early.append(number)
        elif number != signal.SIGINT or not _terminal_delivers():
            process.send_signal(number)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, forward) for number in signals}
    try:
        process = subprocess.Popen(
            argv,
            env={**os.environ, **env},
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        for number in early:
            process.send_signal(number)
        code = process.wait()
    except OSError as error:
        tell(f"{argv[0]}: {error.strerror}")
        return 127
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _terminal_delivers() -> bool:
    """Whether Ctrl-C in our terminal reaches our children too, so that forwarding would double it."""
    try:
        with open("/dev/tty", "rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: that of CMD, or 1 with a message on standard error."""
    parser = argparse.ArgumentParser(prog="python -m itsm_portal.embedded", description="embedded servers")
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="run CMD with DATABASE_URL and REDIS_URL of embedded servers")
    cleaning = actions.add_parser("clean", help="remove the servers' data and everything kept for this clone")
    run.add_argument("--data", type=Path, default=CLONE / ".data", help="the data folder (.data)")
    cleaning.add_argument("--data", type=Path, nargs="+", default=[CLONE / ".data"], help="the data folders (.data)")
    run.add_argument("--fast", action="store_true", help="give up safety against a crash of the machine, for tests")
    run.add_argument("command", nargs="+", metavar="CMD", help="the command and its arguments, after --")
    chosen = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):  # the servers are to be stopped, not just left to the kernel
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        if chosen.action == "clean":
            clean(*chosen.data, everything=True)
            return 0
        with servers(chosen.data, not chosen.fast) as urls:
            return run_in_foreground(chosen.command, urls)
    except EmbeddedError as error:
        tell(str(error))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
