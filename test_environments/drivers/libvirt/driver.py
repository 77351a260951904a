"""Test environments as virtual machines, by libvirt and QEMU.

images/<uuid>/disk.qcow2, about.json     what was taken; never changed again
environments/<uuid>/                     see `environment_files.py`
incoming/<name>/                         disks that arrive, see `physical.py`
h/, h-<mark>/                            libvirt's own folders, see `hypervisors.py`
media/                                   the small system for errands, built once
"""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Conflict, DriverError, Failed, NotFound, Unsupported
from test_environments.drivers.interface import (
    Capabilities,
    CaptureOrder,
    Clone,
    Conversion,
    CreateOrder,
    Delivery,
    Driver,
    Image,
    IsolationProof,
    Kind,
    NetworkMode,
    Observation,
    Owned,
    Power,
    Provenance,
    Resources,
    Started,
    StoppedHow,
)
from test_environments.drivers.libvirt import adapting, host, orders, probing
from test_environments.drivers.libvirt.accelerators import EVIDENCE, Accelerators
from test_environments.drivers.libvirt.disk_images import need_room
from test_environments.drivers.libvirt.endpoints import Endpoint, from_json, hosts_lines, resolve
from test_environments.drivers.libvirt.environment_files import (
    EnvironmentFiles,
    copy_file,
    cut_console,
    end_of_console,
    plain_errors,
    read_about,
)
from test_environments.drivers.libvirt.hypervisor import Hypervisor, power_of, url_inside
from test_environments.drivers.libvirt.hypervisors import Hypervisors, Opened
from test_environments.drivers.libvirt.images import Images, first_provenance, provenance_of
from test_environments.drivers.libvirt.machine import NAMESPACE, Disk, Machine, describe, read_provenance
from test_environments.drivers.libvirt.options import read_options
from test_environments.drivers.libvirt.physical import Incoming
from test_environments.drivers.libvirt.uris import EMBED, read_uri
from test_environments.drivers.receiving import ArrivedDisk, ExpectedDisk, Progress
from test_environments.drivers.store import Store
from test_environments.drivers.texts import Text as _

_METHODS = frozenset({"disk", "domain", "medium", "upload"})
_BOOT_SECONDS = 90.0


class Libvirt(Driver):
    """See `options.py` for its settings."""

    name = "libvirt"

    def __init__(self, work_folder: Path, *, portal: str, options: Mapping[str, Any], say: Any) -> None:
        given = read_options(options, work_folder)
        self._portal = portal
        self._folder = work_folder
        self._hardware, self._memory_mb, self._growth_mb = given.hardware, given.memory_mb, given.growth_mb
        self._incoming = Incoming(work_folder / "incoming", given.media, say=say)
        self._image_store = Store(work_folder / "images")
        self._images = Images(self._image_store, given.sources, self._incoming)
        self._environments = Store(work_folder / "environments")
        self._uri = given.uri
        self._hypervisors = Hypervisors(
            given.uri, work_folder, given.media, given.user,
            folders=[self._image_store.root, self._environments.root], say=say,
        )  # fmt: skip
        self._accelerators = Accelerators(given.accelerator, self._boot)

    @property
    def _hypervisor(self) -> Hypervisor:
        """That of errands, and of machines that reach the portal only."""
        return self._here.hypervisor

    @property
    def _here(self) -> Opened:
        return self._hypervisors.at()

    def _of(self, environment: UUID) -> Opened:
        """Where an environment's machine is, or would be. Raises Unavailable."""
        return self._hypervisors.at(self._endpoints_of(environment))

    def _endpoints_of(self, environment: UUID) -> tuple[Endpoint, ...]:
        try:
            return from_json(read_about(self._environments.path(environment)).get("endpoints", []))
        except NotFound:
            return ()

    @classmethod
    def why_no_network(cls, options: Mapping[str, Any]) -> str:
        return read_uri(str(options.get("uri", EMBED))).why_not_closed()

    def open(self, bound: Bound) -> None:
        """Machines that a killed runner left go on; they get their ways out back."""
        self._hypervisor.check_folder(bound)
        for key in self._environments.all():
            with suppress(NotFound):
                about, there = read_about(self._environments.path(key)), self._of(key).hypervisor
                if about.get("portal_url") and there.is_alive(str(key), bound):
                    there.open_ways(about["portal_url"])

    def close(self) -> None:
        self._hypervisors.close()

    def capabilities(self, bound: Bound) -> Capabilities:
        found = self._hypervisor.connection.call("hello", bound)
        networks = {NetworkMode.NONE} | (set() if self._uri.why_not_closed() else {NetworkMode.ISOLATED})
        accelerators = self._accelerators.working()
        return Capabilities(
            kinds=frozenset({Kind.VM, Kind.PHYSICAL}),
            methods=_METHODS,
            clones=frozenset({Clone.LINKED, Clone.FULL}),
            networks=frozenset(networks),
            conversions=frozenset({Conversion.KEEP} if adapting.why_not() else Conversion),
            evidence=EVIDENCE[accelerators[0]],
            accelerators=accelerators,
            has_snapshots=True,
            can_probe=True,
            free=Resources(
                memory_mb=self._hypervisor.free_memory_mb(bound),
                disk_growth_mb=shutil.disk_usage(self._folder).free // 10**6,
            ),
            detail={name: str(found[name]) for name in ("uri", "libvirt", "qemu")},
        )  # fmt: skip

    def _boot(self, accelerator: str) -> None:
        """Starts a machine with an accelerator, for nothing else. Raises DriverError."""
        folder = self._environments.begin(_NOBODY)
        try:
            self._hypervisors.user.may_enter(folder)
            of = Provenance(self._portal, "a test of the accelerator", "", "")
            bound = Bound(_BOOT_SECONDS)
            self._here.errands.run("hello", _NOBODY, folder, bound, provenance=of, accelerator=accelerator)
        finally:
            self._environments.give_up(_NOBODY)

    def capture(self, order: CaptureOrder, bound: Bound) -> Image:
        bound.check()
        if found := self._images.find(order.image):
            return found
        if order.kind is Kind.FILES or order.method not in _METHODS:
            raise Unsupported(
                _("The driver libvirt does not take %(kind)s by %(method)s.", kind=order.kind, method=order.method)
            )
        here = self._here
        here.hypervisor.check_folder(bound)
        with plain_errors():
            return self._images.capture(
                order, bound, user=self._hypervisors.user, connection=here.hypervisor.connection, errands=here.errands
            )

    def delete_image(self, image: UUID, bound: Bound) -> None:
        for key in self._environments.all():
            with suppress(NotFound):
                if read_about(self._environments.path(key)).get("image") == str(image):
                    raise Conflict(_("The environment %(key)s was made from this image; destroy it first.", key=key))
        with plain_errors():
            self._here.errands.end(f"errand-{image}", bound)
            self._image_store.remove(image, bound.check)

    def create(self, order: CreateOrder, bound: Bound) -> None:
        bound.check()
        if order.network is NetworkMode.HOST:
            raise Unsupported(_("A machine never gets the network of its host; ask for “isolated” or “none”."))
        if order.network is NetworkMode.ISOLATED and (why := self._uri.why_not_closed()):
            raise Unsupported(why)
        if order.allowed_endpoints and order.network is not NetworkMode.ISOLATED:
            raise Unsupported(_("Endpoints can be allowed to a machine in the isolated network only."))
        endpoints = resolve(order.allowed_endpoints)
        accelerator = order.accelerator or self._accelerators.wanted
        if why := self._accelerators.why_not(accelerator):
            raise Unsupported(why)
        self._check_uri(order.environment)
        self._hypervisor.check_folder(bound)
        about = self._images.about(order, bound)
        if self._of(order.environment).hypervisor.is_alive(str(order.environment), bound):
            raise Conflict(_("It runs; stop it first."))
        memory = order.resources.memory_mb or self._memory_mb
        self._hypervisor.need_memory(memory, bound)
        growth = (order.resources.disk_growth_mb or self._growth_mb) * 10**6
        is_full = order.clone is Clone.FULL
        need_room(self._folder, growth + (about["image_bytes"] if is_full else 0))
        facts = {
            "provenance": dataclasses.asdict(order.provenance), "image": str(order.image),
            "image_sha256": order.image_sha256, "versions": dict(order.versions), "agent": about["agent"],
            "network": str(order.network), "accelerator": accelerator, "memory_mb": memory,
            "processors": order.resources.processors or 1, "growth_mb": growth // 10**6,
            "endpoints": [dataclasses.asdict(endpoint) for endpoint in endpoints], "uri": self._uri.identity,
        }  # fmt: skip
        with plain_errors():
            folder = self._environments.begin(order.environment)
            try:
                base = f"../../images/{order.image}/disk.qcow2"
                if is_full:
                    base = "base.qcow2"
                    copy_file(self._images.disk(order.image), folder / base, bound)
                    self._hypervisors.user.may_read(folder / base)
                EnvironmentFiles.make(folder, self._hypervisors.user, facts, base)
                self._environments.finish(order.environment)
            except BaseException:
                self._environments.give_up(order.environment)
                raise

    def deliver(self, environment: UUID, delivery: Delivery, bound: Bound) -> tuple[str, ...]:
        files = self._at_rest(environment, bound)
        url, name = url_inside(delivery.portal_url)
        names = name + hosts_lines(from_json(files.about.get("endpoints", [])))
        order = orders.identity(delivery, url, files.about["agent"], files.about["versions"], hosts=names)
        with plain_errors():
            files.note(has_identity=False)
            report = self._here.errands.run(
                "prepare", environment, files.folder, bound,
                provenance=provenance_of(files.about), disk=files.top, order=order,
            )  # fmt: skip
            files.note(has_identity=True, portal_url=delivery.portal_url)
        return tuple(path for path in report.changed if path not in orders.IDENTITY and not orders.is_state(path))

    def start(self, environment: UUID, bound: Bound) -> Started:
        files, there = self._files(environment), self._of(environment).hypervisor
        uuid = str(environment)
        if not files.about["has_identity"]:
            raise Conflict(_("The machine has no identity yet."))
        there.settle(uuid, bound)
        power = there.power(uuid, bound)
        if power is not Power.RUNNING:
            need_room(self._folder, self._growth_mb * 10**6 // 4)
        if power is Power.PAUSED:  # it stands still since the disk was full
            there.connection.call("go_on", bound, uuid=uuid)
        elif power is not Power.RUNNING:
            there.need_memory(files.about["memory_mb"], bound)
            is_isolated = files.about["network"] == NetworkMode.ISOLATED
            if is_isolated:
                there.open_ways(files.about["portal_url"])
            with plain_errors():
                machine = self._machine(uuid, files, has_network=is_isolated)
            there.connection.call("define", bound, xml=describe(machine))
            there.connection.call("start", bound, uuid=uuid)
            there.check_closed(uuid, bound)
        accelerator = str(there.connection.call("accelerator", bound, uuid=uuid))
        return Started(Power.RUNNING, EVIDENCE[accelerator], accelerator)

    def _machine(self, uuid: str, files: EnvironmentFiles, *, has_network: bool) -> Machine:
        about = files.about
        return Machine(
            uuid, f"env-{uuid}", uuid, provenance_of(about), (Disk(files.top),), files.console, about["memory_mb"],
            processors=about["processors"], accelerator=about["accelerator"], hardware=self._hardware,
            has_network=has_network,
        )  # fmt: skip

    def stop(self, environment: UUID, bound: Bound, *, grace_seconds: float) -> StoppedHow:
        self._check_uri(environment)
        uuid, there = str(environment), self._of(environment).hypervisor
        if not there.is_alive(uuid, bound):
            return StoppedHow.ALREADY
        if there.ask_to_stop(uuid, bound, grace_seconds=grace_seconds):
            return StoppedHow.GRACEFUL
        there.kill(uuid, bound)
        return StoppedHow.FORCED

    def observe(self, environment: UUID, bound: Bound) -> Observation:
        folder = self._environments.path(environment)
        if not self._environments.has(environment):
            return Observation(Power.ABSENT)
        disk = host.allocated_bytes(folder)
        try:
            self._check_uri(environment)
        except Unsupported as error:  # its machine may run there
            return Observation(Power.UNKNOWN, disk_bytes=disk, why=error.text)
        there = self._of(environment).hypervisor
        found = there.look(str(environment), bound)
        if found is None:
            return Observation(Power.OFF, disk_bytes=disk)
        cut_console(folder)
        power, why = power_of(found["state"], found["reason"])
        if power not in {Power.RUNNING, Power.PAUSED}:
            return Observation(power, disk_bytes=disk, why=why)
        try:
            accelerator = str(there.connection.call("accelerator", bound, uuid=str(environment)))
        except DriverError:
            if not there.is_here or there.process_of(str(environment)) is not None:
                raise
            return Observation(Power.CRASHED, disk_bytes=disk, why=_("The machine was killed a moment ago."))
        process = there.process_of(str(environment))
        return Observation(power, process, host.resident_mb(process), disk, why, EVIDENCE[accelerator], accelerator)

    def snapshot(self, environment: UUID, snapshot: UUID, bound: Bound) -> None:
        files = self._at_rest(environment, bound)
        with plain_errors():
            files.keep(snapshot)

    def revert(self, environment: UUID, snapshot: UUID | None, bound: Bound) -> None:
        files = self._at_rest(environment, bound)
        with plain_errors():
            files.go_back(snapshot)

    def destroy(self, environment: UUID, bound: Bound) -> None:
        uuid = str(environment)
        self._check_uri(environment)
        for opened in self._hypervisors.all():
            opened.errands.end(f"errand-{environment}", bound)
            if opened.hypervisor.look(uuid, bound) is not None:
                opened.hypervisor.kill(uuid, bound)
                with suppress(NotFound):
                    opened.hypervisor.connection.call("forget", bound, uuid=uuid)
        with plain_errors():
            self._environments.remove(environment, bound.check)
        self._hypervisors.keep_only(lambda: {self._endpoints_of(key) for key in self._environments.all()})

    def list_owned(self, bound: Bound) -> list[Owned]:
        owned: dict[UUID, Owned] = {}
        for what, store in (("image", self._image_store), ("environment", self._environments)):
            for key in store.all():
                provenance = first_provenance(store.parts(key))
                owned[key] = Owned(key, what, provenance)
        for opened in self._hypervisors.all():
            for machine in opened.hypervisor.connection.call("machines", bound, namespace=NAMESPACE):
                with suppress(ValueError):
                    of, provenance = read_provenance(machine["metadata"])
                    owned.setdefault(UUID(of), Owned(UUID(of), "environment", provenance))
        owned.pop(_NOBODY, None)
        return [one for one in owned.values() if one.provenance is None or one.provenance.portal == self._portal]

    def console(self, environment: UUID, *, max_bytes: int = 16384) -> str:
        return end_of_console(self._environments.path(environment), max_bytes)

    def probe(self, environment: UUID, bound: Bound) -> IsolationProof:
        """By a machine of its own in the same network: of any system, and also while the environment runs."""
        files = self._files(environment)
        if files.about["network"] != NetworkMode.ISOLATED or not files.about.get("portal_url"):
            raise Unsupported(_("It has no network, or no identity yet: there is nothing to probe."))
        there = self._of(environment)
        there.hypervisor.open_ways(files.about["portal_url"])
        with plain_errors(), probing.doors() as doors:
            plan = probing.Plan(files.about["portal_url"], doors, from_json(files.about.get("endpoints", [])))
            report = there.errands.run(
                "probe", environment, files.folder, bound,
                provenance=provenance_of(files.about), order=plan.order, has_network=True,
            )  # fmt: skip
        return plan.proof(report)

    def _files(self, environment: UUID) -> EnvironmentFiles:
        if not self._environments.has(environment):
            raise NotFound(_("The environment is not there; it has to be made again."))
        self._check_uri(environment)
        return EnvironmentFiles(self._environments.path(environment), self._hypervisors.user)

    def _check_uri(self, environment: UUID) -> None:
        """Raises Unsupported for one of another hypervisor; which made it is noted only since there are others."""
        with suppress(NotFound, Failed):  # half made, or spoilt: it can go
            self._uri.check_made_under(read_about(self._environments.path(environment)).get("uri", EMBED))

    def _at_rest(self, environment: UUID, bound: Bound) -> EnvironmentFiles:
        files = self._files(environment)
        if self._of(environment).hypervisor.is_alive(str(environment), bound):
            raise Conflict(_("It runs; stop it first."))
        return files

    def receive(
        self, expected: ExpectedDisk, medium: Path, bound: Bound, tell: Callable[[Progress], None]
    ) -> ArrivedDisk:
        with plain_errors():
            return self._incoming.receive(expected, medium, bound, tell)

    def take_in(self, name: str, file: Path, format_: str, bound: Bound) -> ArrivedDisk:
        with plain_errors():
            return self._incoming.take_in(name, file, format_, bound)

    def forget_disk(self, name: str, bound: Bound) -> None:
        with plain_errors():
            self._incoming.forget(name)


_NOBODY = UUID(int=0)  # the test of an accelerator
