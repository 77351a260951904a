"""Test environments as copies of files, each in `<TEST_ENVIRONMENT_ROOT>/<id>/` with an agent of its own.

    <id>/root/         the copy: what the agent of the copy manages
    <id>/agent.json    the agent's configuration
    <id>/token         its secret, 0600
    <id>/agent.log     what the agent says
    .new-<id>, .trash-<id>   being made, being deleted

A folder without a dot is complete. All functions may be called again after a crash at any point.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from test_environments.drivers.errors import DriverError, SourceChanged
from test_environments.drivers.file_copy.capture import Capture
from test_environments.drivers.file_copy.capture import capture as capture_folder
from test_environments.drivers.file_copy.copying import copy_source, remove_tree
from test_environments.failpoint import reach

_TRIES = 3
_PREFIXES = (".new-", ".trash-")


def folder_of(environment_id: int) -> Path:
    """Where the environment lives once it is made."""
    return Path(settings.TEST_ENVIRONMENT_ROOT) / str(environment_id)


def capture(folder: str) -> Capture:
    """Reads the source `folder` (relative to TEST_ENVIRONMENT_SOURCES). Raises DriverError."""
    for attempt in range(1, _TRIES + 1):
        try:
            return capture_folder(Path(settings.TEST_ENVIRONMENT_SOURCES), folder)
        except SourceChanged:
            if attempt == _TRIES:
                raise
    raise AssertionError


def create(environment_id: int, captured: Capture, *, versions: dict[str, str], check: Callable[[], None]) -> None:
    """Copies the source into `.new-<id>`. `versions` (product: version) replace what the source runs.

    Whatever an earlier try left is removed. After a refusal nothing is left. Raises DriverError, OSError.
    """
    running = _running(captured, versions)
    new = _beside(environment_id, ".new-")
    new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_tree(new)
    try:
        new.mkdir(mode=0o700)
        copy_source(Path(settings.TEST_ENVIRONMENT_SOURCES), captured, new / "root", running=running, check=check)
    except BaseException:
        remove_tree(new)
        raise


def _running(captured: Capture, versions: dict[str, str]) -> dict[str, str]:
    for product, label in versions.items():
        if label not in captured.versions.get(product, ()):
            found = ", ".join(captured.versions.get(product, ())) or _("none")
            raise DriverError(
                _("The source does not hold %(product)s %(version)s. Its versions: %(found)s.")
                % {"product": product, "version": label, "found": found}
            )
    return {**captured.baseline, **versions}


def place(environment_id: int, *, config: dict[str, Any], token: str) -> None:
    """Gives the copy in `.new-<id>` its agent's configuration, its token and its place. Raises OSError."""
    new, final = _beside(environment_id, ".new-"), folder_of(environment_id)
    _write_private(new / "token", f"{token}\n")
    _write_private(new / "agent.json", json.dumps({**config, "token_file": "token", "root": "root"}, indent=2))
    reach("token_written")
    _move_away(environment_id)
    os.rename(new, final)
    remove_tree(_beside(environment_id, ".trash-"))


def destroy(environment_id: int, *, check: Callable[[], None] = lambda: None) -> None:
    """Deletes all of the environment; absent is fine. Raises OSError."""
    _move_away(environment_id)
    reach("moved_away")
    for prefix in _PREFIXES:
        remove_tree(_beside(environment_id, prefix), check)


def list_owned() -> list[int]:
    """The ids of all environments of which something is on this disk, sorted."""
    try:
        names = os.listdir(settings.TEST_ENVIRONMENT_ROOT)
    except FileNotFoundError:
        return []
    plain = {name.removeprefix(".new-").removeprefix(".trash-") for name in names}
    return sorted(int(name) for name in plain if name.isascii() and name.isdigit())


def _move_away(environment_id: int) -> None:
    """Takes the environment from its place in one step."""
    final, trash = folder_of(environment_id), _beside(environment_id, ".trash-")
    if os.path.lexists(final):
        remove_tree(trash)
        os.rename(final, trash)


def _beside(environment_id: int, prefix: str) -> Path:
    return Path(settings.TEST_ENVIRONMENT_ROOT) / f"{prefix}{environment_id}"


def _write_private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
