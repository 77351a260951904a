"""The hypervisor that a URI names, where its machines lead to, and what runs on it.

`qemu:///embed` is a libvirt of our own below the work folder, in a network namespace without a way out. For other
URIs the machines belong to a daemon whose network is not ours to close: they get no network at all.
"""

import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import (
    Capacity,
    Conflict,
    Failed,
    GuestUnresponsive,
    NotFound,
    Unavailable,
    Unsupported,
)
from test_environments.drivers.interface import Power
from test_environments.drivers.libvirt import host
from test_environments.drivers.libvirt.connection import Connection
from test_environments.drivers.libvirt.endpoints import Endpoint
from test_environments.drivers.libvirt.machine import HOST_ADDRESS
from test_environments.drivers.libvirt.network import Namespace, Relay, interfaces_of
from test_environments.drivers.libvirt.ownership import QemuUser
from test_environments.drivers.libvirt.uris import HypervisorUri, Owner
from test_environments.drivers.texts import Text as _

RUNNING, BLOCKED, PAUSED, SHUTTING_DOWN, OFF, CRASHED = 1, 2, 3, 4, 5, 6
ALIVE = frozenset({RUNNING, BLOCKED, PAUSED, SHUTTING_DOWN})
PAUSED_BY_DISK = 5
OFF_BY_CRASH = frozenset({3, 6})
_LONGEST_ROOT = 60  # libvirt's sockets lie below it, and a socket's path has 107 characters
_PRESS_SECONDS = 2.0  # a system that is still starting does not hear the power button
_KILL_SECONDS = 10.0
LOOPBACK = "127.0.0.1"
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

    def __init__(
        self,
        uri: HypervisorUri,
        folder: Path,
        user: QemuUser,
        *,
        endpoints: tuple[Endpoint, ...] = (),
        say: Callable[[str], None],
    ) -> None:
        self.uri = uri
        self.is_here = uri.owner is not Owner.REMOTE  # its processes and memory are this host's
        self._is_folder_seen = uri.is_embedded
        self._endpoints = endpoints
        self._folder = folder
        self._user = user
        self._say = say
        self._lock = threading.Lock()
        self._namespace: Namespace | None = None
        self._relays: dict[tuple[str, int], Relay] = {}
        self.connection = Connection(uri.to_open(folder), enter=self._enter, say=say)

    def _enter(self) -> list[str]:
        """What to put in front of the owner's command; prepares the folder of an embedded libvirt."""
        if not self.uri.is_embedded:
            return []
        if len(str(self._folder)) > _LONGEST_ROOT:
            raise Unavailable(
                _(
                    "The path %(folder)s is too long: at most %(most)s characters.",
                    folder=self._folder,
                    most=_LONGEST_ROOT,
                )
            )
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
                    raise Unavailable(_("Machines run in a network that is not closed; end them first."))
            return self._namespace

    def open_ways(self, url: str) -> None:
        """Lets machines reach the portal of this URL and the endpoints, and nothing else. Raises Unavailable."""
        name, port = address_of(url)
        namespace = self._closed_network()
        ways = {(LOOPBACK, port): (name, port)}
        # By its address: the name may mean another machine by now, even this host.
        ways |= {(endpoint.address, endpoint.port): (endpoint.address, endpoint.port) for endpoint in self._endpoints}
        with self._lock:
            for inside, outside in ways.items():
                found = self._relays.get(inside)
                if found is not None and found.target == outside:
                    continue
                if found is not None:  # the portal has moved
                    found.close()
                    del self._relays[inside]
                try:
                    listener = namespace.listen(inside[1], inside[0])
                except OSError as error:
                    text = _(
                        "%(host)s:%(port)s cannot be opened for the machines: %(reason)s.",
                        host=inside[0],
                        port=inside[1],
                        reason=error.strerror,
                    )
                    raise Unavailable(text) from None
                self._relays[inside] = Relay(listener, *outside, say=self._say)

    def check_folder(self, bound: Bound) -> None:
        """Raises Unsupported where a daemon does not see our files under our paths, Unavailable."""
        if self._is_folder_seen:
            return
        with tempfile.TemporaryDirectory(prefix="seen-", dir=self._folder) as place:
            Path(place).chmod(0o755)
            mark = Path(place, uuid4().hex)
            mark.touch(0o644)
            if mark.name not in self.connection.call("files_in", bound, folder=place):
                raise Unsupported(
                    _(
                        "The hypervisor of %(uri)s does not find the files in %(folder)s. Machines need them under "
                        "the same path: mount that folder there, let the daemon's user pass through the folders above"
                        " it, or use qemu:///embed.",
                        uri=self.uri,
                        folder=self._folder.parent,
                    )
                )
        self._is_folder_seen = True

    def free_memory_mb(self, bound: Bound) -> int:
        """What could be given to machines now. Raises Unavailable."""
        if self.is_here:
            return host.free_memory_mb()
        return max(0, int(self.connection.call("free_memory_mb", bound)) - host.RESERVE_MB)

    def need_memory(self, megabytes: int, bound: Bound) -> None:
        """Raises Capacity, Unavailable."""
        free = self.free_memory_mb(bound)
        if free < megabytes:
            raise Capacity(
                _(
                    "The machine needs %(megabytes)s MB of memory, %(free)s MB are free. Stop or destroy an "
                    "environment.",
                    megabytes=megabytes,
                    free=free,
                )
            )

    def process_of(self, uuid: str) -> int | None:
        """The QEMU process of a machine, None without one and on another host."""
        return host.process_of(uuid) if self.is_here else None

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

    def power(self, uuid: str, bound: Bound) -> Power:
        """OFF also of a machine that libvirt does not know."""
        found = self.look(uuid, bound)
        return power_of(found["state"], found["reason"])[0] if found else Power.OFF

    def settle(self, uuid: str, bound: Bound) -> None:
        """A machine that was killed “runs” on for a moment: waits until libvirt has noticed."""
        if self.is_here and self.is_alive(uuid, bound) and host.process_of(uuid) is None:
            bound.wait(lambda: not self.is_alive(uuid), seconds=_KILL_SECONDS)

    def ask_to_stop(self, uuid: str, bound: Bound, *, grace_seconds: float) -> bool:
        """Presses the power button, again and again; whether the machine went off in time.

        One that stands still (the disk of its host is full) hears nothing and is not asked.
        """
        if self.power(uuid, bound) is Power.PAUSED:
            return False
        end = Bound(min(grace_seconds, bound.left))
        while end.left:
            bound.check()
            with suppress(Conflict, NotFound):
                self.connection.call("press_power_button", bound, uuid=uuid)
            if bound.wait(lambda: not self.is_alive(uuid), every=0.2, seconds=min(_PRESS_SECONDS, end.left)):
                return True
        return False

    def kill(self, uuid: str, bound: Bound) -> None:
        """Back when nothing of the machine runs. Raises GuestUnresponsive."""
        with suppress(NotFound, Conflict):
            self.connection.call("kill", bound, uuid=uuid)
        is_gone = bound.wait(lambda: not self.is_alive(uuid) and self.process_of(uuid) is None, seconds=_KILL_SECONDS)
        if not is_gone:
            bound.check()
            raise GuestUnresponsive(_("The machine does not end, also not by force; look at its QEMU process."))

    def check_closed(self, uuid: str, bound: Bound) -> None:
        """Ends a machine at once that could reach more than it may. Raises Failed."""
        process = host.process_of(uuid) if self.uri.is_embedded else None
        if process is None:
            return
        with suppress(FileNotFoundError):
            if (found := interfaces_of(process)) != ["lo"]:
                self.connection.call("kill", bound, uuid=uuid)
                raise Failed(_("The machine was ended: its network is not closed (%(found)s).", found=", ".join(found)))

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
        return Power.PAUSED, _("The disk of its host is full.") if reason == PAUSED_BY_DISK else _("It was paused.")
    if state == CRASHED or reason in OFF_BY_CRASH:
        return Power.CRASHED, _("The machine ended by itself, not in order.")
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
        raise Unavailable(_("%(url)s is no address of the portal.", url=url))
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
