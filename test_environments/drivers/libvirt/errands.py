"""Errands: short-lived machines of our small system that read or change a disk, or try the network, and switch off.

A foreign file system is opened only there, never by the kernel of this host. An order is a tar on a second disk; the
machine writes its report over it. What is in a report may come from the foreign disk: it is data, checked and bounded.
"""

import base64
import io
import json
import re
import tarfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Failed, NotFound
from test_environments.drivers.interface import Provenance
from test_environments.drivers.libvirt.connection import Connection
from test_environments.drivers.libvirt.machine import CONSOLE, DirectBoot, Disk, Machine, describe
from test_environments.drivers.libvirt.ownership import QemuUser
from test_environments.drivers.texts import Text as _

MEMORY_MB = 160
_REPORT_BYTES = 64 * 1024
_ORDER_STEP = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_LINES = 5000


@dataclass(frozen=True, slots=True)
class Report:
    """What an errand found. Names are checked; texts are cut."""

    changed: tuple[str, ...] = ()
    baseline: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    agent: Mapping[str, Any] = field(default_factory=dict)  # agent.json of the disk
    system: str = ""
    reached: Mapping[str, bool] = field(default_factory=dict)  # "host port"


class Errands:
    """Runs errands on the driver's hypervisor."""

    def __init__(self, connection: Connection, user: QemuUser, boot: Callable[[], tuple[Path, Path]]) -> None:
        self._connection = connection
        self._user = user
        self._boot = boot

    def run(
        self, errand: str, key: UUID, folder: Path, bound: Bound, *, provenance: Provenance, disk: Path | None = None,
        order: Mapping[str, bytes] | None = None, has_network: bool = False, accelerator: str = "tcg",
    ) -> Report:  # fmt: skip
        """Does one errand for an environment or image and waits for its end. Raises Failed with its reason."""
        bound.check()
        kernel, initramfs = self._boot()
        paper, log = folder / "order.raw", folder / "errand.log"
        name = f"errand-{key}"
        self.end(name, bound)
        try:
            paper.write_bytes(_pack(order or {}))
            log.write_bytes(b"")
            for path in (paper, log):
                self._user.may_write(path)
            disks = (Disk(paper, "raw"), *([Disk(disk)] if disk else []))
            # A busy host emulates the timer too late for the kernel's test of it, which then gives up.
            arguments = f"{CONSOLE} quiet panic=-1 no_timer_check itsm.errand={errand}"
            machine = Machine(
                str(uuid4()), name, str(key), provenance, disks, log, MEMORY_MB,
                accelerator=accelerator, has_network=has_network, is_errand=True,
                boot=DirectBoot(kernel, initramfs, arguments),
            )  # fmt: skip
            self._connection.call("run", bound, xml=describe(machine))
            if not bound.wait(lambda: not self._is_there(name, bound), every=0.1):
                bound.check()
            return _read(paper, log, errand)
        finally:
            with suppress(Exception):
                self.end(name, Bound(10))
            for path in (paper, log):
                path.unlink(missing_ok=True)

    def end(self, name: str, bound: Bound) -> None:
        """Ends an errand that a killed runner left; absent is fine."""
        with suppress(NotFound):
            self._connection.call("kill", bound, uuid=self._connection.call("uuid_of", bound, name=name))

    def _is_there(self, name: str, bound: Bound) -> bool:
        try:
            self._connection.call("uuid_of", name=name)
        except NotFound:
            return False
        return True


def _pack(order: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in order.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o600 if name.endswith("/token") else 0o644
            tar.addfile(entry, io.BytesIO(data))
    data = buffer.getvalue()
    size = max(_REPORT_BYTES, len(data))
    return data.ljust(-(-size // _ORDER_STEP) * _ORDER_STEP, b"\0")


def _read(paper: Path, log: Path, errand: str) -> Report:
    with open(paper, "rb") as file:
        text = file.read(_REPORT_BYTES).split(b"\nEND\n")[0].decode(errors="replace")
    first, _separator, rest = text.partition("\n")
    if first == "ITSM1 ok":
        return parse_report(rest)
    if first.startswith("ITSM1 failed"):
        raise Failed(
            _(
                "The disk was refused: %(why)s.",
                why=first.removeprefix("ITSM1 failed")[:500].strip() or _("no reason given"),
            )
        )
    end = log.read_bytes()[-1500:].decode(errors="replace").strip()
    raise Failed(_("The machine that was to %(errand)s ended without a report:\n%(end)s", errand=errand, end=end))


def parse_report(text: str) -> Report:
    """The lines of a report; what does not fit is left out."""
    changed: list[str] = []
    baseline: dict[str, str] = {}
    versions: dict[str, list[str]] = {}
    reached: dict[str, bool] = {}
    agent: dict[str, Any] = {}
    system = ""
    for line in text.splitlines()[:_LINES]:
        word, _separator, rest = line.partition(" ")
        names = rest.split(" ")
        if word == "changed":
            changed.append(rest[:500])
        elif word == "product" and _NAME.fullmatch(names[0]):
            versions.setdefault(names[0], [])
            if len(names) == 2 and _NAME.fullmatch(names[1]):
                baseline[names[0]] = names[1]
        elif word == "version" and len(names) == 2 and all(_NAME.fullmatch(name) for name in names):
            versions.setdefault(names[0], []).append(names[1])
        elif word in {"reached", "closed"}:
            reached[rest] = word == "reached"
        elif word == "agent":
            agent = _decode(rest)
        elif word == "system":
            system = rest[:200]
    return Report(
        tuple(sorted(set(changed))), baseline, {name: tuple(found) for name, found in versions.items()}, agent, system,
        reached,
    )  # fmt: skip


def _decode(text: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.b64decode(text, validate=True))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
