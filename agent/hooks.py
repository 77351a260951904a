"""The hooks around a move of ``current``: pre, post and health, of the package and of the administrator.

``pre`` runs before the move and may refuse it; ``post`` after it, for example to restart a service;
``health`` last. They are those of the version that ``current`` points to afterwards, or, where none follows,
of the one that goes. The administrator's run around the package's: first before, last afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from agent.command import HEALTH, POST, PRE, ROLLBACK, Command
from agent.errors import InstallError
from agent.package import read_hooks_of

INSTALL, REMOVE, REVERT, UNDO, CHECK = "install", "remove", "revert", "rollback", "check"
CODES = {
    PRE: "pre_hook_failed",
    POST: "post_hook_failed",
    HEALTH: "health_check_failed",
    ROLLBACK: "rollback_hook_failed",
}


class Move(NamedTuple):
    """A move of ``current`` of ``product``; ``folder`` is that of the version whose hooks run."""

    operation: str
    product: str
    version: str | None
    previous: str | None
    folder: Path

    def __str__(self) -> str:
        return f"{self.product} {self.version or 'removal'}"


class Hooks:
    """Runs the hooks of moves below ``root``; ``own`` are the administrator's commands."""

    def __init__(self, root: Path, own: dict[str, Command]) -> None:
        self._root = root
        self._own = own
        self._record = root / ".agent" / "command"

    def has(self, name: str, move: Move) -> bool:
        """Whether ``run`` would run anything."""
        return bool(self._commands(name, move))

    def run(self, name: str, move: Move) -> None:
        """Runs the hook ``name`` around ``move``. Raises InstallError with its code and output, OSError."""
        for owner, command in self._commands(name, move):
            from agent.process import CommandFailed, run_command

            try:
                run_command(command, self._folder(move), self._environment(move), self._record)
            except CommandFailed as error:
                raise InstallError(CODES[name], f"{move}: {owner}{error}", error.lines) from None

    def end_leftovers(self) -> None:
        """Kills what a hook left running whose agent was killed. Raises OSError."""
        if self._record.exists():
            from agent.process import end_leftovers

            end_leftovers(self._record)

    def _commands(self, name: str, move: Move) -> list[tuple[str, Command]]:
        found = []
        own, packaged = self._own.get(name), read_hooks_of(move.folder).get(name)
        if packaged is not None and not (name == HEALTH and move.operation == REMOVE):
            found.append(("", packaged))
        if own is not None:
            found.insert(0 if name == PRE else len(found), ("the administrator's command: ", own))
        return found

    def _folder(self, move: Move) -> Path:
        current = self._root / move.product / "current"
        # Through the link where it points there already: a command may ask where it is.
        return current if current.exists() and current.samefile(move.folder) else move.folder

    def _environment(self, move: Move) -> dict[str, str]:
        return {
            "AGENT_CI_ROOT": str(self._root),
            "AGENT_PRODUCT": move.product,
            "AGENT_VERSION": move.version or "",
            "AGENT_PREVIOUS": move.previous or "",
            "AGENT_OPERATION": move.operation,
            # Version folders are immutable, so a command may not drop byte code into them.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
