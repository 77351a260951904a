"""The hypervisors of a work folder: one for each set of endpoints that machines may reach, opened at its first use.

    h/                the embedded libvirt of machines that reach the portal only; also of errands
    h-<mark>/         that of machines which may reach the same further endpoints; gone with the last of them
    h-<mark>/ways     those endpoints

Machines that may reach different things never share a network, so none can use what was allowed to another.
"""

import functools
import hashlib
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from test_environments.drivers.libvirt.endpoints import Endpoint, read_endpoints, write_endpoints
from test_environments.drivers.libvirt.errands import Errands
from test_environments.drivers.libvirt.hypervisor import Hypervisor
from test_environments.drivers.libvirt.ownership import QemuUser
from test_environments.drivers.libvirt.small_systems.build import for_errands
from test_environments.drivers.libvirt.uris import HypervisorUri

_WAYS = "ways"


@dataclass(frozen=True, slots=True)
class Opened:
    """A hypervisor and what runs errands on it."""

    hypervisor: Hypervisor
    errands: Errands


class Hypervisors:
    """Those of one URI below one folder. `folders` are made for the driver's own things."""

    def __init__(
        self,
        uri: HypervisorUri,
        folder: Path,
        media: Path,
        user: str,
        *,
        folders: list[Path],
        say: Callable[[str], None],
    ) -> None:
        self._uri = uri
        self._folder = folder
        self._media = media
        self._user_name = user
        self._folders = folders
        self._say = say
        self._opened: dict[str, Opened] = {}
        self._lock = threading.Lock()

    @functools.cached_property
    def user(self) -> QemuUser:
        """That QEMU runs as. Raises Unavailable."""
        return QemuUser(self._user_name)

    def at(self, endpoints: tuple[Endpoint, ...] = ()) -> Opened:
        """The one whose machines reach these beside the portal. Raises Unavailable, on a host without QEMU."""
        mark = _mark(endpoints)
        with self._lock:
            if mark not in self._opened:
                user = self.user
                for path in (self._folder, *self._folders):
                    path.mkdir(mode=0o711, parents=True, exist_ok=True)
                    path.chmod(0o711)
                root = self._folder / mark
                root.mkdir(mode=0o711, exist_ok=True)
                if endpoints:
                    write_endpoints(root / _WAYS, endpoints)
                    self._share_knowledge(root)
                found = Hypervisor(self._uri, root, user, endpoints=endpoints, say=self._say)
                boot = functools.cache(lambda: for_errands(self._media, self._folder / "boot"))
                self._opened[mark] = Opened(found, Errands(found.connection, user, boot))
            return self._opened[mark]

    def _share_knowledge(self, root: Path) -> None:
        """What libvirt found out about QEMU, which takes it nine seconds, is the same for all."""
        known = self._folder / "h" / "cache"
        if known.is_dir() and not (root / "cache").exists():
            shutil.copytree(known, root / "cache")

    def all(self) -> list[Opened]:
        """The first one and all that have left something on the disk."""
        found = [self.at()]
        for ways in sorted(self._folder.glob(f"h-*/{_WAYS}")):
            with suppress(OSError, ValueError):
                found.append(self.at(read_endpoints(ways)))
        return found

    def keep_only(self, used: Callable[[], set[tuple[Endpoint, ...]]]) -> None:
        """Ends those whose last machine is gone; never the first. `used`: all that machines may reach, asked under the
        lock, so that nobody begins meanwhile.
        """
        with self._lock:
            marks = {_mark(endpoints) for endpoints in used()}
            for root in self._folder.glob("h-*"):
                if root.name not in marks:
                    if opened := self._opened.pop(root.name, None):
                        opened.hypervisor.close()
                    shutil.rmtree(root, ignore_errors=True)

    def close(self) -> None:
        """Machines run on."""
        with self._lock:
            for opened in self._opened.values():
                opened.hypervisor.close()
            self._opened.clear()


def _mark(endpoints: tuple[Endpoint, ...]) -> str:
    if not endpoints:
        return "h"
    text = "\n".join(sorted(f"{endpoint.address} {endpoint.port}" for endpoint in endpoints))
    return f"h-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
