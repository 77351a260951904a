"""A real hypervisor with real machines: QEMU and libvirt on this host, as root. Elsewhere these tests are skipped."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_environments.drivers.libvirt.host import what_is_missing
from test_environments.drivers.libvirt.small_systems.tiny_guest import TinyGuest
from tests.hypervisor.copies import Copies
from tests.hypervisor.guests import Source, machines_below
from tests.hypervisor.scenes import Golden, Machines, media
from tests.test_environments.conftest import HostProcess


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def hypervisor() -> None:
    """Skips where there is none; in continuous integration nothing is skipped."""
    if why := what_is_missing():
        if os.environ.get("REQUIRE_HYPERVISOR"):
            pytest.fail(f"machines need {why}")
        pytest.skip(f"machines need {why}")


@pytest.fixture
def place(golden: Golden) -> Iterator[Path]:
    """A folder that QEMU's user reaches, with a short path; no machine of it is left."""
    folder = Path(tempfile.mkdtemp(prefix="itsm-", dir="/var/tmp"))
    folder.chmod(0o711)
    golden.give_knowledge(folder)
    try:
        yield folder
        assert machines_below(folder) == []
        golden.take_knowledge(folder)
    finally:
        for process in machines_below(folder):
            os.kill(process, 9)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def physical() -> Source:
    """The disk of a physical machine with an agent that runs `billing` 1.0; 0.9 lies beside it."""
    return Source(TinyGuest(media()))


@pytest.fixture(scope="session")
def golden(physical: Source) -> Iterator[Golden]:
    """One image of that disk for all tests that do not take one themselves."""
    folder = Path(tempfile.mkdtemp(prefix="itsm-golden-", dir="/var/tmp"))
    yield Golden(folder, physical)
    shutil.rmtree(folder)


@pytest.fixture
def machines(place: Path, golden: Golden) -> Iterator[Machines]:
    """A driver; all that it made is ended afterwards."""
    machines = Machines(place, golden)
    yield machines
    machines.close()


@pytest.fixture
def machines_folder(place: Path, golden: Golden, monkeypatch) -> Path:
    """The folder of a test host's machines, and the settings that name it; the small system is there already."""
    folder = place / "m"
    golden.prepare_host(place, folder)
    monkeypatch.setenv("TEST_ENVIRONMENT_DRIVERS", "libvirt")
    monkeypatch.setenv("TEST_ENVIRONMENT_MACHINES", str(folder))
    return folder


@pytest.fixture
def host(machines_folder: Path, golden: Golden, tmp_path: Path, live_server, settings) -> Iterator[HostProcess]:
    """A test host with the driver for machines, and the disk of one CI that may be copied."""
    golden.offer_disk(tmp_path / "fleet")
    settings.TEST_ENVIRONMENT_DRIVERS = {"libvirt": {}}  # the portal only asks whether there is one
    host = HostProcess(tmp_path, live_server.url)
    yield host
    if host.process is not None:
        host.end(signal.SIGTERM)


@pytest.fixture
def scene(host: HostProcess, machines_folder: Path) -> Copies:
    return Copies(host, machines_folder)
