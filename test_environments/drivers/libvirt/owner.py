"""The one process that holds the connection to libvirt: `python -P owner.py <socket's descriptor> <uri>`.

Requests and answers are JSON lines: `{"id", "verb", "arguments"}` → `{"id", "result"}` or `{"id", "code", "text"}`
with libvirt's error number (0: ours). Each request has a thread of its own, so that a slow one holds up nobody. The
process ends when the other side of the socket does. Machines go on running; the next owner finds them.

Standard library and libvirt only: it may run in a network namespace in which there is neither a database nor a portal.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

try:
    import libvirt
    import libvirt_qemu
except ImportError:  # the first answer says so
    libvirt = libvirt_qemu = None

# Removes what libvirt keeps of a machine beside its disks.
_UNDEFINE = 1 | 2 | 4  # MANAGED_SAVE | SNAPSHOTS_METADATA | NVRAM


class Refused(Exception):
    """An error of this process; `code` as libvirt's would be, 0 without."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class Owner:
    """The verbs. Machines are named by their uuid as text."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._connection: Any = None
        self._lock = threading.Lock()

    def _hypervisor(self) -> Any:
        with self._lock:
            if self._connection is None or not self._connection.isAlive():
                self._connection = libvirt.open(self._uri)
            return self._connection

    def _machine(self, uuid: str) -> Any:
        return self._hypervisor().lookupByUUIDString(uuid)

    def hello(self) -> dict[str, Any]:
        """Versions, for the page and as a sign of life."""
        hypervisor = self._hypervisor()
        return {
            "uri": hypervisor.getURI(),
            "libvirt": _version(hypervisor.getLibVersion()),
            "qemu": _version(hypervisor.getVersion()),
            "pid": os.getpid(),
        }

    def free_memory_mb(self) -> int:
        """Memory of the hypervisor's host that is free or can be freed."""
        found = self._hypervisor().getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)  # kB
        return sum(found.get(name, 0) for name in ("free", "buffers", "cached")) * 1024 // 10**6

    def files_in(self, folder: str) -> list[str]:
        """Names of the files that the hypervisor's host has in this folder; none where it cannot read it."""
        name = f"itsm-{os.path.basename(folder)}"
        xml = f"<pool type='dir'><name>{escape(name)}</name><target><path>{escape(folder)}</path></target></pool>"
        try:
            pool = self._hypervisor().storagePoolCreateXML(xml, 0)
        except libvirt.libvirtError:
            if not self._hypervisor().isAlive():
                raise
            return []
        try:
            return list(pool.listVolumes())
        finally:
            pool.destroy()

    def define(self, xml: str) -> None:
        """Makes the machine known, or changes it; it takes effect at its next start."""
        self._hypervisor().defineXML(xml)

    def start(self, uuid: str) -> None:
        self._machine(uuid).create()

    def go_on(self, uuid: str) -> None:
        """Lets a paused machine run again."""
        self._machine(uuid).resume()

    def run(self, xml: str) -> None:
        """Starts a machine that is forgotten when it ends."""
        self._hypervisor().createXML(xml, 0)

    def press_power_button(self, uuid: str) -> None:
        """Asks the machine to shut down; no promise."""
        self._machine(uuid).shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)

    def kill(self, uuid: str) -> None:
        self._machine(uuid).destroy()

    def forget(self, uuid: str) -> None:
        """Removes the definition; the disks stay."""
        self._machine(uuid).undefineFlags(_UNDEFINE)

    def look(self, uuid: str) -> dict[str, Any]:
        """State and reason as libvirt numbers them, memory in kB, and the process where it can be told."""
        machine = self._machine(uuid)
        state, reason = machine.state()
        return {
            "state": state,
            "reason": reason,
            "memory_kb": machine.info()[1],
            "id": machine.ID(),
            "name": machine.name(),
        }

    def accelerator(self, uuid: str) -> str:
        """What the running machine says of itself: "kvm" or "tcg"."""
        answer = json.loads(libvirt_qemu.qemuMonitorCommand(self._machine(uuid), '{"execute": "query-kvm"}', 0))
        return "kvm" if answer["return"]["enabled"] else "tcg"

    def machines(self, namespace: str) -> list[dict[str, str]]:
        """All machines with metadata of ours: uuid, name and the metadata."""
        found = []
        for machine in self._hypervisor().listAllDomains():
            try:
                metadata = machine.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, namespace)
            except libvirt.libvirtError:
                continue
            found.append({"uuid": machine.UUIDString(), "name": machine.name(), "metadata": metadata})
        return found

    def uuid_of(self, name: str) -> str:
        return self._hypervisor().lookupByName(name).UUIDString()

    def description(self, uuid: str) -> str:
        """The XML of the machine as it is now."""
        return self._machine(uuid).XMLDesc(0)

    def disk_size(self, uuid: str, target: str) -> int:
        """Bytes of a disk as the machine sees it."""
        return int(self._machine(uuid).blockInfo(target)[0])

    def freeze(self, uuid: str) -> None:
        self._machine(uuid).fsFreeze()

    def thaw(self, uuid: str) -> None:
        self._machine(uuid).fsThaw()

    def begin_copy(self, uuid: str, xml: str) -> None:
        """Begins to push the machine's disks, as they are at this moment, to the files that `xml` names."""
        self._machine(uuid).backupBegin(xml, None, libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL)

    def copy_state(self, uuid: str) -> dict[str, Any]:
        """Whether a copy is under way, and how the last one ended."""
        machine = self._machine(uuid)
        if machine.jobStats().get("type", 0) != libvirt.VIR_DOMAIN_JOB_NONE:
            return {"is_running": True, "is_done": False, "text": ""}
        last = machine.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
        is_done = last.get("type") == libvirt.VIR_DOMAIN_JOB_COMPLETED
        return {"is_running": False, "is_done": is_done, "text": str(last.get("errmsg", ""))}

    def end_copy(self, uuid: str) -> None:
        self._machine(uuid).abortJob()


def _version(number: int) -> str:
    return f"{number // 10**6}.{number // 1000 % 1000}.{number % 1000}"


def _serve(line: bytes, owner: Owner, answer: Callable[[dict[str, Any]], None]) -> None:
    request = json.loads(line)
    try:
        if libvirt is None:
            raise Refused("libvirt-python is missing", -1)
        verb = request["verb"]
        if verb.startswith("_"):
            raise Refused(f"no verb {verb}")
        result = getattr(owner, verb)(**request["arguments"])
    except Refused as error:
        answer({"id": request["id"], "code": error.code, "text": str(error)})
    except Exception as error:
        code = error.get_error_code() if libvirt and isinstance(error, libvirt.libvirtError) else 0
        answer({"id": request["id"], "code": code or 0, "text": f"{error}"})
    else:
        answer({"id": request["id"], "result": result})


def _turn_events() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:
            time.sleep(0.1)


def main(descriptor: int, uri: str) -> None:
    """Serves until the other side is gone; then ends at once, also in the middle of a call."""
    if libvirt is not None:
        # Errors are answers, not lines on standard error.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        libvirt.virEventRegisterDefaultImpl()  # before the connection is opened, or `embed` never starts a machine
        # Without a timer the loop would not see what is added to it from another thread.
        libvirt.virEventAddTimeout(200, lambda _timer, _opaque: None, None)
        threading.Thread(target=_turn_events, daemon=True).start()
    owner = Owner(uri)
    with socket.socket(fileno=descriptor) as line, line.makefile("rb") as requests:
        sending = threading.Lock()

        def answer(message: dict[str, Any]) -> None:
            with sending:
                line.sendall(json.dumps(message).encode() + b"\n")

        for request in requests:
            threading.Thread(target=_serve, args=(request, owner, answer), daemon=True).start()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
