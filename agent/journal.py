"""journal.jsonl: one line per HTTP report, for audits that compare it with the server's events."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

_ROTATE_BYTES = 8 * 1024 * 1024


class Journal:
    """Appends to a file; the one before it is kept as ``journal.jsonl.1``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(
        self,
        kind: str,
        action: str | None,
        body: dict[str, Any],
        *,
        number: int | None = None,
        status: int | None = None,
        error: str | None = None,
    ) -> None:
        """Records one attempt: the server's ``status``, or why there was none. Raises OSError."""
        line = {
            "time": round(time.time(), 3),
            "kind": kind,
            "action": action,
            "report": number,
            "status": status,
            "error": error,
            "body": body,
        }
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                data = b"\n" + data  # the line before was cut by a full disk
            os.write(handle, data)
        finally:
            os.close(handle)
        if size > _ROTATE_BYTES:
            os.replace(self.path, self.path.with_name(f"{self.path.name}.1"))
