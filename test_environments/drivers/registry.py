"""The drivers that this installation has set up, by name. There is no fallback from one to another."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from django.utils.translation import gettext

from test_environments.drivers.errors import Unsupported
from test_environments.drivers.interface import Driver
from test_environments.drivers.texts import say


def open_drivers(say: Callable[[str], None]) -> dict[str, Driver]:
    """One driver of each kind in `TEST_ENVIRONMENT_DRIVERS`; only the runner opens them.

    Raises ImproperlyConfigured for one whose library is not installed.
    """
    drivers: Mapping[str, Mapping[str, Any]] = settings.TEST_ENVIRONMENT_DRIVERS
    return {name: _open(name, entry, say) for name, entry in drivers.items()}


def why_no_network(name: str) -> str:
    """Why copies of this driver, as it is set up, cannot have the network `isolated`; empty if they can, or if it is
    not set up here. Opens nothing. Raises ImproperlyConfigured.
    """
    entry = settings.TEST_ENVIRONMENT_DRIVERS.get(name)
    if not entry:
        return ""
    try:
        return say(_kind(name, entry).why_no_network(entry.get("options", {})), gettext)
    except Unsupported as error:
        return say(error, gettext)


def _kind(name: str, entry: Mapping[str, Any]) -> type[Driver]:
    try:
        kind: type[Driver] = import_string(str(entry["class"]))
    except ImportError as error:
        raise ImproperlyConfigured(f"TEST_ENVIRONMENT_DRIVERS names {name}, which cannot be loaded: {error}") from error
    return kind


def _open(name: str, entry: Mapping[str, Any], say: Callable[[str], None]) -> Driver:
    return _kind(name, entry)(
        Path(entry.get("folder") or Path(settings.TEST_ENVIRONMENT_ROOT) / name),
        portal=settings.PORTAL_URL,
        options={"sources": settings.TEST_ENVIRONMENT_SOURCES, **entry.get("options", {})},
        say=say,
    )
