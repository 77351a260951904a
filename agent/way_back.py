"""How a version is left again, where more than the link has to go back: by the package's own script, or by putting
back what was kept before it was installed.

With ``itsm.way_back`` a deployment says how its version will be left: the agent refuses one whose package cannot be,
and keeps the data that the package names. With ``itsm.go_back`` it orders to leave the version that runs in this way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.command import ROLLBACK
from agent.config import Config
from agent.errors import InstallError
from agent.hooks import UNDO, Hooks, Move
from agent.offer import SCRIPT, SNAPSHOT, Item
from agent.package import read_keep_of
from agent.store import Store

if TYPE_CHECKING:
    from agent.kept import Kept


class WayBack:
    """What an action does about ways back. Every method may be called again after a crash; all raise OSError."""

    def __init__(self, config: Config, store: Store, hooks: Hooks) -> None:
        self._config = config
        self._store = store
        self._hooks = hooks

    @property
    def _kept(self) -> Kept:
        from agent.kept import Kept

        return Kept(self._config.root, self._config.disk_reserve_bytes)

    def is_restore(self, item: Item) -> bool:
        """Whether the item comes from what was kept, so that nothing is downloaded for it."""
        return item.is_back and item.way_back == SNAPSHOT

    def check(self, item: Item) -> None:
        """Raises InstallError when the way back cannot be gone, now or later; before anything is touched."""
        runs = self._store.current(item.product)
        if not item.way_back or (item.is_back and self._is_there(item, runs)):
            return
        if not item.is_back:
            if not item.remove:
                self._check_package(item)
        elif item.way_back == SCRIPT:
            if runs is not None and not self._hooks.has(ROLLBACK, self._undo(item, runs)):
                raise InstallError("no_rollback_script", f"{item.product} {runs} has no rollback script")
        else:
            self._check_kept(item, runs)

    def check_signed(self, item: Item) -> None:
        """Raises InstallError when what would be put back is not the very thing that was signed."""
        if self.is_restore(item) and not item.remove:
            digest = self._store.digest(item.product, item.version)
            if digest is not None and digest != item.sha256:
                raise InstallError("artifact_mismatch", f"{item.product} {item.version} is here from another artifact")
            if digest is None:
                raise InstallError("snapshot_missing", f"{item.product} {item.version} is not here as it was signed")

    def leave(self, item: Item, previous: str | None) -> None:
        """Before the switch: keeps the data, or runs the script of what is left. Raises InstallError."""
        if not item.way_back or (item.remove and not item.is_back) or self._is_there(item, previous):
            return
        if item.is_back:
            if item.way_back == SCRIPT and previous is not None:
                self._hooks.run(ROLLBACK, self._undo(item, previous))
        elif item.way_back == SNAPSHOT:
            from agent.kept import Record

            paths = read_keep_of(self._store.folder(item.product, item.version, item.sha256))
            self._kept.keep(item.product, Record(item.version, previous, paths or ()))

    def put_back(self, item: Item, previous: str | None) -> None:
        """After the switch: the data that was kept. Raises InstallError."""
        if self.is_restore(item) and not self._is_there(item, previous):
            self._kept.put_back(item.product)

    def revert(self, item: Item, previous: str | None, *, had_run: bool) -> list[str]:
        """The action failed: takes back what ``put_back`` did, or leaves the new version in its own way. What went
        wrong, for the report. Raises InstallError. ``had_run``: hooks of the new version were called.
        """
        if self._is_there(item, previous):
            return []
        if self.is_restore(item):
            self._kept.take_again(item.product)
        if item.is_back or item.remove:
            return []
        if item.way_back == SNAPSHOT:
            self._kept.put_back(item.product)
        elif item.way_back == SCRIPT and had_run:
            folder = self._store.folder(item.product, item.version, item.sha256)
            try:
                self._hooks.run(ROLLBACK, Move(UNDO, item.product, previous, item.version, folder))
            except InstallError as error:
                return error.details()
        return []

    def done(self, item: Item, previous: str | None) -> None:
        """The action succeeded: what is kept leads back from the installation that runs, or from none."""
        if not self._is_there(item, previous) and (item.is_back or item.way_back != SNAPSHOT):
            self._kept.drop(item.product)

    def sweep(self) -> None:
        """Deletes work in progress. Only while no action is in hand."""
        if (self._config.agent_folder / "kept").is_dir():
            self._kept.sweep()

    def _check_package(self, item: Item) -> None:
        folder = self._store.folder(item.product, item.version, item.sha256)
        what = f"{item.product} {item.version}"
        if item.way_back == SCRIPT and not self._hooks.has(ROLLBACK, Move(UNDO, item.product, None, None, folder)):
            raise InstallError("no_rollback_script", f"{what} is to be left by its script, but has none")
        if item.way_back == SNAPSHOT and read_keep_of(folder) is None:
            raise InstallError("nothing_to_keep", f"{what} is to be left by a snapshot, but does not say what to keep")

    def _check_kept(self, item: Item, runs: str | None) -> None:
        record = self._kept.record(item.product)
        wanted = None if item.remove else item.version
        if record is None or (record.version, record.previous) != (runs, wanted):
            what = f"of {record.previous} before {record.version}" if record else "nothing"
            raise InstallError("snapshot_missing", f"{item.product}: kept is {what}; it runs {runs or 'nothing'}")
        if wanted is not None and not self._store.folder(item.product, wanted).is_dir():
            raise InstallError("snapshot_missing", f"the folder of {item.product} {wanted} is gone")

    def _undo(self, item: Item, runs: str) -> Move:
        version = None if item.remove else item.version
        return Move(UNDO, item.product, version, runs, self._store.folder(item.product, runs))

    @staticmethod
    def _is_there(item: Item, runs: str | None) -> bool:
        return runs == (None if item.remove else item.version)
