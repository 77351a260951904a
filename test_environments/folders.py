"""Which folders may be copied: only ones below the folder of sources, without a link on the way."""

import os
import stat
from pathlib import Path, PurePosixPath

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _


def check_relative_folder(folder: str) -> None:
    """A relative path in plain notation. Raises ValidationError for `..`, `/x`, `a//b`, `.hidden`."""
    parts = folder.split("/")
    if "\\" in folder or "\0" in folder or any(not part or part.startswith(".") for part in parts):
        raise ValidationError(
            _("Name a folder below the folder of sources, like shop/till-7: no slash or dot in front.")
        )


def why_not_a_source(root: Path, folder: str) -> str:
    """Why `folder` below `root` cannot be copied; empty when it can.

    Without `root` on this machine only the notation is checked: the test host, which has it, checks again.
    """
    try:
        check_relative_folder(folder)
    except ValidationError as error:
        return str(error.messages[0])
    if not root.is_dir():
        return ""
    path = root
    for part in PurePosixPath(folder).parts:
        path = path / part
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return _("The folder %(folder)s does not exist.") % {"folder": folder}
        if stat.S_ISLNK(mode):
            return _("The folder %(folder)s is reached through a link; name the real folder.") % {"folder": folder}
        if not stat.S_ISDIR(mode):
            return _("%(folder)s is not a folder.") % {"folder": folder}
    return ""
