"""All that a machine goes through, once, in about three minutes on a host with nothing else to do.

A physical machine sends its disk by the capture medium; two linked clones of the image boot side by side with other
hardware, closed off; one is copied while it runs; their agents install a good and a bad release; one goes back to what
it was, and to a snapshot; nothing is left.
"""

import io
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from cmdb.models import ConfigurationItem, InstalledVersion
from cmdb.services import issue_agent_token
from distribution import services as distribution
from distribution.models import Batch, Deployment, DeploymentState
from software.models import Product, Version
from software.services import create_version, store_artifact
from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import NotFound, Unavailable, Unsupported
from test_environments.drivers.interface import (
    CaptureOrder,
    Clone,
    Consistency,
    CreateOrder,
    Delivery,
    Evidence,
    Image,
    Kind,
    NetworkMode,
    Power,
    Recipe,
    StoppedHow,
)
from test_environments.drivers.libvirt import host, probing
from test_environments.drivers.libvirt.driver import Libvirt
from test_environments.drivers.libvirt.network import interfaces_of
from test_environments.drivers.libvirt.physical import Incoming
from tests.agent.ci import archive
from tests.factories import make_ci, make_product, make_user
from tests.hypervisor.guests import Source, machines_below, read_file, sha256, until
from tests.hypervisor.open_probe import probe_in_the_open
from tests.hypervisor.physical import expected, send_disk
from tests.hypervisor.scenes import PROVENANCE, SECONDS, media
from tests.hypervisor.steps import Steps
from tickets.clock import database_now

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]

NEUTRALISE = (
    Recipe("schedulers", remove=("etc/cron.d/*",)),
    Recipe("mail relay", write={"etc/mail.json": '{"relay": ""}'}),
)
DONE = {DeploymentState.SUCCEEDED, DeploymentState.FAILED}


class Scene:
    """The portal with one production CI, its disk, and a hypervisor."""

    def __init__(self, place: Path, disk: Path, portal_url: str) -> None:
        self.portal_url = portal_url
        options = {"sources": place, "media": media()}
        self.disk = disk
        self.incoming = Incoming(place / "incoming", media())
        self.driver = Libvirt(place, portal=PROVENANCE.portal, options=options, say=print)
        self.till = make_ci("till-7", agent_id="till-7")
        self.product = make_product("billing")
        self.engineer = make_user("engineer", "release engineer")

    def bound(self) -> Bound:
        return Bound(SECONDS)

    def capture(self, method: str, location: str, consistency: Consistency = Consistency.COLD) -> Image:
        kind = Kind.VM if method == "domain" else Kind.PHYSICAL
        order = CaptureOrder(uuid4(), kind, method, location, consistency, PROVENANCE)
        return self.driver.capture(order, self.bound())

    def copy(self, name: str) -> ConfigurationItem:
        return make_ci(name, agent_id=name, copy_of=self.till)

    def give_identity(self, environment: UUID, copy: ConfigurationItem, token: str) -> tuple[str, ...]:
        agent = {"poll_min_seconds": 0.5}
        delivery = Delivery(self.portal_url, copy.agent_id or "", token, agent, NEUTRALISE)
        return self.driver.deliver(environment, delivery, self.bound())

    def start(self, environment: UUID, image: Image, copy: ConfigurationItem, token: str) -> tuple[str, ...]:
        order = CreateOrder(
            environment, image.image, image.image_sha256, PROVENANCE, Clone.LINKED, NetworkMode.ISOLATED
        )
        self.driver.create(order, self.bound())
        changed = self.give_identity(environment, copy, token)
        assert self.driver.start(environment, self.bound()).evidence is Evidence.EMULATED
        return changed

    def package(self, label: str, check: str) -> Version:
        about = {"product": "billing", "version": label, "health": {"command": ["sh", "c.sh"], "timeout_seconds": 60}}
        files = {"software.json": json.dumps(about), "app.txt": f"billing {label}", "c.sh": check}
        version = create_version(self.product, actor=self.engineer, now=database_now(), label=label)
        stream = io.BytesIO(archive({name: text.encode() for name, text in files.items()}))
        store_artifact(version, actor=self.engineer, now=database_now(), filename="billing.tar.gz", stream=stream)
        return version

    def deploy(self, copy: ConfigurationItem, version: Version) -> Deployment:
        now = database_now()
        batch = distribution.create_batch(label="REL-0000002", purpose=Batch.Purpose.TEST, now=now)
        package = [(version.product_id, version.pk, 1)]
        distribution.queue_deployments(batch, ci_ids=[copy.pk], package=package, fresh=None, now=now)
        distribution.open_batch(batch, now=now)
        return Deployment.objects.get(batch=batch)

    def consoles(self, *environments: UUID) -> str:
        return "\n".join(self.driver.console(environment)[-1500:] for environment in environments)


@pytest.fixture
def scene(place: Path, tmp_path: Path, physical: Source, live_server, settings) -> Iterator[Scene]:
    settings.MEDIA_ROOT = tmp_path / "media"
    scene = Scene(place, physical.write(tmp_path / "till-7.raw"), live_server.url)
    yield scene
    for owned in scene.driver.list_owned(scene.bound()):
        if owned.what == "environment":
            scene.driver.destroy(owned.uuid, scene.bound())
    scene.driver.close()


def running(copy: ConfigurationItem, product: Product) -> str:
    """What the copy's agent has reported."""
    found = InstalledVersion.objects.filter(ci=copy, product=product, valid_to=None).values_list("label", flat=True)
    return next(iter(found), "")


def state(deployment: Deployment) -> str:
    return Deployment.objects.values_list("state", flat=True).get(pk=deployment.pk)


def image_of_the_physical_machine(scene: Scene, work: Path, steps: Steps) -> Image:
    """By the medium: the machine's disk stays as it is, and what arrived is the same, by its checksum."""
    before = sha256(scene.disk)
    scene.incoming.receiver(expected("till-7")).close()
    with pytest.raises(Unavailable, match="has not arrived"):
        scene.capture("medium", "till-7")
    with steps.measured("a physical machine boots the medium and sends 112 MB"):
        received = send_disk(scene.disk, scene.incoming, "till-7", work)
    assert received.sha256 == before == sha256(scene.disk)
    assert [card["driver"] for card in received.inventory["network"]] == ["e1000"]
    assert received.inventory["disk_bytes"] == scene.disk.stat().st_size
    with steps.measured("its image is taken"):
        image = scene.capture("medium", "till-7")
    assert image.source_sha256 == before
    return image


def is_closed_off(scene: Scene, environment: UUID, work: Path) -> None:
    """As a probe in its place finds; the same probe in the open finds the doors of this host."""
    process = scene.driver.observe(environment, scene.bound()).process
    assert process == host.process_of(str(environment))
    assert interfaces_of(process) == ["lo"]
    proof = scene.driver.probe(environment, scene.bound())
    assert proof.holds, proof
    assert len(proof.probes) >= 3
    with probing.doors() as doors:
        plan = probing.Plan(scene.portal_url, doors)
        control = plan.proof(probe_in_the_open(work, plan))
    assert not control.holds
    assert [probe.is_reached for probe in control.probes][: 1 + len(doors)] == [True] * (1 + len(doors)), control


def is_copied_while_it_runs(scene: Scene, environment: UUID) -> None:
    name = f"env-{environment}"
    copy = scene.capture("domain", name, Consistency.CRASH)
    assert (copy.baseline, copy.consistency) == ({"billing": "1.0"}, Consistency.CRASH)
    assert scene.driver.observe(environment, scene.bound()).power is Power.RUNNING
    with pytest.raises(Unsupported, match="frozen"):  # no guest agent in it
        scene.capture("domain", name, Consistency.FROZEN)
    with pytest.raises(NotFound):
        scene.capture("domain", "nobody")
    scene.driver.delete_image(copy.image, scene.bound())


def test_a_good_and_a_bad_release_are_tried_in_two_clones_of_a_physical_machine(scene: Scene, place: Path, tmp_path):
    steps = Steps()
    image = image_of_the_physical_machine(scene, tmp_path, steps)
    assert (image.baseline, image.versions) == ({"billing": "1.0"}, {"billing": ("0.9", "1.0")})
    copies = scene.copy("copy-1"), scene.copy("copy-2")
    tokens = [issue_agent_token(copy, actor=None, now=database_now()) for copy in copies]
    one, other = uuid4(), uuid4()
    # Of the driver's calls none touches the database.
    with steps.measured("two linked clones get their identities and start"), ThreadPoolExecutor(2) as both:
        jobs = [
            both.submit(scene.start, *job) for job in zip((one, other), (image, image), copies, tokens, strict=True)
        ]
        changed = [job.result() for job in jobs]
    assert changed == [("etc/cron.d/invoices", "etc/mail.json")] * 2
    with steps.measured("both boot until their agents have reported"):
        until(
            lambda: [running(copy, scene.product) for copy in copies] == ["1.0", "1.0"],
            seconds=SECONDS, say=lambda: scene.consoles(one, other),
        )  # fmt: skip
    assert "root on /dev/vda2, network by virtio_net" in scene.driver.console(one), "other hardware than it had"
    with steps.measured("closed off, with the control; copied while it runs"), ThreadPoolExecutor(2) as both:
        proofs = both.submit(is_closed_off, scene, one, tmp_path), both.submit(is_copied_while_it_runs, scene, other)
        for proof in proofs:
            proof.result()
    steps.memory("the process of a machine with 256 MB", scene.driver.observe(one, scene.bound()).process)

    with socket.create_server(("127.0.0.1", 0)) as control:  # on the host, beside the portal
        port = control.getsockname()[1]
        is_closed = f"nc -w 5 10.0.2.2 {port} -e /bin/true < /dev/null && exit 9"
        good = scene.package("2.0", f"grep -q 2.0 app.txt || exit 1\n{is_closed}\nexit 0\n")
        bad = scene.package("3.0", "echo the till does not open; exit 1")
        deployments = scene.deploy(copies[0], good), scene.deploy(copies[1], bad)
        with steps.measured("both apply a release"):
            until(
                lambda: all(state(deployment) in DONE for deployment in deployments),
                seconds=SECONDS, say=lambda: scene.consoles(one, other),
            )  # fmt: skip
    for deployment in deployments:
        deployment.refresh_from_db()
    found = [(deployment.state, deployment.error_code) for deployment in deployments]
    expected = [(DeploymentState.SUCCEEDED, ""), (DeploymentState.FAILED, "health_check_failed")]
    assert found == expected, scene.consoles(one, other)
    until(lambda: [running(copy, scene.product) for copy in copies] == ["2.0", "1.0"], seconds=SECONDS)

    with steps.measured("stop, in order"):
        assert scene.driver.stop(one, scene.bound(), grace_seconds=90) is StoppedHow.GRACEFUL
    kept = uuid4()
    with steps.measured("snapshot"):
        scene.driver.snapshot(one, kept, scene.bound())
    with steps.measured("revert"):
        scene.driver.revert(one, None, scene.bound())
    with steps.measured("a new identity, by an errand"):
        scene.give_identity(one, copies[0], tokens[0])
    scene.driver.start(one, scene.bound())
    with steps.measured("one boots until its agent has reported"):
        until(lambda: running(copies[0], scene.product) == "1.0", seconds=SECONDS, say=lambda: scene.consoles(one))
    scene.driver.stop(one, scene.bound(), grace_seconds=0)
    scene.driver.revert(one, kept, scene.bound())
    top = scene.driver._files(one).top
    assert read_file(top, "srv/till/billing/current/app.txt", tmp_path) == "billing 2.0"
    assert "production" not in read_file(top, "etc/update-agent/agent.json", tmp_path)

    for environment in (one, other):
        with steps.measured("destroy"):
            scene.driver.destroy(environment, scene.bound())
        assert scene.driver.observe(environment, scene.bound()).power is Power.ABSENT
    scene.driver.delete_image(image.image, scene.bound())
    assert scene.driver.list_owned(scene.bound()) == []
    scene.driver.close()
    assert machines_below(place) == []
    assert list(place.rglob("*.qcow2")) == list(place.rglob("*.sock")) == []
    assert not InstalledVersion.objects.filter(ci=scene.till).exists()
    steps.tell()
