"""What goes wrong in the drill: one thing every few seconds, chosen by the seed."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from tests.drill import proxy
from tests.faults.failpoints import POINTS

if TYPE_CHECKING:
    from tests.drill.__main__ import Drill

# Seconds between two faults.
PAUSE = (3.0, 9.0)
KILLED = [point.name for point in POINTS if point.scenario != "upload"]


class Nemesis:
    """Does harm, and takes back what does not end by itself; `done` counts what."""

    def __init__(self, drill: "Drill", seed: int) -> None:
        self.drill, self.chance = drill, random.Random(seed)
        self.done: Counter[str] = Counter()
        self._ends: list[tuple[float, Callable[[], None]]] = []
        self._next = 0.0

    def tick(self) -> None:
        """Called many times a second."""
        now = time.monotonic()
        for end in [end for end in self._ends if end[0] <= now]:
            self._ends.remove(end)
            end[1]()
        if now >= self._next:
            self._next = now + self.chance.uniform(*PAUSE)
            name = self.chance.choice([*_FAULTS])
            self.done[name] += 1
            _FAULTS[name](self)

    def heal(self) -> None:
        """Everything that still goes on ends now."""
        for _at, end in self._ends:
            end()
        self._ends.clear()
        for point in KILLED:
            self.drill.stack.disarm(point)

    def later(self, seconds: float, end: Callable[[], None]) -> None:
        self._ends.append((time.monotonic() + seconds, end))

    # --- faults ---------------------------------------------------------------------------------------------
    def kill(self, *names: str) -> None:
        for name in names:
            pid = self.drill.stack.supervisor.pid(name)
            if pid is not None:
                os.killpg(pid, signal.SIGKILL)

    def stop_valkey(self) -> None:
        pid = self.drill.stack.supervisor.pid("valkey")
        if pid is not None:
            os.kill(pid, signal.SIGSTOP)
            self.later(self.chance.uniform(5, 20), lambda: _go_on(pid))

    def flush_valkey(self) -> None:
        with _unless_away():
            self.drill.stack.flush_valkey()

    def failpoint(self) -> None:
        self.drill.stack.arm(self.chance.choice(KILLED))

    def disturb(self, mode: str) -> None:
        self.drill.proxy.mode, self.drill.proxy.seconds = mode, self.chance.uniform(0.2, 3)
        self.later(self.chance.uniform(2, 12), self._undisturbed)

    def _undisturbed(self) -> None:
        self.drill.proxy.mode = proxy.PASS

    def no_mail(self) -> None:
        """A file stands where the folder of the mails is to be."""
        folder = self.drill.stack.folder / "mail"
        aside = folder.with_name("mail.aside")
        if aside.exists() or folder.is_file():
            return
        if folder.exists():
            folder.rename(aside)
        folder.touch()
        self.later(self.chance.uniform(5, 30), lambda: _put_back(folder, aside))

    def full_disk(self) -> None:
        self.drill.stack.arm("upload.block", "ENOSPC")
        self.drill.ask("upload", label=f"drill-{self.done['disk full on upload']}")
        self.drill.stack.disarm("upload.block")

    def operate(self) -> None:
        self.drill.ask("operate", seed=self.chance.randrange(10**6))


def _go_on(pid: int) -> None:
    with _unless_away():
        os.kill(pid, signal.SIGCONT)


def _put_back(folder: Path, aside: Path) -> None:
    folder.unlink(missing_ok=True)
    if aside.exists():
        aside.rename(folder)


@contextmanager
def _unless_away() -> Iterator[None]:
    with suppress(redis.RedisError, OSError):
        yield


_FAULTS: dict[str, Callable[[Nemesis], None]] = {
    "web killed": lambda n: n.kill("web"),
    "worker killed": lambda n: n.kill("worker"),
    "beat killed": lambda n: n.kill("beat"),
    "valkey killed": lambda n: n.kill("valkey"),
    "web, worker, beat and valkey killed": lambda n: n.kill("web", "worker", "beat", "valkey"),
    "valkey stopped": Nemesis.stop_valkey,
    "valkey flushed": Nemesis.flush_valkey,
    "database restarted at once": lambda n: n.drill.restart_database(),
    "connections delayed": lambda n: n.disturb(proxy.DELAY),
    "answers swallowed": lambda n: n.disturb(proxy.SWALLOW),
    "connections cut": lambda n: n.disturb(proxy.CUT),
    "mail down": Nemesis.no_mail,
    "disk full on upload": Nemesis.full_disk,
    "killed at a failpoint": Nemesis.failpoint,
    "killed at another failpoint": Nemesis.failpoint,
    "somebody operates": Nemesis.operate,
    "somebody operates again": Nemesis.operate,
}
