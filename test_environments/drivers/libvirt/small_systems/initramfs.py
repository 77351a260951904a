"""Writes the archive that a Linux kernel unpacks as its first root file system ("newc" cpio). Needs no root."""

import gzip
import stat
from pathlib import Path

_HEADER = "070701" + "%08X" * 13


class Initramfs:
    """Collects entries; paths are relative and without a leading slash. The same entries give the same bytes."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, bytes, tuple[int, int]]] = {}

    def folder(self, path: str) -> None:
        """A folder with all above it."""
        parts = path.split("/")
        for length in range(1, len(parts) + 1):
            self._entries.setdefault("/".join(parts[:length]), (stat.S_IFDIR | 0o755, b"", (0, 0)))

    def file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        self._above(path)
        self._entries[path] = (stat.S_IFREG | mode, data, (0, 0))

    def link(self, path: str, target: str) -> None:
        self._above(path)
        self._entries[path] = (stat.S_IFLNK | 0o777, target.encode(), (0, 0))

    def device(self, path: str, major: int, minor: int) -> None:
        """A character device."""
        self._above(path)
        self._entries[path] = (stat.S_IFCHR | 0o600, b"", (major, minor))

    def tree(self, source: Path, *, at: str = "") -> None:
        """All files, folders and links below a folder."""
        for path in sorted(source.rglob("*")):
            name = f"{at}/{path.relative_to(source)}".lstrip("/")
            if path.is_symlink():
                self.link(name, str(path.readlink()))
            elif path.is_dir():
                self.folder(name)
            elif path.is_file():
                self.file(name, path.read_bytes(), mode=path.stat().st_mode & 0o777)

    def _above(self, path: str) -> None:
        if "/" in path:
            self.folder(path.rpartition("/")[0])

    def packed(self) -> bytes:
        """The archive, compressed."""
        return gzip.compress(self.plain(), 6, mtime=0)

    def plain(self) -> bytes:
        """The archive."""
        archive = bytearray()
        number = 0
        for number, (path, (mode, data, device)) in enumerate(sorted(self._entries.items()), start=1):
            archive += _entry(number, path, mode, data, device)
        archive += _entry(number + 1, "TRAILER!!!", 0, b"", (0, 0))
        return bytes(archive + b"\0" * (-len(archive) % 512))


def _entry(number: int, path: str, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
    name = path.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0)
    header = (_HEADER % fields).encode() + name
    return header + b"\0" * (-len(header) % 4) + data + b"\0" * (-len(data) % 4)
