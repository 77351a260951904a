"""Which folders may be copied: only ones below the folder of sources, without a link on the way."""

import os
import stat
from pathlib import Path, PurePosixPath

from test_environments.drivers.texts import Text as _

NOTATION = _("Name a folder below the folder of sources, like shop/till-7: no slash or dot in front.")


def is_relative_folder(folder: str) -> bool:
    """Whether this is a relative path in plain notation: not `..`, `/x`, `a//b`, `.hidden`."""
    parts = folder.split("/")
    return not ("\\" in folder or "\0" in folder or any(not part or part.startswith(".") for part in parts))


def why_not_a_source(root: Path, folder: str) -> str:
    """Why `folder` below `root` cannot be copied; empty when it can.

    Without `root` on this machine only the notation is checked: the test host, which has it, checks again.
    """
    if not is_relative_folder(folder):
        return NOTATION
    if not root.is_dir():
        return ""
    path = root
    for part in PurePosixPath(folder).parts:
        path = path / part
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return _("The folder %(folder)s does not exist.", folder=folder)
        if stat.S_ISLNK(mode):
            return _("The folder %(folder)s is reached through a link; name the real folder.", folder=folder)
        if not stat.S_ISDIR(mode):
            return _("%(folder)s is not a folder.", folder=folder)
    return ""
