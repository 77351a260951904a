"""What the tests of foreign agents play with: a product in the media library, CIs, and their devices."""

import hashlib
import io
import itertools
from collections.abc import Mapping
from pathlib import Path

from cmdb.models import AgentProfile, ConfigurationItem, InstalledVersion
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

_numbers = itertools.count(1)


def software(label: str, size: int = 1000) -> bytes:
    """Software that names itself in its first line; the same for the same label and size."""
    block = hashlib.sha256(label.encode()).digest()
    return f"{label}\n".encode() + block * (size // len(block))


class World:
    """The portal's side of a test. Its devices run Billing 1.0 from the factory."""

    def __init__(self, processes: Processes, folder: Path, line: Line, vendor: Signer) -> None:
        self.devices: list[SwupdateDevice] = []
        self.until = processes.until
        self._processes, self._folder, self._line, self._vendor = processes, folder, line, vendor
        self.product = make_product("billing")
        make_version(self.product, "1.0")

    def device(self, proof: str = AgentProfile.Proof.CLOSED, *, tells_version: bool = False) -> SwupdateDevice:
        """A CI with a device, not booted yet. `tells_version`: its agent reports the version as an attribute."""
        name = f"till-{next(_numbers)}"
        profile = AgentProfile.objects.get_or_create(
            name=f"SWUpdate {proof}", proof=proof, takes="swu", can_remove=False
        )[0]
        ci = make_ci(name, agent_id=name, agent_profile=profile)
        now = database_now()
        record_installed(ci, product=self.product, label="1.0", now=now)
        folder = self._folder / name
        folder.mkdir()
        device = SwupdateDevice(
            self._processes,
            folder,
            ci=ci,
            url=self._line.url,
            token=issue_agent_token(ci, actor=None, now=now),
            certificate=self._vendor.certificate,
            tells_version=tells_version,
        )
        device.put_software(software("1.0"))
        self.devices.append(device)
        return device

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
        return queue(make_batch(), [device.ci], version, now=database_now())[0]

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
        return dict(ConfigurationItem.objects.get(pk=device.ci.pk).attributes)

    def installed(self, device: SwupdateDevice) -> list[tuple[str, str, bool]]:
        """What the portal has written down for the CI, oldest first: version, what brought it, whether it is drift."""
        rows = InstalledVersion.objects.filter(ci=device.ci).order_by("id")
        assert rows.filter(valid_to=None).count() == 1
        return list(rows.values_list("label", "source", "is_drift"))
