"""What the agent keeps of a product's own data before it installs a version, and puts back when that is left again.

``<root>/.agent/kept/<product>/`` holds ``kept.json`` and, below ``data``, a copy of what the package names under
``keep``: files and folders below ``<root>/<product>``. One for each product: that of the installation that runs. Every
method may be called again after a crash in the middle of it and ends in the same state.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import NamedTuple

from agent.disk import check_space
from agent.durable import sync_folder, write_json
from agent.errors import InstallError

_NAMES = "kept.json", "was.json"


class Record(NamedTuple):
    """What was kept: before ``version`` was installed over ``previous`` (None: nothing was there)."""

    version: str
    previous: str | None
    paths: tuple[str, ...]


class Kept:
    """Keeps and puts back below ``root``; ``reserve_bytes`` of the disk stay free. Methods raise OSError."""

    def __init__(self, root: Path, reserve_bytes: int) -> None:
        self._root = root
        self._folder = root / ".agent" / "kept"
        self._reserve = reserve_bytes

    def record(self, product: str) -> Record | None:
        """What is kept of the product; None: nothing that can be read."""
        try:
            raw = json.loads((self._folder / product / _NAMES[0]).read_bytes())
            return Record(raw["version"], raw["previous"], tuple(raw["paths"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, product: str, record: Record) -> None:
        """Copies the product's data. Raises InstallError disk_full, unsafe_path or unsafe_member."""
        sources = {path: self._place(product, path) for path in record.paths}
        self._folder.mkdir(parents=True, exist_ok=True)
        needed = sum(_size(source) for source in sources.values())
        check_space(self._folder, needed, self._reserve, f"keeping the data of {product}")
        new, final = self._folder / f".new-{product}", self._folder / product
        _remove(new)
        new.mkdir()
        for path, source in sources.items():
            if os.path.lexists(source):
                target = new / "data" / path
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(source, target)
        write_json(new / _NAMES[0], record._asdict())
        _remove(final)
        os.rename(new, final)
        sync_folder(self._folder)

    def put_back(self, product: str) -> None:
        """Makes the product's data what was kept; what was there is set aside. Raises InstallError unsafe_path."""
        record = self.record(product)
        if record is None:
            return
        was = self._set_aside_list(product, record)
        for path in record.paths:
            live, aside, kept = self._three(product, path)
            if was[path] and not os.path.lexists(aside):
                aside.parent.mkdir(parents=True, exist_ok=True)
                os.rename(live, aside)
            if os.path.lexists(kept) and not os.path.lexists(live):
                live.parent.mkdir(parents=True, exist_ok=True)
                part = live.with_name(f".back-{live.name}")
                _remove(part)
                _copy(kept, part)
                os.rename(part, live)
                sync_folder(live.parent)

    def take_again(self, product: str) -> None:
        """Undoes ``put_back``: the data that was set aside counts again."""
        record = self.record(product)
        if record is None or not (self._aside(product) / _NAMES[1]).exists():
            return
        was = self._set_aside_list(product, record)
        for path in record.paths:
            live, aside, _kept = self._three(product, path)
            if os.path.lexists(aside) or not was[path]:
                _remove(live)
            if os.path.lexists(aside):
                os.rename(aside, live)
        _remove(self._aside(product))

    def drop(self, product: str) -> None:
        """Forgets what was kept of the product."""
        _remove(self._folder / product)

    def sweep(self) -> None:
        """Deletes work in progress. Only while no action is in hand."""
        for entry in list(os.scandir(self._folder)) if self._folder.is_dir() else []:
            if entry.name.startswith("."):
                _remove(Path(entry.path))

    def _set_aside_list(self, product: str, record: Record) -> dict[str, bool]:
        """Which paths were there before the first of them was moved."""
        path = self._aside(product) / _NAMES[1]
        try:
            return dict(json.loads(path.read_bytes()))
        except (OSError, ValueError):
            was = {name: os.path.lexists(self._place(product, name)) for name in record.paths}
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, was)
            return was

    def _aside(self, product: str) -> Path:
        return self._folder / f".aside-{product}"

    def _three(self, product: str, path: str) -> tuple[Path, Path, Path]:
        """Where the data is, where it is set aside, and where its copy lies."""
        return self._place(product, path), self._aside(product) / "data" / path, self._folder / product / "data" / path

    def _place(self, product: str, path: str) -> Path:
        """Raises InstallError unsafe_path when a link on the way leads somewhere else."""
        place = self._root / product
        for part in path.split("/"):
            if os.path.lexists(place) and not stat.S_ISDIR(place.lstat().st_mode):
                raise InstallError(
                    "unsafe_path", f"{place.name} of {product} is not a folder, but {path} lies below it"
                )
            place = place / part
        return place


def _size(path: Path) -> int:
    if not os.path.lexists(path):
        return 0
    if not stat.S_ISDIR(path.lstat().st_mode):
        return path.lstat().st_size
    return sum(
        os.lstat(os.path.join(folder, name)).st_size for folder, _folders, names in os.walk(path) for name in names
    )


def _copy(source: Path, target: Path) -> None:
    """Copies files, folders and links (as links), with their times, modes and, if one may, their owners."""
    status = source.lstat()
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(status.st_mode):
        target.mkdir()
        for entry in os.scandir(source):
            _copy(Path(entry.path), target / entry.name)
        shutil.copystat(source, target)
        sync_folder(target)
    elif stat.S_ISREG(status.st_mode):
        shutil.copy2(source, target, follow_symlinks=False)
        handle = os.open(target, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    elif not stat.S_ISSOCK(status.st_mode):
        raise InstallError("unsafe_member", f"{source.name} is neither file, folder nor link: it cannot be kept")
    if os.geteuid() == 0 and os.path.lexists(target):
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
