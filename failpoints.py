"""Named points in the code at which a test may kill the process, or let it fail, to see what is left behind.

Off, a point costs one comparison. It is on when `FAILPOINTS` names a folder: a process that comes to a point takes the
file of that name away, if there is one (`<name>.done` is left), and does what stands in it. Nothing, or `kill`: SIGKILL
to itself; an error's name such as `ENOSPC`: that `OSError`; a number: it waits for so many seconds. So each file works
once, for one process. The production profile refuses `FAILPOINTS` at start.
"""

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_act: Callable[[str], None] | None = None


def failpoint(name: str) -> None:
    """A point at which the process may end."""
    if _act is not None:
        _act(name)


@contextmanager
def armed(act: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile this process calls `act` with the name of each point that it passes; for tests."""
    global _act
    before, _act = _act, act
    try:
        yield
    finally:
        _act = before


def _from_folder(folder: Path) -> Callable[[str], None]:
    def act(name: str) -> None:
        taken = folder / f"{name}.done"
        try:
            order = (folder / name).read_text().strip()
            (folder / name).rename(taken)
        except FileNotFoundError:
            return
        os.utime(taken)
        if order in {"", "kill"}:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()
        elif hasattr(errno, order):
            number = getattr(errno, order)
            raise OSError(number, os.strerror(number))
        else:
            time.sleep(float(order))

    return act


if os.environ.get("FAILPOINTS"):
    _act = _from_folder(Path(os.environ["FAILPOINTS"]))
