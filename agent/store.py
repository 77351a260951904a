"""The CI folder on disk: version folders, the ``current`` links, and moving between them.

``<root>/<product>/versions/<version>`` is complete or not there. Names with a dot in front are the agent's
work in progress: ``.new-`` being unpacked, ``.old-`` a folder being replaced, kept until the action is over,
``.copy-`` and ``.trash-`` on their way in and out. Every method may be called again after a crash in the
middle of it and ends in the same state. What only an installation needs is loaded only then: an idle agent
stays small.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from agent.config import is_segment
from agent.durable import sync_folder, write_json
from agent.errors import InstallError
from agent.offer import Item
from agent.package import COMPLETE, Limits, read_software


class Store:
    """Reads and changes one CI folder. Methods raise OSError when the disk fails."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.downloads = root / ".agent" / "downloads"

    def products(self) -> list[str]:
        """The product folders, sorted."""
        names = [entry.name for entry in os.scandir(self.root) if entry.is_dir(follow_symlinks=False)]
        return sorted(name for name in names if is_segment(name))

    def running(self) -> dict[str, str]:
        """Version label per product that has a current version: what this CI really runs."""
        found = {product: self.current(product) for product in self.products()}
        return {product: version for product, version in found.items() if version is not None}

    def current(self, product: str) -> str | None:
        """The label ``current`` points to, None if there is no usable link."""
        target = self._link_target(product)
        if target is None or not (self._versions(product) / target).is_dir():
            return None
        label = target.removeprefix(".old-")
        return label if is_segment(label) else None

    def digest(self, product: str, version: str) -> str | None:
        """The sha256 of the artifact that ``version`` was unpacked from; None if unknown or not there."""
        return _digest(self._versions(product) / version)

    def is_prepared(self, item: Item) -> bool:
        """Whether the item needs no download: it is unpacked, or in place from the same artifact."""
        return item.remove or item.sha256 in (
            self.digest(item.product, item.version),
            _digest(self._new(item)),
        )

    def is_in_place(self, item: Item) -> bool:
        """Whether exactly this artifact is what runs now."""
        return self.current(item.product) == item.version and self.digest(item.product, item.version) == item.sha256

    def prepare(self, item: Item, archive: Path, limits: Limits) -> None:
        """Unpacks ``archive`` beside the versions and checks it. Raises InstallError, leaving nothing."""
        from agent.archive import unpack

        new = self._new(item)
        self._remove_tree(new)
        new.parent.mkdir(parents=True, exist_ok=True)
        try:
            unpack(archive, new, limits)
            read_software(new, item.product, item.version)
            write_json(new / COMPLETE, {"sha256": item.sha256})
        except (InstallError, OSError):
            self._remove_tree(new)
            raise
        sync_folder(new.parent)
        sync_folder(new.parent.parent)
        sync_folder(self.root)

    def folder(self, product: str, version: str, sha256: str = "") -> Path:
        """Where the content of ``version`` is now: in place, on its way in (that of ``sha256``), or on its way out."""
        versions = self._versions(product)
        new, old = versions / f".new-{version}", versions / f".old-{version}"
        if sha256:
            return new if _digest(new) == sha256 else versions / version
        return old if old.is_dir() else versions / version

    def switch(self, item: Item) -> None:
        """Puts the prepared folder in place and points ``current`` to it; a removal drops ``current``."""
        if item.remove:
            self._point(item.product, None)
            return
        self._place(item)
        self._point(item.product, item.version)

    def revert(self, item: Item, previous: str | None) -> None:
        """Points ``current`` back to ``previous``, with its content. Raises InstallError folder_missing."""
        versions = self._versions(item.product)
        old = versions / f".old-{item.version}"
        if not item.remove and old.is_dir():
            if previous == item.version:
                self._point(item.product, old.name)
            else:
                self._point_back(item.product, previous)
            self._trash(versions / item.version)
            _copy_tree(old, versions / item.version)
        self._point_back(item.product, previous)

    def check_place(self, item: Item) -> None:
        """Raises InstallError bad_layout when ``current`` is not the agent's: it is somebody's data."""
        link = self._current(item.product)
        if os.path.lexists(link) and self._link_target(item.product) is None:
            raise InstallError("bad_layout", f"{item.product}/current is not a link into versions")

    def sweep(self) -> None:
        """Deletes all work in progress. Only while no action is in hand."""
        for product in self.products():
            versions = self._versions(product)
            for entry in list(os.scandir(versions)) if versions.is_dir() else []:
                if entry.name.startswith((".new-", ".old-", ".trash-", ".copy-")):
                    self._remove_tree(Path(entry.path))
            self._current(product).with_name(".current.tmp").unlink(missing_ok=True)
        for entry in list(os.scandir(self.downloads)):
            os.unlink(entry.path)

    def _place(self, item: Item) -> None:
        versions = self._versions(item.product)
        new, final, old = self._new(item), versions / item.version, versions / f".old-{item.version}"
        if _digest(new) != item.sha256:
            return  # placed before a crash, or the folder was there already
        if os.path.lexists(final):
            # `current` must never point to nothing, so it moves to a copy of the old content first.
            _copy_tree(final, old)
            if self._link_target(item.product) == item.version:
                self._point(item.product, old.name)
            self._trash(final)
        os.rename(new, final)
        sync_folder(versions)

    def _point(self, product: str, name: str | None) -> None:
        link = self._current(product)
        if name is None:
            link.unlink(missing_ok=True)
        else:
            if not (self._versions(product) / name).is_dir():
                raise InstallError("folder_missing", f"the folder of {product} {name} is gone")
            temporary = link.with_name(".current.tmp")
            temporary.unlink(missing_ok=True)
            os.symlink(f"versions/{name}", temporary)
            os.replace(temporary, link)
        if link.parent.is_dir():
            sync_folder(link.parent)

    def _point_back(self, product: str, previous: str | None) -> None:
        if self._link_target(product) != previous:
            self._point(product, previous)

    def _link_target(self, product: str) -> str | None:
        try:
            target = os.readlink(self._current(product))
        except OSError:
            return None
        folder, _, name = target.rpartition("/")
        return name if folder == "versions" and name not in ("", ".", "..") else None

    def _trash(self, folder: Path) -> None:
        trash = folder.with_name(f".trash-{folder.name}")
        self._remove_tree(trash)
        if os.path.lexists(folder):
            os.rename(folder, trash)

    def _remove_tree(self, folder: Path) -> None:
        if folder.is_dir() and not folder.is_symlink():
            import shutil

            shutil.rmtree(folder)
        elif os.path.lexists(folder):
            folder.unlink()

    def _versions(self, product: str) -> Path:
        return self.root / product / "versions"

    def _new(self, item: Item) -> Path:
        return self._versions(item.product) / f".new-{item.version}"

    def _current(self, product: str) -> Path:
        return self.root / product / "current"


def _digest(folder: Path) -> str | None:
    try:
        raw = json.loads((folder / COMPLETE).read_bytes())
    except (OSError, ValueError):
        return None
    value = raw.get("sha256") if isinstance(raw, dict) else None
    return value if isinstance(value, str) else None


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        import shutil

        shutil.copy2(source, target, follow_symlinks=False)


def _copy_tree(source: Path, target: Path) -> None:
    """Makes ``target`` the same as ``source`` in one step, sharing the files; one that is there is kept."""
    if target.is_dir():
        return
    import shutil

    copy = target.with_name(f".copy-{target.name}")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy, symlinks=True, copy_function=_link_or_copy)
    os.rename(copy, target)
    sync_folder(target.parent)
