"""What the parts of a benchmark in one process cost: wall time, processor time here and in the database, statements.

The processor time of the database is that of this connection's backend, and of its parallel workers when they have
ended; what the checkpointer and the writers do in the background is in no part.
"""

import contextlib
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class OutOfTime(Exception):
    """The benchmark's time is over."""


@dataclass(frozen=True, slots=True)
class Lap:
    """One measurement; times in seconds. `statements` is the most between two splits."""

    wall: float
    own_cpu: float
    database_cpu: float
    statements: int

    @property
    def cpu(self) -> float:
        return self.own_cpu + self.database_cpu


class Stopwatch:
    """Laps by the name of their part. Needs the one connection that is used all the time; stops at the deadline."""

    def __init__(self, deadline: float) -> None:
        from django.db import connection

        self.laps: dict[str, list[Lap]] = {}
        self._deadline = deadline
        self._statements = self._most_statements = 0
        self._memory_before = 0
        connection.ensure_connection()
        self._connection = connection
        self._backend = connection.connection.info.backend_pid

    @contextlib.contextmanager
    def lap(self, part: str) -> Iterator[None]:
        """Measures what happens meanwhile. Raises OutOfTime before it when the time is over."""
        if time.monotonic() > self._deadline:
            raise OutOfTime
        self._statements = self._most_statements = 0
        begun, own, database = time.perf_counter(), time.thread_time(), self._database_cpu()
        with self._connection.execute_wrapper(self._count):
            yield
        wall = time.perf_counter() - begun
        lap = Lap(wall, time.thread_time() - own, self._database_cpu() - database, self.split())
        self.laps.setdefault(part, []).append(lap)

    def split(self) -> int:
        """Counts the statements anew; the most so far."""
        self._most_statements = max(self._most_statements, self._statements)
        self._statements = 0
        return self._most_statements

    def _count(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        self._statements += 1
        return execute(*arguments)

    def _database_cpu(self) -> float:
        """In seconds, to the nanosecond where the kernel counts them."""
        return int(Path(f"/proc/{self._backend}/schedstat").read_text().split()[0]) / 1e9

    def wall(self, part: str) -> float:
        return sum(lap.wall for lap in self.laps[part])

    def cpu(self, part: str) -> float:
        return sum(lap.cpu for lap in self.laps[part])

    def spread(self, parts: Iterable[str]) -> dict[str, float]:
        """Of all laps of these parts: how many, the median and the longest, in wall and in processor time (ms)."""
        laps = [lap for part in parts for lap in self.laps.get(part, ())]
        found: dict[str, float] = {"ticks": len(laps)}
        for unit, times in (("ms", [lap.wall for lap in laps]), ("cpu_ms", [lap.cpu for lap in laps])):
            found[f"median_{unit}"] = round(statistics.median(times or [0]) * 1000, 1)
            found[f"longest_{unit}"] = round(max(times, default=0) * 1000, 1)
        return found

    def start_memory(self) -> None:
        """From here on the highest memory of this process counts."""
        Path("/proc/self/clear_refs").write_text("5")
        self._memory_before = _memory("VmRSS")

    def memory_kib(self) -> int:
        """How much higher it was at most than at the start, in KiB."""
        return _memory("VmHWM") - self._memory_before if self._memory_before else 0

    def to_json(self) -> dict[str, Any]:
        """The parts; times in seconds, those of one lap in milliseconds."""
        return {
            "parts": {
                name: {
                    "laps": len(laps),
                    "wall": round(self.wall(name), 3),
                    "cpu": round(self.cpu(name), 3),
                    "own_cpu": round(sum(lap.own_cpu for lap in laps), 3),
                    "longest_ms": round(max(lap.wall for lap in laps) * 1000, 1),
                    "median_ms": round(statistics.median(lap.wall for lap in laps) * 1000, 1),
                    "most_statements": max(lap.statements for lap in laps),
                }
                for name, laps in self.laps.items()
            }
        }


def _memory(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
