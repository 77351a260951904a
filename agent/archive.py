"""Unpacking a software archive that nobody vouches for.

Every member is checked before it touches the disk; nothing is written through a link, and the amount written
is bounded while it is written, whatever the headers say.
"""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import zlib
from pathlib import Path
from typing import Any

from agent.disk import check_space, free_bytes
from agent.durable import sync_folder
from agent.errors import InstallError
from agent.failpoint import reach
from agent.package import COMPLETE, Limits

_BLOCK = 64 * 1024
_MAX_HEADER = 1024 * 1024
_MAX_NAME = 1024
# A small archive may grow by this much whatever the ratio says.
_RATIO_FREE_BYTES = 16 * 1024 * 1024


class _BoundedReader:
    """Reads the decompressed stream and refuses to go beyond ``limit`` bytes, or beyond ``room`` on the disk."""

    def __init__(self, stream: gzip.GzipFile, limit: int, room: int) -> None:
        self._stream = stream
        self._left = limit
        self._room = room

    def read(self, size: int) -> bytes:
        block = self._stream.read(size)
        self._left -= len(block)
        if self._left < 0:
            raise InstallError("archive_too_big", "the archive unpacks to more than is allowed")
        self._room -= len(block)
        if self._room < 0:
            raise InstallError("disk_full", "the archive unpacks to more than there is room for")
        return block


class _CheckedTarInfo(tarfile.TarInfo):
    """Refuses extension headers that the reader would load into memory as a whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> _CheckedTarInfo:
        info = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        plain = (*tarfile.REGULAR_TYPES, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE)
        if info.type not in plain and info.size > _MAX_HEADER:
            raise InstallError("bad_archive", "an extension header is too big")
        return info


def unpack(archive: Path, target: Path, limits: Limits) -> None:
    """Unpacks a tar.gz into the new folder ``target`` and makes it durable.

    Raises InstallError with code bad_archive, archive_too_big, disk_full, too_many_members, unsafe_path, unsafe_link or
    unsafe_member; OSError when the disk fails. The caller removes ``target`` then.
    """
    packed = archive.stat().st_size
    limit = min(limits.max_bytes, max(_RATIO_FREE_BYTES, packed * limits.max_ratio))
    check_space(target.parent, min(limit, _told_size(archive)), limits.reserve_bytes, "unpacking")
    target.mkdir(mode=0o755)
    try:
        with gzip.open(archive, "rb") as stream:
            reader: Any = _BoundedReader(stream, limit, free_bytes(target) - limits.reserve_bytes)
            with tarfile.open(fileobj=reader, mode="r|", tarinfo=_CheckedTarInfo) as tar:
                count = 0
                while (member := tar.next()) is not None:
                    count += 1
                    if count > limits.max_members:
                        raise InstallError("too_many_members", f"more than {limits.max_members} members")
                    _extract(tar, member, target)
                    # Headers already handled would otherwise pile up in memory.
                    tar.members.clear()  # type: ignore[attr-defined]
                    reach("mid_unpack")
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, RecursionError, ValueError) as error:
        raise InstallError("bad_archive", f"not a sound tar.gz ({type(error).__name__})") from None
    _sync_tree(target)


def _told_size(archive: Path) -> int:
    """What the archive says that it unpacks to; it may lie, so this only avoids work in vain."""
    with archive.open("rb") as file:
        file.seek(-min(4, archive.stat().st_size), os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    parts = _safe_parts(member.name)
    path = root.joinpath(*parts)
    if not parts:
        if not member.isdir():
            raise InstallError("unsafe_path", "a member takes the place of the root folder")
        return
    if parts[0] == COMPLETE:
        raise InstallError("unsafe_path", f"the name {COMPLETE} is reserved")
    _make_parents(root, parts[:-1])
    try:
        if member.isdir():
            _make_folder(path)
        elif member.issym():
            _check_link(member.linkname, len(parts) - 1)
            os.symlink(member.linkname, path)
        elif member.islnk():
            os.link(_hard_link_source(root, member.linkname), path, follow_symlinks=False)
        elif member.isreg() and not member.issparse():
            _write_file(tar, member, path)
        else:
            raise InstallError("unsafe_member", f"{member.name[:200]!r} is not a file, folder or link")
    except FileExistsError:
        raise InstallError("bad_archive", f"{member.name[:200]!r} is there twice") from None


def _safe_parts(name: str) -> list[str]:
    """The folder names of a member. Raises InstallError for a name that leaves the archive's root."""
    if name.startswith("/") or "\\" in name or "\0" in name or len(name) > _MAX_NAME:
        raise InstallError("unsafe_path", f"{name[:200]!r}")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or any(len(os.fsencode(part)) > 255 for part in parts):
        raise InstallError("unsafe_path", f"{name[:200]!r}")
    return parts


def _make_parents(root: Path, parts: list[str]) -> None:
    path = root
    for part in parts:
        path = path / part
        _make_folder(path)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o755)
    except FileExistsError:
        # A link to a folder is also "there": writing through it is how archives escape.
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise InstallError("unsafe_path", "a member lies below something that is not a folder") from None


def _check_link(target: str, depth: int) -> None:
    """Refuses links that leave the archive. ``..`` may only stand in front, at most ``depth`` times.

    After a name it could pass through another link.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = 0
    while ups < len(parts) and parts[ups] == "..":
        ups += 1
    if not target or target.startswith("/") or "\\" in target or "\0" in target or len(target) > _MAX_NAME:
        raise InstallError("unsafe_link", f"{target[:200]!r}")
    if ups > depth or ".." in parts[ups:]:
        raise InstallError("unsafe_link", f"{target[:200]!r} leads out of the archive")


def _hard_link_source(root: Path, name: str) -> Path:
    try:
        parts = _safe_parts(name)
    except InstallError:
        raise InstallError("unsafe_link", f"{name[:200]!r} leads out of the archive") from None
    path = root
    for position, part in enumerate(parts, 1):
        path = path / part
        mode = path.lstat().st_mode if os.path.lexists(path) else 0
        if not (stat.S_ISREG(mode) if position == len(parts) else stat.S_ISDIR(mode)):
            raise InstallError("unsafe_link", f"{name[:200]!r} is not an unpacked file")
    if path == root:
        raise InstallError("unsafe_link", "a hard link to the root folder")
    return path


def _write_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise InstallError("bad_archive", f"{member.name[:200]!r} has no content")
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as file:
        while block := source.read(_BLOCK):
            file.write(block)
        file.flush()
        # Owner keeps write, the rest may read and run; setuid, setgid and sticky never come from an archive.
        os.fchmod(handle, (member.mode & 0o755) | 0o600)
        os.fsync(handle)


def _sync_tree(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        sync_folder(Path(folder))
