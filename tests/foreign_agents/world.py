"""What the tests of foreign agents play with: a product in the media library, CIs, and their devices."""

import hashlib
import importlib
import io
import itertools
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from cmdb.models import AgentProfile, ConfigurationItem, InstalledVersion, MaintenanceWindow
from cmdb.services import issue_agent_token, record_installed
from distribution.models import Deployment, DeploymentEvent
from software.models import Version
from software.services import store_artifact
from tests.distribution.fleet import make_batch, queue, state
from tests.factories import make_ci, make_product, make_version
from tests.foreign_agents.device import SwupdateDevice
from tests.foreign_agents.line import Line
from tests.foreign_agents.processes import Processes
from tests.foreign_agents.signed_image import Signer
from tickets.clock import database_now

# What the portal brings; other tests may have emptied its table.
_PROFILES = importlib.import_module("cmdb.migrations.0006_seed_agent_profiles").PROFILES
PROFILE = next(profile for profile in _PROFILES if profile["name"] == "SWUpdate")
_numbers = itertools.count(1)


def software(label: str, size: int = 1000) -> bytes:
    """Software that names itself in its first line; the same for the same label and size."""
    block = hashlib.sha256(label.encode()).digest()
    return f"{label}\n".encode() + block * (size // len(block))


class World:
    """The portal's side of a test. Its devices run Billing 1.0 from the factory."""

    def __init__(self, processes: Processes, folder: Path, line: Line, vendor: Signer) -> None:
        self._devices: list[SwupdateDevice] = []
        self._cis: dict[str, ConfigurationItem] = {}
        self.until = processes.until
        self._processes, self._folder, self._line, self._vendor = processes, folder, line, vendor
        self.product = make_product("billing")
        make_version(self.product, "1.0")

    def device(self, proof: str = PROFILE["proof"], *, tells_version: bool = False) -> SwupdateDevice:
        """A device of a CI, not booted yet. `tells_version`: its agent reports the version as an attribute."""
        agent_id = f"till-{next(_numbers)}"
        ci = make_ci(agent_id, agent_id=agent_id, agent_profile=self.profile(proof))
        token = issue_agent_token(ci, actor=None, now=database_now())
        device = self.stranger(f'targettoken = "{token}"', agent_id=agent_id, tells_version=tells_version)
        self.adopt(device, ci)
        return device

    def stranger(self, credential: str, *, agent_id: str = "stranger", tells_version: bool = True) -> SwupdateDevice:
        """A device that nobody has registered."""
        folder = self._folder / f"{agent_id}-{next(_numbers)}"
        folder.mkdir()
        device = SwupdateDevice(
            self._processes,
            folder,
            agent_id=agent_id,
            url=self._line.url,
            credential=credential,
            certificate=self._vendor.certificate,
            tells_version=tells_version,
        )
        device.put_software(software("1.0"))
        self._devices.append(device)
        return device

    def adopt(self, device: SwupdateDevice, ci: ConfigurationItem) -> None:
        """The device is this CI's, which runs Billing 1.0."""
        record_installed(ci, product=self.product, label="1.0", now=database_now())
        self._cis[device.agent_id] = ci

    def ci_of(self, device: SwupdateDevice) -> ConfigurationItem:
        """As it is in the database now."""
        return ConfigurationItem.objects.get(pk=self._cis[device.agent_id].pk)

    def profile(self, proof: str = PROFILE["proof"]) -> AgentProfile:
        """The one that the portal brings for SWUpdate, or one that differs in the proof."""
        name = f"{PROFILE['name']}, {proof}"
        return AgentProfile.objects.get_or_create(name=name, defaults={**PROFILE, "name": name, "proof": proof})[0]

    def set_window(self, device: SwupdateDevice, *, is_open: bool) -> None:
        """Gives the CI a daily window: far off, or long open and open for long."""
        begin = database_now() + timedelta(hours=-6 if is_open else 6)
        values = {"start": begin.time(), "minutes": 12 * 60 if is_open else 60}
        window = MaintenanceWindow.objects.update_or_create(name=device.agent_id, defaults=values)[0]
        ConfigurationItem.objects.filter(agent_id=device.agent_id).update(maintenance_window=window)

    def shut_down(self) -> None:
        """Ends the devices."""
        for device in self._devices:
            device.shut_down()

    def deploy(
        self,
        device: SwupdateDevice,
        label: str = "2.0",
        *,
        size: int = 1000,
        check: bytes | None = None,
        signer: Signer | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Deployment:
        """Stores this version in the media library and queues it for the device.

        It consists of an image with `size` bytes of software and a script that checks it, or of `files`.
        """
        version = make_version(self.product, label, state=Version.State.DRAFT)
        files = files or {f"billing-{label}.swu": self.image(device, label, size=size, check=check, signer=signer)}
        for number, (filename, data) in enumerate(files.items(), start=1):
            store_artifact(
                version,
                actor=None,
                now=database_now(),
                filename=filename,
                stream=io.BytesIO(data),
                more=number < len(files),
            )
        return queue(make_batch(), [self.ci_of(device)], version, now=database_now())[0]

    def image(
        self,
        device: SwupdateDevice,
        label: str,
        *,
        size: int = 1000,
        check: bytes | None = None,
        signer: Signer | None = None,
    ) -> bytes:
        """For this device; signed by whom it trusts unless somebody else is named."""
        content = software(label, size)
        return (signer or self._vendor).image(content, label=label, path=device.software, check=check)

    def until_state(self, deployment: Deployment, wanted: str) -> None:
        self.until(f"the deployment is {wanted}", lambda: state(deployment) == wanted)

    def reports(self, deployment: Deployment) -> list[tuple[str, str, list[str]]]:
        """What the device has reported: execution, result, details."""
        kinds = [DeploymentEvent.Kind.REPORT, DeploymentEvent.Kind.CANCEL_REPORT]
        events = DeploymentEvent.objects.filter(deployment=deployment, kind__in=kinds).order_by("id")
        return list(events.values_list("execution", "result", "details"))

    def until_reported(self, deployment: Deployment, detail: str) -> None:
        """Until the device has sent this line."""
        self.until(
            f"the device reports {detail!r}",
            lambda: any(detail in details for _execution, _result, details in self.reports(deployment)),
        )

    def attributes(self, device: SwupdateDevice) -> dict[str, str]:
        """What the agent has said about itself."""
        return dict(self.ci_of(device).attributes)

    def installed(self, device: SwupdateDevice) -> list[tuple[str, str, bool]]:
        """What the portal has written down for the CI, oldest first: version, what brought it, whether it is drift."""
        rows = InstalledVersion.objects.filter(ci=self.ci_of(device)).order_by("id")
        assert rows.filter(valid_to=None).count() == 1
        return list(rows.values_list("label", "source", "is_drift"))
