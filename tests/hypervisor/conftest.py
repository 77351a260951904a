"""A real hypervisor with real machines: QEMU and libvirt on this host, as root. Elsewhere these tests are skipped."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_environments.drivers.libvirt.small_systems.tiny_guest import TinyGuest
from tests.hypervisor.guests import Source, machines_below
from tests.hypervisor.scenes import Golden, Machines, media


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)


def missing() -> str:
    """What this host lacks for machines, empty if nothing."""
    if os.geteuid() != 0:
        return "root's rights"
    for program in ("qemu-system-x86_64", "qemu-img", "dpkg-deb", "unshare", "nsenter", "setpriv", "prlimit"):
        if shutil.which(program) is None:
            return program
    try:
        import libvirt  # noqa: F401
    except ImportError:
        return "libvirt-python"
    return ""


@pytest.fixture(scope="session", autouse=True)
def hypervisor() -> None:
    """Skips where there is none; in continuous integration nothing is skipped."""
    if why := missing():
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
