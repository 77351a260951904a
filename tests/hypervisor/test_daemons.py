"""The driver on daemons of libvirt: of this host (`session`, `system`) and of another one (`qemu+ssh`).

Their machines get no network, so nothing is isolated less than it says.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Conflict, Unavailable, Unsupported
from test_environments.drivers.interface import CaptureOrder, Consistency, CreateOrder, Kind, NetworkMode, StoppedHow
from test_environments.drivers.libvirt import probing
from test_environments.drivers.libvirt.driver import Libvirt
from tests.hypervisor.benches import libvirt_bench
from tests.hypervisor.daemons import session_daemon, system_daemon
from tests.hypervisor.scenes import PROVENANCE, SECONDS, Golden, media
from tests.push.ssh_server import SshServer
from tests.test_environments.driver_contract import Bench, DriverContract

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True, slots=True)
class Daemons:
    """The URIs of three hypervisors: that of `ssh` is the system's, reached as if it were on another host."""

    session: str
    system: str
    ssh: str
    folder: Path
    system_process: int


@pytest.fixture(scope="module")
def daemons() -> Iterator[Daemons]:
    folder = Path(tempfile.mkdtemp(prefix="itsm-d-", dir="/var/tmp"))
    folder.chmod(0o711)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        session = stack.enter_context(session_daemon(folder / "session"))
        system, process = stack.enter_context(system_daemon(folder / "system"))
        server = SshServer(folder / "ssh", within=["nsenter", f"--target={process}", "--mount", "--"])
        stack.callback(server.close)
        known_hosts = folder / "known_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{server.port} {server.host_key}")
        where = f"qemu+ssh://root@127.0.0.1:{server.port}/system?keyfile={folder}/ssh/user"
        yield Daemons(session, system, f"{where}&known_hosts={known_hosts}", folder, process)


@pytest.fixture(params=["session", "system", "ssh"])
def bench(request, daemons: Daemons, place: Path, tmp_path: Path, golden: Golden) -> Iterator[Bench]:
    uri = getattr(daemons, request.param)
    with libvirt_bench(place, tmp_path, golden, network=NetworkMode.NONE, seconds=SECONDS, uri=uri) as bench:
        yield bench


class TestDaemons(DriverContract):
    """All of the contract, on each of the three."""

    pytestmark = pytest.mark.proof


def check_it_reaches_nothing(bench: Bench, environment: UUID) -> None:
    """By a probe in the machine's place; that it finds these doors where there is a network is another test."""
    with pytest.raises(Unsupported, match="no network"):
        bench.driver.probe(environment, bench.bound())
    with probing.doors() as doors:
        plan = probing.Plan("http://127.0.0.1:8000", doors)
        report = bench.driver._here.errands.run(
            "probe", environment, bench.driver._files(environment).folder, bench.bound(),
            provenance=PROVENANCE, order=plan.order,
        )  # fmt: skip
    assert len(report.reached) >= 3
    assert not any(report.reached.values())


def test_a_copy_runs_is_copied_while_it_runs_and_goes_back(bench: Bench) -> None:
    image = bench.capture()
    assert image.baseline == {"billing": "1.0"}
    wanted = CreateOrder(uuid4(), image.image, image.image_sha256, PROVENANCE, network=NetworkMode.ISOLATED)
    with pytest.raises(Unsupported, match=r"no network: .* Set TEST_ENVIRONMENT_LIBVIRT_URI to qemu:///embed"):
        bench.driver.create(wanted, bench.bound())
    environment, kept = bench.create(image), uuid4()
    bench.deliver(environment)
    check_it_reaches_nothing(bench, environment)
    bench.driver.snapshot(environment, kept, bench.bound())
    started = bench.driver.start(environment, bench.bound())
    assert (started.evidence, started.accelerator) == (bench.evidence, "tcg")
    connection = bench.driver._here.hypervisor.connection
    assert "<interface" not in connection.call("description", bench.bound(), uuid=str(environment))
    assert bench.bound().wait(lambda: "agent 1.1.0" in bench.driver.console(environment), every=0.5)

    domain = CaptureOrder(uuid4(), Kind.VM, "domain", f"env-{environment}", Consistency.CRASH, PROVENANCE)
    assert bench.driver.capture(domain, bench.bound()).consistency is Consistency.CRASH

    assert bench.driver.stop(environment, bench.bound(), grace_seconds=0) is StoppedHow.FORCED
    bench.driver.revert(environment, kept, bench.bound())
    with pytest.raises(Conflict, match="identity"):
        bench.driver.start(environment, bench.bound())
    bench.driver.destroy(environment, bench.bound())
    assert {what for _uuid, what in bench.owned()} == {"image"}


def test_a_host_that_does_not_see_the_files_is_refused(daemons: Daemons, place: Path, tmp_path: Path, golden) -> None:
    hidden = place / "hidden"
    hidden.mkdir(mode=0o711)
    inside = ["nsenter", f"--target={daemons.system_process}", "--mount", "--"]
    subprocess.run([*inside, "mount", "-t", "tmpfs", "none", hidden], check=True, timeout=30)
    try:
        with libvirt_bench(hidden, tmp_path, golden, network=NetworkMode.NONE, uri=daemons.ssh) as bench:
            with pytest.raises(Unsupported, match="does not find the files"):
                bench.driver.open(bench.bound())
            with pytest.raises(Unsupported, match="does not find the files"):
                bench.driver.capture(golden.order, bench.bound())
    finally:
        subprocess.run([*inside, "umount", hidden], check=True, timeout=30)


def test_a_host_with_another_key_is_not_spoken_to(daemons: Daemons, place: Path, tmp_path: Path, golden) -> None:
    known_hosts = tmp_path / "known_hosts"
    address = (daemons.folder / "known_hosts").read_text().split()[0]
    known_hosts.write_text(f"{address} {(daemons.folder / 'ssh' / 'stranger.pub').read_text()}")
    uri = daemons.ssh.replace(str(daemons.folder / "known_hosts"), str(known_hosts))
    driver = Libvirt(place, portal=PROVENANCE.portal, options={"media": media(), "uri": uri}, say=print)
    try:
        with pytest.raises(Unavailable, match="verification failed"):
            driver.open(Bound(SECONDS))
    finally:
        driver.close()
