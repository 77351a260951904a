"""What a software package says about itself in ``software.json``."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, NamedTuple

from agent.config import is_segment
from agent.errors import InstallError

COMPLETE = ".complete"
SOFTWARE = "software.json"
_MAX_SOFTWARE = 64 * 1024


class Limits(NamedTuple):
    """What an archive may grow to: bytes in all, times its packed size, number of members."""

    max_bytes: int
    max_ratio: int
    max_members: int


class Software(NamedTuple):
    """What ``software.json`` says. An empty ``command`` means: no health check."""

    product: str
    version: str
    command: tuple[str, ...]
    timeout_seconds: float


def read_software(folder: Path, product: str, version: str) -> Software:
    """Reads ``software.json`` in ``folder``. Raises InstallError bad_software_json, wrong_product or wrong_version."""
    path = folder / SOFTWARE
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or path.stat().st_size > _MAX_SOFTWARE:
            raise InstallError("bad_software_json", "it is not a small plain file")
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise InstallError("bad_software_json", f"cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise InstallError("bad_software_json", "it is not JSON") from None
    if not isinstance(raw, dict) or not is_segment(raw.get("product")) or not is_segment(raw.get("version")):
        raise InstallError("bad_software_json", "it does not name a product and a version")
    for name, expected in (("product", product), ("version", version)):
        if raw[name] != expected:
            inside = f"{raw['product']} {raw['version']}"
            raise InstallError(f"wrong_{name}", f"the archive is {inside}, not {product} {version}")
    return _read_health(raw)


def _read_health(raw: dict[str, Any]) -> Software:
    health = raw.get("health")
    if health is None:
        return Software(raw["product"], raw["version"], (), 0.0)
    command = health.get("command") if isinstance(health, dict) else None
    words = command if isinstance(command, list) else []
    if not words or not all(isinstance(word, str) and word for word in words):
        raise InstallError("bad_software_json", "health.command must be a list of texts")
    if any("\0" in word for word in words):
        raise InstallError("bad_software_json", "health.command holds a zero byte")
    timeout = health.get("timeout_seconds", 30)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= 3600:
        raise InstallError("bad_software_json", "health.timeout_seconds must be above 0 and at most 3600")
    return Software(raw["product"], raw["version"], tuple(words), float(timeout))
