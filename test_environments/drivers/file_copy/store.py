"""Folders by uuid, each either complete or absent: made beside their place, and taken away beside it.

<uuid>/  .new-<uuid>/  .trash-<uuid>/
"""

import os
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from test_environments.drivers.file_copy.copying import remove_tree
from test_environments.failpoint import reach

_PREFIXES = (".new-", ".trash-")


class Store:
    """One folder of such folders."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: UUID) -> Path:
        """Where the thing is once it is complete."""
        return self.root / str(key)

    def has(self, key: UUID) -> bool:
        return self.path(key).is_dir()

    def begin(self, key: UUID) -> Path:
        """An empty folder in which the thing is made; what an earlier try left is removed. Raises OSError."""
        new = self._beside(key, ".new-")
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_tree(new)
        new.mkdir(mode=0o700)
        return new

    def give_up(self, key: UUID) -> None:
        """Removes what `begin` began."""
        remove_tree(self._beside(key, ".new-"))

    def finish(self, key: UUID) -> None:
        """Gives what was made its place, instead of what was there. Raises OSError."""
        self._move_away(key)
        os.rename(self._beside(key, ".new-"), self.path(key))
        remove_tree(self._beside(key, ".trash-"))

    def remove(self, key: UUID, check: Callable[[], None] = lambda: None) -> None:
        """Deletes all of the thing; absent is fine. Raises OSError."""
        self._move_away(key)
        reach("moved_away")
        for prefix in _PREFIXES:
            remove_tree(self._beside(key, prefix), check)

    def all(self) -> list[UUID]:
        """Everything of which something is on this disk, sorted."""
        try:
            names = os.listdir(self.root)
        except FileNotFoundError:
            return []
        found = set()
        for name in names:
            try:
                found.add(UUID(name.removeprefix(".new-").removeprefix(".trash-")))
            except ValueError:
                continue
        return sorted(found)

    def parts(self, key: UUID) -> list[Path]:
        """The folders that there are of a thing, the complete one first."""
        return [p for p in (self.path(key), *(self._beside(key, prefix) for prefix in _PREFIXES)) if p.is_dir()]

    def _move_away(self, key: UUID) -> None:
        final, trash = self.path(key), self._beside(key, ".trash-")
        if os.path.lexists(final):
            remove_tree(trash)
            os.rename(final, trash)

    def _beside(self, key: UUID, prefix: str) -> Path:
        return self.root / f"{prefix}{key}"
