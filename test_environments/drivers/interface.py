"""What a driver of test environments is: the orders it takes, the results it gives, and its verbs.

A driver knows no Django and no database. It keeps what it makes below one work folder (and, if it has one, in its
hypervisor), each thing with its provenance, so that it can be told apart without the portal's rows. The runner is the
one process that opens a driver; it calls the verbs from several threads that live as long as itself, but never two at a
time for one environment or one image. `observe`, `capabilities`, `list_owned` and `console` may be called beside
others. Units: bytes, MB (10^6 bytes), seconds. Texts are English and fit for the page of the environment.

Rules for all verbs:
- they may be called again after a crash at any point, and then end in the same state (idempotent on the uuid);
- they end within `bound`, call `bound.check()` between two longer steps, and leave nothing half made that a further
  call would not finish or replace;
- they raise only the errors of `errors.py`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Unsupported
from test_environments.drivers.receiving import ArrivedDisk, ExpectedDisk, Progress
from test_environments.drivers.texts import Text as _

# What a machine may reach beside the portal is written `host:port`.
ENDPOINT = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?):([0-9]{1,5})")
MOST_ENDPOINTS = 16


class Evidence(StrEnum):
    """How much a test in the environment proves, least first."""

    FILE_COPY = "file_copy"  # the same files on the host's own system
    EMULATED = "emulated"  # a machine of its own, its processor emulated (slow; timing proves nothing)
    ACCELERATED = "accelerated"  # a machine of its own on the real processor


class Kind(StrEnum):
    """What an image was taken from."""

    FILES = "files"
    VM = "vm"
    PHYSICAL = "physical"


class Consistency(StrEnum):
    """In what moment the source was caught."""

    COLD = "cold"  # it was off, or nothing wrote
    FROZEN = "frozen"  # its file systems were frozen meanwhile
    CRASH = "crash"  # as if the power had failed


class Conversion(StrEnum):
    """What is done to the system on the disk of another machine."""

    KEEP = "keep"  # nothing: it keeps its own drivers
    VIRT_V2V = "virt_v2v"  # virt-v2v puts those for our machines into it


class Clone(StrEnum):
    """Whether an environment keeps reading its image (fast, small) or holds all of it itself."""

    LINKED = "linked"
    FULL = "full"


class NetworkMode(StrEnum):
    """What an environment can reach."""

    HOST = "host"  # whatever the machine of the runner reaches: no isolation
    ISOLATED = "isolated"  # the portal through a relay, and the endpoints that are allowed by name; nothing else
    NONE = "none"


class Power(StrEnum):
    """What the driver sees, whatever is wanted."""

    ABSENT = "absent"
    OFF = "off"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    CRASHED = "crashed"
    UNKNOWN = "unknown"


class StoppedHow(StrEnum):
    ALREADY = "already"  # it did not run
    GRACEFUL = "graceful"
    FORCED = "forced"


@dataclass(frozen=True, slots=True)
class Resources:
    """What an environment may take. Zero: the driver's own measure."""

    memory_mb: int = 0
    processors: int = 0
    disk_growth_mb: int = 0  # how much more than its image it may write


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this driver can do here and now; `evidence` is what it would reach, not what a start has shown."""

    kinds: frozenset[Kind]
    methods: frozenset[str]
    clones: frozenset[Clone]
    networks: frozenset[NetworkMode]
    conversions: frozenset[Conversion]
    evidence: Evidence
    accelerators: tuple[str, ...] = ()
    has_snapshots: bool = False
    can_probe: bool = False
    free: Resources = Resources()  # what could still be given out; memory -1: this driver does not count it
    detail: Mapping[str, str] = field(default_factory=dict)  # versions, URI: for the page


@dataclass(frozen=True, slots=True)
class Provenance:
    """Written beside everything that a driver makes: whose it is and what it came from."""

    portal: str  # which portal, so that two of them can share one hypervisor
    number: str  # ENV-0000012 or IMG-0000003
    source: str  # name of the production CI
    created_at: str  # ISO 8601, UTC


@dataclass(frozen=True, slots=True)
class CaptureOrder:
    """Take an image. `location` is what `method` reads and what an administrator released, never a device's word:

    folder   the agent's root folder, relative to the folder of sources    (files)
    disk     a disk image (raw, qcow2, vmdk, vhdx), relative to the folder of sources    (vm, physical)
    domain   the name of a running virtual machine on the driver's hypervisor    (vm)
    medium   the name of a disk that `receive` took from a capture medium    (physical)
    upload   the name of a disk that `take_in` took    (vm, physical)
    """

    image: UUID
    kind: Kind
    method: str
    location: str
    consistency: Consistency
    provenance: Provenance
    expected_sha256: str = ""  # of the source, where the sender has told it
    masking: tuple["Recipe", ...] = ()  # applied to the image before anybody can clone it
    conversion: Conversion = Conversion.KEEP  # of what `disk`, `medium` and `upload` bring


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was taken; it never changes. `format`: tree, qcow2. Versions by product, as on the source."""

    image: UUID
    format: str
    source_sha256: str
    image_sha256: str
    source_bytes: int
    image_bytes: int
    consistency: Consistency  # what was reached, never better than the truth
    baseline: Mapping[str, str] = field(default_factory=dict)  # product: the version that runs
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # product: all versions it holds
    inventory: Mapping[str, Any] = field(default_factory=dict)  # disks, network cards, firmware, system
    masked: tuple[str, ...] = ()  # the paths that masking changed
    said: str = ""  # by the program that converted it


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is taken out of a copy before it may run: paths relative to its root, `*` for any part of a name."""

    name: str  # "mail relay", "schedulers"
    remove: tuple[str, ...] = ()
    write: Mapping[str, str] = field(default_factory=dict)  # path: new text (a relay that leads nowhere)
    disable: tuple[str, ...] = ()  # services of the guest that must not start


@dataclass(frozen=True, slots=True)
class CreateOrder:
    """Make an environment out of an image; it does not run yet."""

    environment: UUID
    image: UUID
    image_sha256: str  # what the portal knows; another one raises Conflict
    provenance: Provenance
    clone: Clone = Clone.FULL
    network: NetworkMode = NetworkMode.HOST
    allowed_endpoints: tuple[str, ...] = ()  # host:port, beside the portal
    resources: Resources = Resources()
    accelerator: str = ""  # empty: the driver's own; one that it cannot give raises Unsupported
    versions: Mapping[str, str] = field(default_factory=dict)  # product: run this one instead


@dataclass(frozen=True, slots=True)
class Delivery:
    """The identity of a copy. Written while it is off, after `create` and after each `revert`."""

    portal_url: str
    agent_id: str
    token: str = field(repr=False)
    agent_config: Mapping[str, Any] = field(default_factory=dict)  # the rest of agent.json
    neutralise: tuple[Recipe, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """What really runs now: only this sets the label of an environment."""

    power: Power  # STARTING or RUNNING
    evidence: Evidence
    accelerator: str = ""  # "tcg", "kvm"; empty without a machine
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observation:
    """What the driver sees of one environment."""

    power: Power
    process: int | None = None
    memory_mb: int = 0
    disk_bytes: int = 0
    why: str = ""  # for CRASHED, PAUSED (disk full) and UNKNOWN
    evidence: Evidence | None = None  # of what runs; None when it does not run
    accelerator: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """One try from inside the environment to reach something. `is_wanted`: it should be reached (the portal)."""

    target: str
    is_reached: bool
    is_wanted: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class IsolationProof:
    """What a probe inside the environment found; it holds when everything is as wanted, a negative control included."""

    probes: tuple[Probe, ...]

    @property
    def holds(self) -> bool:
        """Something wanted was reached, something unwanted was tried, and nothing differs from what is wanted."""
        wanted = {probe.is_wanted for probe in self.probes}
        return wanted == {True, False} and all(probe.is_reached == probe.is_wanted for probe in self.probes)


@dataclass(frozen=True, slots=True)
class Owned:
    """One thing of this portal that is there, complete or not. `provenance` is None where it cannot be read."""

    uuid: UUID
    what: str  # "image" or "environment"
    provenance: Provenance | None = None


class Driver(ABC):
    """One way to make test environments; opened once, by the runner."""

    name: ClassVar[str]

    def __init__(  # noqa: B027
        self, work_folder: Path, *, portal: str, options: Mapping[str, Any], say: Callable[[str], None]
    ) -> None:
        """`portal`: whose things are ours; `options`: the driver's own settings; `say` takes log lines.

        Connects lazily: a hypervisor that is away raises Unavailable in the verbs, not here. Unknown options raise
        Unsupported.
        """

    @classmethod
    def why_no_network(cls, options: Mapping[str, Any]) -> str:
        """Why environments cannot have the network `isolated` with these options, and what to do; empty if they can.

        Asked by the portal too, which opens no driver. Raises Unsupported for options that no driver could use.
        """
        return ""

    def open(self, bound: Bound) -> None:  # noqa: B027
        """Called once, before the other verbs: ends what processes of a killed runner have left. Raises Unavailable."""

    def close(self) -> None:  # noqa: B027
        """The runner ends. Machines may run on if the driver finds them again; processes of its own end here."""

    @abstractmethod
    def capabilities(self, bound: Bound) -> Capabilities:
        """What can be done here and now. Raises Unavailable."""

    @abstractmethod
    def capture(self, order: CaptureOrder, bound: Bound) -> Image:
        """Takes an image; the same again once it is complete. Never changes the source.

        Raises NotFound (no such source), Conflict (the source changed meanwhile; worth another try), Unsupported
        (kind, method, consistency), Capacity, Unavailable, Failed (checksum, read error).
        """

    @abstractmethod
    def delete_image(self, image: UUID, bound: Bound) -> None:
        """Removes an image; absent is fine. Raises Conflict while an environment of this driver is a clone of it."""

    @abstractmethod
    def create(self, order: CreateOrder, bound: Bound) -> None:
        """Makes the environment, off and without an identity; replaces whatever an earlier try has left.

        Capacity (memory, disk) is looked at first. Raises NotFound (image), Conflict (it runs; the image is another
        one), Unsupported (clone, network, accelerator, a version that the image does not hold), Capacity.
        """

    @abstractmethod
    def deliver(self, environment: UUID, delivery: Delivery, bound: Bound) -> tuple[str, ...]:
        """Neutralises, then writes the identity; a later one replaces it. Returns the paths that recipes changed.

        Raises NotFound, Conflict while it runs.
        """

    @abstractmethod
    def start(self, environment: UUID, bound: Bound) -> Started:
        """Starts it unless it runs; one that stands still goes on. Does not wait for the agent inside.

        Raises NotFound, Conflict (no identity), Capacity, Failed.
        """

    @abstractmethod
    def stop(self, environment: UUID, bound: Bound, *, grace_seconds: float) -> StoppedHow:
        """Asks it to end, after `grace_seconds` by force (0: at once); back when nothing of it runs, says which it was.

        Absent and off are ALREADY. An answer of the guest is no proof: power is looked at. Raises GuestUnresponsive
        when force does not help either.
        """

    @abstractmethod
    def observe(self, environment: UUID, bound: Bound) -> Observation:
        """What is seen; ABSENT rather than NotFound. Raises Unavailable."""

    @abstractmethod
    def snapshot(self, environment: UUID, snapshot: UUID, bound: Bound) -> None:
        """Keeps the present state under this uuid; without effect when it is kept already.

        Raises NotFound, Conflict while it runs (cold: the runner stops it first), Unsupported, Capacity.
        """

    @abstractmethod
    def revert(self, environment: UUID, snapshot: UUID | None, bound: Bound) -> None:
        """Cold: discards everything since the snapshot (None: since `create`). Off afterwards and without an identity.

        Other snapshots stay. Raises NotFound (environment or snapshot), Conflict while it runs, Unsupported.
        """

    @abstractmethod
    def destroy(self, environment: UUID, bound: Bound) -> None:
        """Ends it by force and removes all of it, snapshots too; absent is fine."""

    @abstractmethod
    def list_owned(self, bound: Bound) -> list[Owned]:
        """Everything of this portal that is there, also what a killed call has left. Raises Unavailable."""

    def console(self, environment: UUID, *, max_bytes: int = 16384) -> str:
        """The end of what the environment says on its console or log; empty where there is none."""
        return ""

    def probe(self, environment: UUID, bound: Bound) -> IsolationProof:
        """Tries from inside what can be reached. Raises Unsupported, GuestUnresponsive."""
        raise Unsupported(_("The driver %(name)s has no isolation to prove.", name=self.name))

    def receive(
        self, expected: ExpectedDisk, medium: Path, bound: Bound, tell: Callable[[Progress], None]
    ) -> ArrivedDisk:
        """Makes a capture medium without its secret at `medium`, unless it is there; listens until the disk arrived.

        Called again with the same name it goes on: media that were handed out stay good. `tell` is called in this
        thread. Raises Unsupported, Unavailable (the address), Capacity, Failed; Interrupted when it is to end.
        """
        raise Unsupported(_("The driver %(name)s receives no disks.", name=self.name))

    def take_in(self, name: str, file: Path, format_: str, bound: Bound) -> ArrivedDisk:
        """Takes an uploaded disk image of this format as it is, after a look at it as at something hostile.

        `file` stays. Raises Unsupported (leads out of itself, unfolds too far), Unavailable, Capacity, Failed.
        """
        raise Unsupported(_("The driver %(name)s takes no disk images.", name=self.name))

    def forget_disk(self, name: str, bound: Bound) -> None:  # noqa: B027
        """Removes a disk that arrived or was expected under this name; absent is fine."""
