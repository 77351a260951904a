"""Everything that these tests start; nothing of it outlives them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from itsm_portal.supervisor import Supervisor

# Generous, for busy machines: on a quiet one everything that is waited for takes a few seconds.
PATIENCE = 120.0


class Processes:
    """Starts and ends programs, and waits for what they do."""

    def __init__(self, folder: Path) -> None:
        self.supervisor = Supervisor(folder / "logs", lambda _line: None, stop_seconds=5)

    def until(self, what: str, ask: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Asks until the answer is true, and returns it."""
        deadline = time.monotonic() + seconds
        while True:
            self.supervisor.poll()
            answer = ask()
            if answer:
                return answer
            assert time.monotonic() < deadline, f"after {seconds:.0f} s still not: {what}\n{self._story()}"
            time.sleep(0.03)

    def _story(self) -> str:
        logs = sorted(self.supervisor.log_dir.glob("*.log"), key=lambda log: log.stat().st_mtime)[-2:]
        return "\n".join(f"--- {log.stem}\n{self.supervisor.tail(log.stem, 40)}" for log in logs)
