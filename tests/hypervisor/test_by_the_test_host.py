"""The whole way as the portal goes it: rows say what is wanted, the test host makes and ends machines."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cmdb.models import InstalledVersion
from test_environments import services
from test_environments.models import CopySource, GoldenImage, TestEnvironment
from tests.factories import make_ci, make_product, make_user
from tests.hypervisor.guests import machines_below, until
from tests.hypervisor.scenes import SECONDS, Golden, media
from tests.test_environments.conftest import HostProcess, state_of
from tickets.clock import database_now

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]

State = TestEnvironment.State


@pytest.fixture
def host(place: Path, golden: Golden, tmp_path: Path, live_server, monkeypatch, settings) -> Iterator[HostProcess]:
    """A test host with the driver for machines; the small system is there already."""
    machines = place / "m"
    (machines / "media").mkdir(mode=0o711, parents=True)
    machines.chmod(0o711)
    if (place / "h").exists():
        shutil.move(place / "h", machines / "h")
    for built in media().glob("system-*"):
        shutil.copytree(built, machines / "media" / built.name)
    (tmp_path / "fleet").mkdir()
    os.link(golden.sources / "till-7.raw", tmp_path / "fleet" / "till-7.raw")
    monkeypatch.setenv("TEST_ENVIRONMENT_DRIVERS", "libvirt")
    monkeypatch.setenv("TEST_ENVIRONMENT_MACHINES", str(machines))
    settings.TEST_ENVIRONMENT_DRIVERS = {"libvirt": {}}  # the portal only asks whether there is one
    host = HostProcess(tmp_path, live_server.url)
    yield host
    if host.process is not None:
        host.end(signal.SIGTERM)


def test_a_physical_machines_disk_becomes_a_running_copy_and_goes_again(host: HostProcess, place: Path) -> None:
    product = make_product("billing")
    till = make_ci("till-7", agent_id="till-7")
    CopySource.objects.create(ci=till, folder="till-7.raw", driver="libvirt", method="disk", kind="physical")
    environment = services.request_environment(till, actor=None, now=database_now())
    approver = make_user("owner", "administrator", is_superuser=True)
    host.start()

    def tell() -> str:
        found = TestEnvironment.objects.get(pk=environment.pk)
        return f"{found.state} {found.last_error}: {host.says()}"

    image = GoldenImage.objects.get(pk=environment.image_id)
    if image.state == "requested":
        services.approve_image(image, actor=approver, now=database_now())
    until(lambda: state_of(environment) in {State.READY, State.ERROR}, seconds=SECONDS, say=tell)
    environment.refresh_from_db()
    assert environment.state == State.READY, tell()
    assert environment.evidence == "emulated"
    running = InstalledVersion.objects.filter(ci=environment.copy, product=product, valid_to=None)
    assert [version.label for version in running] == ["1.0"]
    assert not InstalledVersion.objects.filter(ci=till).exists()
    assert len(machines_below(place)) == 2  # its machine, and the owner of the hypervisor

    services.destroy_environment(environment, actor=None, now=database_now())
    until(lambda: state_of(environment) == State.DESTROYED, seconds=SECONDS, say=tell)
    # Its image was its own, and goes with it, a moment later.
    until(lambda: not list(place.rglob("*.qcow2")), seconds=SECONDS, say=tell)
    assert host.end() == 0
    assert machines_below(place) == []
