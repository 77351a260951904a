"""The only ways out of a machine: a network namespace with nothing but `lo`, and relays from it.

The hypervisor's owner and thereby all machines live in the namespace. A machine's network card leads (by QEMU's user
network) to what its QEMU process can reach: the loopback of the namespace. There one port listens, that of the portal,
and one for each endpoint that was allowed, at an address that `lo` is given. What arrives is passed on from outside.
The namespace exists as long as a machine or we use it.
"""

import ctypes
import fcntl
import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from test_environments.drivers.errors import Unavailable
from test_environments.drivers.texts import Text as _

_NEWNET = 0x40000000
_FLAGS, _SET_FLAGS, _UP, _RUNNING = 0x8913, 0x8914, 0x1, 0x40
_SET_ADDRESS, _SET_MASK = 0x8916, 0x891C
_BLOCK = 65536
_CONNECT_SECONDS = 10.0
_CONNECTIONS = 256
_IDLE_SECONDS = 120.0
_Result = TypeVar("_Result")
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace that has only `lo`, which is up. Needs root."""

    def __init__(self, process: int | None = None) -> None:
        """That of a living `process`, else a new one. Raises Unavailable."""
        if process is None:
            self._handle = in_thread(_make)
        else:
            try:
                self._handle = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise Unavailable(
                    _(
                        "The network of process %(process)s cannot be entered: %(reason)s.",
                        process=process,
                        reason=error.strerror,
                    )
                ) from None

    @property
    def command(self) -> list[str]:
        """Put in front of a command to run it inside; while this process lives."""
        return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self._handle}", "--"]

    def listen(self, port: int, address: str = "127.0.0.1") -> socket.socket:
        """A socket that listens inside; another address than the loopback's is first given to `lo`. Raises OSError."""

        def make() -> socket.socket:
            _enter(self._handle)
            if address != "127.0.0.1":
                _give_address(address)
            return socket.create_server((address, port), backlog=_CONNECTIONS)

        return in_thread(make)

    def interfaces(self) -> list[str]:
        """What there is inside."""

        def look() -> list[str]:
            _enter(self._handle)
            return [name for _index, name in socket.if_nameindex()]

        return in_thread(look)

    def close(self) -> None:
        """Lets go; it ends with the last process inside."""
        os.close(self._handle)


def interfaces_of(process: int) -> list[str]:
    """The network interfaces that a process can use. Raises OSError when it is gone."""
    lines = Path(f"/proc/{process}/net/dev").read_text().splitlines()[2:]
    return [line.split(":")[0].strip() for line in lines]


def in_thread(work: "Callable[[], _Result]") -> "_Result":
    """What `work` returns or raises in a thread of its own: only that thread changes its namespace."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


class Relay:
    """Passes what arrives at a socket on to one address. Knows nothing of what it passes; bounded in number."""

    def __init__(self, inside: socket.socket, host: str, port: int, *, say: Callable[[str], None]) -> None:
        self._inside = inside
        self.target = (host, port)
        self._say = say
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _address = self._inside.accept()
            except OSError:
                return  # closed
            if not self._free.acquire(blocking=False):
                near.close()
                continue
            threading.Thread(target=self._pass, args=(near,), daemon=True).start()

    def _pass(self, near: socket.socket) -> None:
        try:
            with near, socket.create_connection(self.target, _CONNECT_SECONDS) as far:
                _pump(near, far)
        except OSError as error:
            self._say(f"libvirt: relay to {self.target[0]}:{self.target[1]}: {error}")
        finally:
            self._free.release()

    def close(self) -> None:
        """Takes no more; what is under way ends with its ends."""
        with suppress(OSError):
            self._inside.shutdown(socket.SHUT_RDWR)
        self._inside.close()


def _pump(near: socket.socket, far: socket.socket) -> None:
    """Both ways until both have ended, an error, or nothing came for long: a machine may not hold the relay."""
    far.settimeout(None)
    other = {near: far, far: near}
    with selectors.DefaultSelector() as ready:
        for end in other:
            ready.register(end, selectors.EVENT_READ)
        while ready.get_map():
            found = ready.select(_IDLE_SECONDS)
            if not found:
                return
            for key, _events in found:
                source = key.fileobj
                assert isinstance(source, socket.socket)
                block = source.recv(_BLOCK)
                if block:
                    other[source].sendall(block)
                else:
                    ready.unregister(source)
                    with suppress(OSError):
                        other[source].shutdown(socket.SHUT_WR)


def _make() -> int:
    if _libc.unshare(_NEWNET) != 0:
        raise _no_namespace()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, _FLAGS, request), 16)
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP | _RUNNING))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _give_address(address: str) -> None:
    """`lo` of this thread's namespace has this address, too, and no other of its network."""
    number = struct.unpack("I", socket.inet_aton(address))[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for request, value in ((_SET_ADDRESS, address), (_SET_MASK, "255.255.255.255")):
            name = f"lo:{number:x}".encode()
            packed = struct.pack("16sH2x4s8x", name, socket.AF_INET, socket.inet_aton(value))
            fcntl.ioctl(any_socket, request, packed.ljust(40, b"\0"))


def _enter(handle: int) -> None:
    if _libc.setns(handle, _NEWNET) != 0:
        raise _no_namespace()


def _no_namespace() -> Unavailable:
    reason = os.strerror(ctypes.get_errno())
    return Unavailable(
        _("No network namespace for the machines (%(reason)s): the test host must run as root.", reason=reason)
    )
