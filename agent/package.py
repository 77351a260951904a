"""What a software package says about itself in ``software.json``."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any, NamedTuple

from agent.command import PACKAGE_HOOKS, Command, read_hooks
from agent.config import Config, is_segment
from agent.errors import InstallError
from agent.untrusted import read_object

COMPLETE = ".complete"
SOFTWARE = "software.json"
_MAX_SOFTWARE = 64 * 1024


class Limits(NamedTuple):
    """What an archive may grow to: bytes in all, times its packed size, number of members.

    ``reserve_bytes`` of the disk stay free whatever happens.
    """

    max_bytes: int
    max_ratio: int
    max_members: int
    reserve_bytes: int = 0

    @classmethod
    def of(cls, config: Config) -> Limits:
        """The limits that ``config`` sets."""
        sizes = (config.max_unpacked_bytes, config.max_unpack_ratio, config.max_members)
        return cls(*sizes, config.disk_reserve_bytes)


def read_software(folder: Path, product: str, version: str) -> None:
    """Checks ``software.json`` in ``folder``. Raises InstallError bad_software_json, wrong_product or wrong_version."""
    raw = _read(folder)
    if not is_segment(raw.get("product")) or not is_segment(raw.get("version")):
        raise InstallError("bad_software_json", "it does not name a product and a version")
    for name, expected in (("product", product), ("version", version)):
        if raw[name] != expected:
            inside = f"{raw['product']} {raw['version']}"
            raise InstallError(f"wrong_{name}", f"the archive is {inside}, not {product} {version}")
    try:
        read_hooks(raw, PACKAGE_HOOKS)
        _read_keep(raw)
    except ValueError as error:
        raise InstallError("bad_software_json", str(error)) from None


def read_hooks_of(folder: Path) -> dict[str, Command]:
    """The commands of the package in ``folder``; none if it says nothing usable: somebody may have put it there."""
    try:
        return read_hooks(_read(folder), PACKAGE_HOOKS)
    except (InstallError, ValueError):
        return {}


def read_keep_of(folder: Path) -> tuple[str, ...] | None:
    """The paths that the package in ``folder`` wants to be kept before it is installed; None: it names none."""
    try:
        return _read_keep(_read(folder))
    except (InstallError, ValueError):
        return None


def _read_keep(raw: dict[str, Any]) -> tuple[str, ...] | None:
    """The paths under ``keep`` of a package; None: it names none. Raises ValueError with what is wrong."""
    paths = raw.get("keep")
    if paths is None:
        return None
    if not isinstance(paths, list) or len(paths) > 50 or not all(isinstance(path, str) for path in paths):
        raise ValueError("keep must be a list of at most 50 paths")
    for path in paths:
        parts = path.split("/")
        # The version folders are the agent's own; they go back by the link.
        if not all(is_segment(part) for part in parts) or parts[0] in ("versions", "current") or len(path) > 200:
            raise ValueError(f"keep: {path[:80]!r} is not a path below the product's folder")
    if any(one != other and f"{other}/".startswith(f"{one}/") for one in paths for other in paths):
        raise ValueError("keep: one path lies below another one")
    if len(set(paths)) != len(paths):
        raise ValueError("keep: a path is there twice")
    return tuple(paths)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / SOFTWARE
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or path.stat().st_size > _MAX_SOFTWARE:
            raise InstallError("bad_software_json", "it is not a small plain file")
        return read_object(path.read_bytes())
    except OSError as error:
        raise InstallError("bad_software_json", f"cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InstallError("bad_software_json", f"it is not a JSON object ({error})") from None
