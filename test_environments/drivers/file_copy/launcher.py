"""Starts a command that dies with its parent: `launcher.py <parent's pid> <command…>`. Standard library only.

The kernel keeps the death signal over `exec`, and the command keeps this process's id. A program of its own
instead of a `preexec_fn`, because that may deadlock in a process with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):  # it died before the line above
        sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606
