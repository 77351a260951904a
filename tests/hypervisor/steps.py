"""How long the steps of a machine's life take, and its memory: shown by `pytest -s`, listed in the documentation."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Steps:
    """Seconds by step, in the order in which they began; load is that of the host (one minute) meanwhile."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str]] = []
        self._load = [os.getloadavg()[0]]

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self._rows.append((name, f"{time.monotonic() - begun:.1f} s"))
        self._load.append(os.getloadavg()[0])

    def memory(self, name: str, process: int | None) -> None:
        """The most that a process has held so far."""
        status = Path(f"/proc/{process}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        self._rows.append((name, f"{int(peak.split()[1]) * 1024 // 10**6} MB"))

    def tell(self) -> None:
        width = max(len(name) for name, _value in self._rows)
        lines = [f"{name:{width}}  {value}" for name, value in self._rows]
        load = f"load {min(self._load):.1f} to {max(self._load):.1f} on {os.cpu_count()} processors"
        print("\n".join(["", *lines, load]))
