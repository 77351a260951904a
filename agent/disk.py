"""Room on the disk: asked for before it is needed, and told apart from other trouble."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from agent.errors import InstallError

_MIB = 1024 * 1024


def free_bytes(folder: Path) -> int:
    """What this user may still write below ``folder``. Raises OSError."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def check_space(folder: Path, needed: int, reserve: int, what: str) -> None:
    """Raises InstallError disk_full unless ``needed`` bytes fit and ``reserve`` bytes stay free; OSError."""
    free = free_bytes(folder)
    if free < needed + reserve:
        text = f"{what} needs {needed / _MIB:.1f} MiB, {free / _MIB:.1f} are free and {reserve / _MIB:.1f} must stay so"
        raise InstallError("disk_full", text)


def disk_error(error: OSError, what: str) -> InstallError:
    """The InstallError for a failed write."""
    code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "io_error"
    return InstallError(code, f"{what}: {error.strerror or error}")
