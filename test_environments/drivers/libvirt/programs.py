"""Other people's programs that look at something foreign: as nobody, without network, and never for longer than asked.

A program that is given up ends with all that it has started, and so it does when the test host is killed.
"""

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from test_environments.drivers.bound import Bound


class Ended(NamedTuple):
    """What a program has left."""

    code: int
    output: str
    errors: str


def run(
    command: Sequence[str],
    *,
    seconds: float,
    bound: Bound | None = None,
    as_nobody: bool = False,
    starts_others: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Runs a program to its end. Raises TimeoutError, OSError (it cannot be started), and what `bound` raises.

    `as_nobody`, where we are root: without rights, network, or a way to outlive us; one that `starts_others` has
    processes of its own, which end with it.
    """
    if as_nobody and os.geteuid() == 0:
        nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs"]
        nobody.append("--pdeathsig=KILL")
        if starts_others:
            apart = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
            command = ["setpriv", "--pdeathsig=KILL", "--", *apart, "--", *nobody, "--", *command]
        else:
            command = ["unshare", "--net", "--", *nobody, "--", *command]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",  # names in a foreign image need not be text
        env=environment,
        start_new_session=True,
    )
    deadline = time.monotonic() + (min(seconds, bound.left) if bound else seconds)
    try:
        while True:
            try:
                output, errors = process.communicate(timeout=0.2)
                return Ended(process.returncode, output, errors)
            except subprocess.TimeoutExpired:
                if bound is not None:
                    bound.check()
                if time.monotonic() > deadline:
                    raise TimeoutError from None
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def give_to_nobody(path: Path) -> None:
    """What a program without rights is to read or write."""
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    path.chmod(0o700 if path.is_dir() else 0o600)


def take_back(path: Path) -> None:
    """What had been given away belongs to us alone again."""
    if os.geteuid() == 0:
        os.chown(path, 0, 0, follow_symlinks=False)
    path.chmod(0o600)
