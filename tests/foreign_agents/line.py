"""A line between a device and the portal that can be slow and can be cut in mid download."""

import contextlib
import re
import socket
import threading
from dataclasses import dataclass

BLOCK = 64 * 1024
DRIP = 1024  # bytes, each DRIP_SECONDS: 4 MiB would take longer than any test waits
DRIP_SECONDS = 0.05

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n(.*?)\r\n\r\n", re.DOTALL)
_RANGE = re.compile(rb"^Range: *(\S+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Request:
    """What the device asked for, and the portal's answer; `range` is the header or empty."""

    method: str
    path: str
    range: str
    status: int

    @property
    def is_download(self) -> bool:
        return self.method == "GET" and "/artifacts/" in self.path

    @property
    def is_poll(self) -> bool:
        return self.path.count("/") == 4

    @property
    def is_in_order(self) -> bool:
        """Whether a refusal is what an agent has to expect."""
        if self.is_poll:
            return self.status == 429
        return "/deploymentBase/" in self.path and self.status in {404, 410}


class Line:
    """A TCP proxy on a port of its own. `requests` are all that came over it, in their order."""

    def __init__(self, host: str, port: int) -> None:
        self.requests: list[Request] = []
        self._target = (host, port)
        self._limit: int | None = None
        self._is_fast = threading.Event()
        self._downloads: set[socket.socket] = set()
        self._slowed = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server((host, 0))
        self.url = f"http://{host}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def slow_down_after(self, size: int) -> None:
        """From now on a download drips once so many bytes of its answer have passed."""
        self._is_fast.clear()
        self._slowed.clear()
        self._limit = size

    def speed_up(self) -> None:
        """Ends the slowness, also of what is under way."""
        self._limit = None
        self._is_fast.set()

    @property
    def is_dripping(self) -> bool:
        """Whether a download has passed the limit."""
        return self._slowed.is_set()

    def cut(self) -> int:
        """Ends the connections with a download on them; how many there were."""
        with self._lock:
            cut = list(self._downloads)
        for connection in cut:
            _hang_up(connection)
        return len(cut)

    def close(self) -> None:
        """Takes no more calls; those under way end with the device or the portal."""
        _hang_up(self._listener)  # wakes who accepts
        self._listener.close()
        self.speed_up()

    def downloads(self) -> list[Request]:
        return [request for request in self.requests if request.is_download]

    def polls(self) -> int:
        """How often the device has asked what to do."""
        return sum(request.is_poll for request in self.requests)

    def refused(self) -> list[Request]:
        """What the portal did not take. That it sends a poll away under pressure is none, nor that an action ended
        between a poll and what followed from it.
        """
        return [request for request in self.requests if request.status >= 400 and not request.is_in_order]

    def _accept(self) -> None:
        while True:
            try:
                device, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=_Call(self, device, self._target).carry, daemon=True).start()

    def began(self, device: socket.socket, request: Request) -> None:
        """A connection carries the answer to this request now."""
        with self._lock:
            self.requests.append(request)
            (self._downloads.add if request.is_download else self._downloads.discard)(device)

    def ended(self, device: socket.socket) -> None:
        with self._lock:
            self._downloads.discard(device)

    def room(self, passed: int) -> int:
        """How many bytes of a download may pass at once; waits when it is to be slow."""
        if self._limit is None or passed < self._limit:
            return BLOCK if self._limit is None else min(BLOCK, self._limit - passed)
        self._slowed.set()
        self._is_fast.wait(DRIP_SECONDS)
        return DRIP


class _Call:
    """One connection of a device, in two threads: to the portal and back."""

    def __init__(self, line: Line, device: socket.socket, target: tuple[str, int]) -> None:
        self._line, self._device, self._target = line, device, target
        self._asked = b""

    def carry(self) -> None:
        """Returns when both directions are closed."""
        with self._device:
            try:
                portal = socket.create_connection(self._target)
            except OSError:
                return
            with portal:
                up = threading.Thread(target=self._up, args=[portal], daemon=True)
                up.start()
                self._down(portal)
                up.join()

    def _up(self, portal: socket.socket) -> None:
        try:
            while data := self._device.recv(BLOCK):
                self._asked += data
                portal.sendall(data)
        except OSError:
            pass  # cut
        _hang_up(portal)

    def _down(self, portal: socket.socket) -> None:
        is_download, passed = False, 0
        try:
            while data := portal.recv(self._line.room(passed) if is_download else BLOCK):
                answer = data.removeprefix(_CONTINUE)
                if self._asked and answer:
                    request = _request(self._asked, answer)
                    self._asked = b""
                    self._line.began(self._device, request)
                    is_download, passed = request.is_download, 0
                passed += len(data)
                self._device.sendall(data)
        except OSError:
            pass  # cut
        self._line.ended(self._device)
        _hang_up(self._device)


def _request(asked: bytes, answer: bytes) -> Request:
    method, path, headers = _REQUEST.match(asked).groups()
    part = _RANGE.search(headers)
    return Request(method.decode(), path.decode(), part[1].decode() if part else "", int(answer.split()[1]))


def _hang_up(connection: socket.socket) -> None:
    """Ends both directions; whoever reads or writes there stops."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
