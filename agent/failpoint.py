"""Deliberate death at named points, for fault tests only.

``AGENT_FAILPOINT=name`` makes the process kill itself with SIGKILL when it reaches that point. With
``AGENT_FAILPOINT_ONCE=file`` it does so only while that file exists, and removes it first: it fires once.
"""

import os
import signal

POINTS = (
    "after_keys",
    "before_download",
    "mid_download",
    "after_download",
    "mid_unpack",
    "after_unpack",
    "before_switch",
    "after_pre",
    "after_leave",
    "mid_switch",
    "mid_put_back",
    "after_switch",
    "after_post",
    "after_health",
    "mid_revert",
    "after_revert",
    "after_trust",
    "before_close",
    "after_close",
    "before_report",
    "after_report",
)


def reach(name: str) -> None:
    """Dies here if this point was asked for; does nothing otherwise."""
    if os.environ.get("AGENT_FAILPOINT") != name:
        return
    once = os.environ.get("AGENT_FAILPOINT_ONCE")
    if once:
        try:
            os.unlink(once)
        except FileNotFoundError:
            return
    os.kill(os.getpid(), signal.SIGKILL)
