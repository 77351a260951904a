"""Deliberate death of the test host at named points, for fault tests only.

`TEST_HOST_FAILPOINT=name` makes the process kill itself with SIGKILL when it reaches that point.
"""

import os
import signal

MAKING = (
    "claimed",
    "captured",
    "copying",
    "imaged",
    "image_ready",
    "provisioning",
    "copied",
    "token_issued",
    "token_written",
    "placed",
    "wanted",
    "started",
    "running",
)
RECEIVING = ("received",)
KEEPING = ("snapshotting", "snapshot_kept")
REVERTING = ("reverting", "reverted")
DESTROYING = ("destroying", "moved_away", "deleted")


def reach(name: str) -> None:
    """Dies here if this point was asked for; does nothing otherwise."""
    if os.environ.get("TEST_HOST_FAILPOINT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
