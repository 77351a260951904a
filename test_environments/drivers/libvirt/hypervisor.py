"""The hypervisor that a URI names, where its machines lead to, and what runs on it.

`qemu:///embed` is a libvirt of our own below the work folder, in a network namespace without a way out. For other
URIs the machines belong to a daemon whose network is not ours to close: they get no network at all.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import NotFound, Unavailable
from test_environments.drivers.interface import Power
from test_environments.drivers.libvirt import host
from test_environments.drivers.libvirt.connection import Connection
from test_environments.drivers.libvirt.machine import HOST_ADDRESS
from test_environments.drivers.libvirt.network import Namespace, Relay
from test_environments.drivers.libvirt.ownership import QemuUser

EMBED = "qemu:///embed"
RUNNING, BLOCKED, PAUSED, SHUTTING_DOWN, OFF, CRASHED = 1, 2, 3, 4, 5, 6
ALIVE = frozenset({RUNNING, BLOCKED, PAUSED, SHUTTING_DOWN})
PAUSED_BY_DISK = 5
OFF_BY_CRASH = frozenset({3, 6})
_LONGEST_ROOT = 60  # libvirt's sockets lie below it, and a socket's path has 107 characters
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

# Without root's rights, without helpers; files get their owners from us.
_CONFIGURATION = """stdio_handler = "file"
security_driver = "none"
user = "{user}"
group = "{group}"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
max_core = 0
"""


class Hypervisor:
    """Opened at the first call. `say` takes log lines."""

    def __init__(self, uri: str, folder: Path, user: QemuUser, *, say: Callable[[str], None]) -> None:
        self.is_embedded = uri == EMBED
        self._folder = folder
        self._user = user
        self._say = say
        self._lock = threading.Lock()
        self._namespace: Namespace | None = None
        self._relays: dict[tuple[str, int], Relay] = {}
        full = f"{EMBED}?root={folder}" if self.is_embedded else uri
        self.connection = Connection(full, enter=self._enter, say=say)

    def _enter(self) -> list[str]:
        """What to put in front of the owner's command; prepares the folder of an embedded libvirt."""
        if not self.is_embedded:
            return []
        if len(str(self._folder)) > _LONGEST_ROOT:
            raise Unavailable(f"The path {self._folder} is too long: at most {_LONGEST_ROOT} characters.")
        self._user.check_reach(self._folder)
        (self._folder / "etc").mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o711)
        text = _CONFIGURATION.format(user=self._user.name, group=self._user.group)
        (self._folder / "etc" / "qemu.conf").write_text(text)
        return self._closed_network().command

    def _closed_network(self) -> Namespace:
        with self._lock:
            if self._namespace is None:
                living = host.living_machines(self._folder / "run" / "qemu")
                self._namespace = Namespace(living[0] if living else None)
                if self._namespace.interfaces() != ["lo"]:
                    self._namespace.close()
                    self._namespace = None
                    raise Unavailable("Machines run in a network that is not closed; end them first.")
            return self._namespace

    def open_way(self, url: str) -> None:
        """Lets machines reach the portal of this URL, and nothing else. Raises Unavailable."""
        name, port = address_of(url)
        namespace = self._closed_network()
        with self._lock:
            if (name, port) not in self._relays:
                for (_other, taken), relay in list(self._relays.items()):
                    if taken == port:  # the portal has moved
                        relay.close()
                        del self._relays[_other, taken]
                try:
                    inside = namespace.listen(port)
                except OSError as error:
                    raise Unavailable(f"Port {port} cannot be opened for the machines: {error.strerror}.") from None
                self._relays[name, port] = Relay(inside, name, port, say=self._say)

    def look(self, uuid: str, bound: Bound | None = None) -> dict[str, Any] | None:
        """State of a machine, None when libvirt does not know it. Raises Unavailable."""
        try:
            found: dict[str, Any] = self.connection.call("look", bound, uuid=uuid)
        except NotFound:
            return None
        return found

    def is_alive(self, uuid: str, bound: Bound | None = None) -> bool:
        found = self.look(uuid, bound)
        return found is not None and found["state"] in ALIVE

    def close(self) -> None:
        """Machines run on."""
        self.connection.close()
        with self._lock:
            for relay in self._relays.values():
                relay.close()
            self._relays.clear()
            if self._namespace is not None:
                self._namespace.close()
                self._namespace = None


def power_of(state: int, reason: int) -> tuple[Power, str]:
    """libvirt's state and reason as ours, with a text where something is wrong."""
    if state in {RUNNING, BLOCKED, SHUTTING_DOWN}:
        return Power.RUNNING, ""
    if state == PAUSED:
        return (
            Power.PAUSED,
            "The disk of its host is full." if reason == PAUSED_BY_DISK else "It was paused.",
        )
    if state == CRASHED or reason in OFF_BY_CRASH:
        return Power.CRASHED, "The machine ended by itself, not in order."
    return Power.OFF, ""


def url_inside(url: str) -> tuple[str, str]:
    """The portal's URL as a machine uses it, and the line that its `hosts` file needs (or nothing).

    A name stays, so that certificates and links stay right; a loopback address becomes the host's.
    """
    parts = urlsplit(url)
    name, _port = address_of(url)
    if name in _LOOPBACK:
        port = f":{parts.port}" if parts.port else ""
        return parts._replace(netloc=f"{HOST_ADDRESS}{port}").geturl(), ""
    return url, f"{HOST_ADDRESS} {name} # test environment\n"


def address_of(url: str) -> tuple[str, int]:
    """Host and port of a URL. Raises Unavailable."""
    parts = urlsplit(url)
    if parts.hostname is None:
        raise Unavailable(f"{url} is no address of the portal.")
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
