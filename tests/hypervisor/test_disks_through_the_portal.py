"""Disks come to the test host through the portal's pages: sent by a physical machine, or uploaded.

The physical machine is a PC with an IDE disk and an Intel network card, emulated by a QEMU of its own, that boots from
the medium.
"""

import secrets
import socket
import subprocess
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from accounts.models import User
from cmdb.models import ConfigurationItem, InstalledVersion
from test_environments.drivers.libvirt.probing import _own_addresses
from test_environments.models import CopySource, DiskReception, GoldenImage, NeutralisingRecipe, TestEnvironment
from tests.factories import make_ci, make_product, make_user
from tests.hypervisor.guests import Source, machines_below, sha256, until
from tests.hypervisor.physical import boot_until_sent
from tests.hypervisor.scenes import SECONDS
from tests.test_environments.conftest import HostProcess

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(1500)]


@pytest.fixture(autouse=True)
def exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings) -> Path:
    """What portal and test host share, and where the host listens: both are told before the host is made."""
    folder, address, port = tmp_path / "exchange", _own_addresses()[0], quiet_port()
    monkeypatch.setenv("TEST_ENVIRONMENT_EXCHANGE", str(folder))
    monkeypatch.setenv("TEST_ENVIRONMENT_RECEIVER", f"{address}:{port}")
    settings.TEST_ENVIRONMENT_EXCHANGE = folder
    settings.TEST_ENVIRONMENT_RECEIVER = (address, port, port)
    return folder


def quiet_port() -> int:
    """One that nobody has, and that nobody is given by chance: below those that the kernel hands out."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port


class Pages:
    """The pages as one person uses them."""

    def __init__(self, person: User) -> None:
        self._client = Client()
        self._client.force_login(person)

    def send(self, name: str, *arguments: str, status: int = 302, **fields: object):
        """Posts a form."""
        answer = self._client.post(reverse(name, args=arguments), fields)
        assert answer.status_code == status, answer.content.decode()[-3000:]
        return answer

    def see(self, name: str, *arguments: str) -> str:
        answer = self._client.get(reverse(name, args=arguments))
        assert answer.status_code == 200
        return str(answer.content.decode())


class Scene:
    """A running test host, a physical machine, and two people at the portal."""

    def __init__(self, host: HostProcess, machines: Path, work: Path) -> None:
        self.host, self.machines, self.work = host, machines, work
        self.engineer = Pages(make_user("engineer", "release engineer", "release manager"))  # not his own orders
        self.manager = Pages(make_user("manager", "release manager"))
        self.product = make_product("billing")
        self.till = make_ci("till-7", agent_id="till-7")
        host.start()

    def release_for(self, method: str) -> None:
        CopySource.objects.create(ci=self.till, driver="libvirt", method=method, kind="physical")

    def until(self, row: DiskReception | GoldenImage | TestEnvironment, *states: str) -> None:
        def tell() -> str:
            return f"{row.state} {row.last_error}\n{self.host.says()}"

        until(lambda: self.is_in(row, *states), seconds=SECONDS, say=tell)

    def is_in(self, row: DiskReception | GoldenImage | TestEnvironment, *states: str) -> bool:
        row.refresh_from_db()
        return row.state in states

    def medium(self) -> tuple[DiskReception, Path]:
        """Ordered, made by the test host, downloaded with the secret that the page has shown."""
        secret = self.engineer.send(
            "disk_order", self.till.number, status=200, reason="The till is to be replaced.", hours="1"
        ).context["secret"]
        reception = DiskReception.objects.get()
        self.until(reception, "waiting", "error")
        assert "Download the medium" in self.engineer.see("disk_detail", reception.number)
        answer = self.engineer.send("disk_medium", reception.number, status=200, secret=secret)
        path = self.work / "medium.img"
        path.write_bytes(b"".join(answer.streaming_content))
        return reception, path

    def incoming(self) -> list[str]:
        return [path.name for path in (self.machines / "incoming").glob("*")]


@pytest.fixture
def scene(host: HostProcess, machines_folder: Path, tmp_path: Path) -> Scene:
    return Scene(host, machines_folder, tmp_path)


def test_a_physical_machine_sends_its_disk_and_its_clone_boots_with_other_hardware(
    scene: Scene, physical: Source, tmp_path: Path
) -> None:
    scene.release_for("medium")
    NeutralisingRecipe.objects.create(ci_class=scene.till.ci_class, name="schedulers", remove=["etc/cron.d/*"])
    disk, screen = physical.write(tmp_path / "physical.raw"), tmp_path / "screen.log"
    before = sha256(disk)
    reception, medium = scene.medium()
    boot_until_sent(medium, disk, screen, lambda: scene.is_in(reception, "arrived", "error"))
    assert reception.state == "arrived", screen.read_text(errors="replace")[-2000:]
    assert reception.sha256 == before == sha256(disk), "what arrived is what the machine has, unchanged"
    assert reception.inventory["network"][0]["driver"] == "e1000"
    assert reception.inventory["disk_driver"] == "sd"

    image = reception.image
    assert image is not None
    assert (image.state, image.expected_sha256) == ("requested", before), "nobody opens it before it is approved"
    scene.engineer.send("image_verb", image.number, "approve", status=403)
    scene.manager.send("image_verb", image.number, "approve")
    scene.until(image, "ready", "error")
    assert (image.source_sha256, image.baseline) == (before, {"billing": "1.0"}), image.last_error
    scene.until(reception, "done")
    assert scene.incoming() == [], "what had arrived is deleted once the image is taken"

    wanted = {"image": image.pk, "purpose": "A try", "clone": "linked", "network": "isolated"}
    scene.engineer.send("environment_order", scene.till.number, **wanted)
    environment = TestEnvironment.objects.get()
    scene.until(environment, "ready", "error")
    assert (environment.state, environment.evidence) == ("ready", "emulated"), environment.last_error
    assert environment.isolation["holds"]
    assert environment.neutralised == ["etc/cron.d/invoices"]
    [runs] = InstalledVersion.objects.filter(ci=environment.copy, valid_to=None)
    assert (runs.label, runs.product) == ("1.0", scene.product), "as its agent says, in the machine"
    other_hardware = "root on /dev/vda2, network by virtio_net"
    page = ("environment_detail", environment.number)
    until(lambda: other_hardware in scene.engineer.see(*page), seconds=SECONDS, say=scene.host.says)

    scene.engineer.send("environment_verb", environment.number, "destroy")
    scene.until(environment, "destroyed")
    scene.engineer.send("image_verb", image.number, "delete_files")
    scene.until(image, "deleted")
    assert scene.host.end() == 0
    assert machines_below(scene.machines) == []
    assert not list(scene.machines.rglob("*.qcow2"))
    assert list(ConfigurationItem.objects.production()) == [scene.till]


def test_an_uploaded_disk_is_looked_at_by_the_test_host_before_it_counts(
    scene: Scene, tmp_path: Path, exchange: Path
) -> None:
    scene.release_for("upload")
    secret = tmp_path / "secret"
    secret.write_bytes(b"a secret of the test host".ljust(1024 * 1024, b"\0"))
    hostile, sound = tmp_path / "hostile.qcow2", tmp_path / "till-7.qcow2"
    for command in (
        ["-F", "raw", "-b", secret, hostile],
        [sound, "16M"],
    ):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *command], check=True, timeout=60)

    def upload(path: Path) -> DiskReception:
        file = SimpleUploadedFile(path.name, path.read_bytes())
        scene.engineer.send("disk_order", scene.till.number, reason="The till is to be replaced.", file=file)
        return DiskReception.objects.latest("pk")

    refused = upload(hostile)
    scene.until(refused, "error", "arrived")
    assert refused.state == "error"
    assert "builds on another file" in refused.last_error
    until(lambda: DiskReception.objects.get(pk=refused.pk).cleared_at, seconds=SECONDS, say=scene.host.says)

    accepted = upload(sound)
    scene.until(accepted, "error", "arrived")
    assert (accepted.state, accepted.sha256) == ("arrived", sha256(sound)), accepted.last_error
    assert accepted.inventory == {"format": "qcow2", "disk_bytes": 16 * 1024 * 1024}, "as qemu-img says"
    assert accepted.image is not None
    assert accepted.image.state == "requested"
    assert scene.incoming() == [str(accepted.uuid)]
    scene.engineer.send("image_verb", accepted.image.number, "delete_files")  # declined
    scene.until(accepted, "done")
    assert scene.incoming() == []
    assert list(exchange.iterdir()) == []
