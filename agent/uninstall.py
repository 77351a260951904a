"""Taking the agent off a machine. The software stays, unless it is asked to go."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from agent.config import Config
from agent.runner import lock
from agent.store import Store


def uninstall(config: Config, *, remove_software: bool) -> list[str]:
    """Deletes the agent's own folder, with ``remove_software`` also every product that it manages.

    Returns what was done and what is left, line by line. Raises AlreadyRunning, OSError.
    """
    if not config.agent_folder.is_dir():
        return [f"{config.agent_folder} is not there: nothing to remove"]
    held = lock(config.agent_folder)
    lines = []
    try:
        undelivered = _undelivered(config.agent_folder / "state.json")
        if undelivered:
            lines.append(f"{undelivered} reports were never delivered and are lost")
        for product in Store(config.root).products():
            lines.append(_handle_product(config.root / product, remove_software))
        # The lock goes last: until then no other agent starts.
        shutil.rmtree(config.agent_folder)
    finally:
        os.close(held)
    lines.append(f"removed {config.agent_folder}")
    if not any(config.root.iterdir()):
        config.root.rmdir()
        lines.append(f"removed {config.root}")
    return lines


def _handle_product(folder: Path, remove: bool) -> str:
    link = folder / "current"
    if not (folder / "versions").is_dir() or (os.path.lexists(link) and not link.is_symlink()):
        return f"left {folder}: it is not the agent's"
    if not remove:
        return f"left {folder}"
    # First nothing is current, so that nobody finds half a version.
    link.unlink(missing_ok=True)
    shutil.rmtree(folder / "versions")
    try:
        folder.rmdir()
    except OSError:
        return f"removed the versions of {folder.name}; {folder} holds files of somebody else"
    return f"removed {folder}"


def _undelivered(path: Path) -> int:
    try:
        return len(json.loads(path.read_bytes())["outbox"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
