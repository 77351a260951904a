"""Disk images that a PC with a BIOS boots by itself: a partition table, a small FAT with a boot loader, further parts.

Debian's syslinux and mtools write into the file; nothing is mounted and no root is needed.
"""

import os
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from test_environments.drivers.errors import Failed

PACKAGES = ["syslinux", "syslinux-common", "mtools"]
MB = 1024 * 1024
_FAT16, _LINUX = 0x06, 0x83
_SECTOR = 512


@dataclass(frozen=True, slots=True)
class Part:
    """A further partition of the disk: a file that holds it."""

    content: Path


def make_boot_disk(
    target: Path, tools: Path, *, files: Mapping[str, Path | bytes], boot_mb: int, arguments: str, parts: list[Part]
) -> None:
    """Writes the disk to `target`. `tools` holds the unpacked PACKAGES; `files` go into the FAT.

    `kernel` and `initrd` among the files are booted with these arguments, and a file `settings.cpio`, where there is
    one, is unpacked over the initrd. Raises Failed.
    """
    starts, position = [], MB + boot_mb * MB
    for part in parts:
        starts.append((position, part.content.stat().st_size))
        position += -(-part.content.stat().st_size // MB) * MB
    with open(target, "wb") as disk:
        disk.truncate(position)
        disk.write(_boot_record(tools, boot_mb, starts))
        for (start, _size), part in zip(starts, parts, strict=True):
            disk.seek(start)
            _copy_sparse(part.content, disk)
    initrd = "initrd,settings.cpio" if "settings.cpio" in files else "initrd"
    loader = (
        f"DEFAULT linux\nPROMPT 0\nTIMEOUT 1\nLABEL linux\n  KERNEL kernel\n  INITRD {initrd}\n  APPEND {arguments}\n"
    )
    drive = f"{target}@@{MB}"
    _run(tools, "mformat", "-i", drive, "-T", str(boot_mb * MB // _SECTOR), "-h", "16", "-s", "63", "::")
    for name, content in {**files, "syslinux.cfg": loader.encode()}.items():
        if isinstance(content, bytes):
            _run(tools, "mcopy", "-i", drive, "-", f"::{name}", data=content)
        else:
            _run(tools, "mcopy", "-i", drive, str(content), f"::{name}")
    _run(tools, "syslinux", "--install", "--offset", str(MB), str(target))


def _boot_record(tools: Path, boot_mb: int, starts: list[tuple[int, int]]) -> bytes:
    code = (tools / "usr/lib/syslinux/mbr/mbr.bin").read_bytes()[:440]
    table = _partition(0x80, _FAT16, MB, boot_mb * MB)
    for start, size in starts:
        table += _partition(0, _LINUX, start, size)
    return code.ljust(446, b"\0") + table.ljust(64, b"\0") + b"\x55\xaa"


def _partition(flag: int, kind: int, start: int, size: int) -> bytes:
    nowhere = b"\xfe\xff\xff"  # sector numbers count, not the geometry of a disk that has none
    return struct.pack("<B3sB3sII", flag, nowhere, kind, nowhere, start // _SECTOR, size // _SECTOR)


def _copy_sparse(source: Path, disk: BinaryIO) -> None:
    with open(source, "rb") as content:
        while block := content.read(MB):
            if block.strip(b"\0"):
                disk.write(block)
            else:
                disk.seek(len(block), os.SEEK_CUR)


def _run(tools: Path, *command: str, data: bytes = b"") -> None:
    environment = {"PATH": f"{tools}/usr/bin:/usr/bin:/bin", "MTOOLS_SKIP_CHECK": "1"}
    try:
        done = subprocess.run(
            [str(tools / "usr/bin" / command[0]), *command[1:]],
            input=data, capture_output=True, timeout=120, env=environment,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{command[0]}: {error}") from None
    if done.returncode != 0:
        raise Failed(f"{command[0]}: {done.stderr.decode(errors='replace').strip()}")
