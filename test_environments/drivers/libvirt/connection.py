"""Bounded calls of the owner process (`owner.py`), with libvirt's errors as those of the drivers.

The owner is started at the first call and again after it died. A call that takes too long raises Unavailable; when the
owner does not even answer a greeting after that, it is killed, and the next call starts another one. Several threads
may call at once.
"""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import (
    Capacity,
    Conflict,
    DriverError,
    Failed,
    GuestUnresponsive,
    NotFound,
    Unavailable,
    Unsupported,
)
from test_environments.drivers.texts import Text as _

CALL_SECONDS = 30.0
_GREETING_SECONDS = 5.0
_OWNER = Path(__file__).with_name("owner.py")
_NO_LIBRARY = -1
HOW_TO_INSTALL = _(
    "libvirt-python is not installed. On Debian: apt install libvirt-daemon-system "
    "qemu-system-x86 qemu-utils libvirt-dev gcc pkg-config busybox-static, then pip install -r "
    "requirements/libvirt.txt."
)

# libvirt's error numbers (virterror.h), by what they mean to us.
_MEANING: dict[type[DriverError], frozenset[int]] = {
    NotFound: frozenset({42}),
    Conflict: frozenset({28, 55, 87}),
    Unsupported: frozenset({3, 67, 74, 84}),
    Unavailable: frozenset({5, 6, 38, 39, 45, 85, 88}),
    GuestUnresponsive: frozenset({68, 86}),
    Capacity: frozenset({2}),
}


def error_for(code: int, text: str) -> DriverError:
    """The drivers' error for one of libvirt."""
    if code == _NO_LIBRARY:
        return Unavailable(HOW_TO_INSTALL)
    if "No space left on device" in text or "Cannot allocate memory" in text:
        return Capacity(_("The host of the machines has no room left: %(text)s", text=text))
    for kind, codes in _MEANING.items():
        if code in codes:
            return kind(text)
    return Failed(text or _("libvirt failed without a reason."))


class Connection:
    """One owner process at a time. `enter` is a command in front of the owner's (a namespace)."""

    def __init__(self, uri: str, *, enter: Callable[[], list[str]], say: Callable[[str], None]) -> None:
        self._uri = uri
        self._enter = enter
        self._say = say
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._answers: dict[int, dict[str, Any]] = {}
        self._arrived = threading.Condition()
        self._number = 0

    @property
    def pid(self) -> int | None:
        """The owner, None without one."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def call(self, verb: str, bound: Bound | None = None, *, seconds: float = CALL_SECONDS, **arguments: Any) -> Any:
        """The result of the owner's verb, within `seconds` and the bound. Raises the drivers' errors."""
        if bound is not None:
            bound.check()
            seconds = min(seconds, bound.left)
        try:
            return self._ask(verb, arguments, seconds)
        except TimeoutError:
            self._end_if_mute()
            raise Unavailable(
                _("The hypervisor did not answer within %(seconds).0f seconds (%(verb)s).", seconds=seconds, verb=verb)
            ) from None

    def _ask(self, verb: str, arguments: dict[str, Any], seconds: float) -> Any:
        with self._lock:
            line = self._open()
            self._number += 1
            number = self._number
            request = {"id": number, "verb": verb, "arguments": arguments}
            try:
                line.sendall(json.dumps(request).encode() + b"\n")
            except OSError as error:
                self._close()
                raise Unavailable(_("The process that owns the hypervisor ended (%(error)s).", error=error)) from None
        with self._arrived:
            is_there = self._arrived.wait_for(lambda: number in self._answers or self._line is not line, seconds)
            answer = self._answers.pop(number, None)
        if answer is None:
            if not is_there:
                raise TimeoutError
            raise Unavailable(_("The process that owns the hypervisor ended during a call."))
        if "code" in answer:
            raise error_for(answer["code"], answer["text"])
        return answer["result"]

    def _open(self) -> socket.socket:
        if self._line is not None and self._process is not None and self._process.poll() is None:
            return self._line
        self._close()
        ours, theirs = socket.socketpair()
        with theirs:
            command = [*self._enter(), sys.executable, "-P", str(_OWNER), str(theirs.fileno()), self._uri]
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
                )
            except OSError as error:
                ours.close()
                raise Unavailable(
                    _("The process that owns the hypervisor cannot be started: %(error)s", error=error)
                ) from None
        self._line = ours
        self._say(f"libvirt: process {self._process.pid} owns {self._uri}")
        threading.Thread(target=self._read, args=(ours,), daemon=True).start()
        return ours

    def _read(self, line: socket.socket) -> None:
        with suppress(OSError), line.makefile("rb") as answers:
            for text in answers:
                answer = json.loads(text)
                with self._arrived:
                    self._answers[answer["id"]] = answer
                    self._arrived.notify_all()
        with self._arrived:
            if self._line is line:
                self._line = None
            self._arrived.notify_all()

    def _end_if_mute(self) -> None:
        try:
            self._ask("hello", {}, _GREETING_SECONDS)
        except (TimeoutError, DriverError):
            self._say("libvirt: its owner does not answer and is ended")
            self.close()

    def close(self) -> None:
        """Ends the owner; machines run on."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        line, process = self._line, self._process
        self._line = self._process = None
        if line is not None:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
        if process is not None:
            try:
                process.wait(2.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        with self._arrived:
            self._arrived.notify_all()
