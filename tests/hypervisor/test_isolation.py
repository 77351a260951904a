"""What a machine can reach, tried from inside: the portal through the relay, and nothing else."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_environments.drivers.libvirt import probing
from test_environments.drivers.libvirt.errands import Report
from test_environments.drivers.libvirt.network import Namespace
from tests.hypervisor.guests import machines_below
from tests.hypervisor.scenes import PROVENANCE, Machines

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def portal() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_what_is_allowed_to_one_machine_is_reached_by_it_and_by_no_other(
    machines: Machines, portal: str, place: Path
) -> None:
    own = probing._own_addresses()
    if not own:
        pytest.skip("this host has no address but the loopback's")
    image = machines.image()
    with socket.create_server((own[0], 0)) as licence:
        port = licence.getsockname()[1]
        allowed = machines.create(image, f"{own[0]}:{port}")
        other = machines.create(image)
        for environment in (allowed, other):
            machines.deliver(environment, portal)
        proof = machines.driver.probe(allowed, machines.bound())
        assert proof.holds, proof
        wanted = {probe.target: probe.is_reached for probe in proof.probes if probe.is_wanted}
        assert wanted == {probe_of(portal): True, f"{own[0]}:{port}": True}
        unwanted = [probe.target for probe in proof.probes if not probe.is_wanted]
        assert f"{own[0]}:{port + 1}" in unwanted
        assert any(target.startswith(f"{own[0]}:") and target != f"{own[0]}:{port + 1}" for target in unwanted)

        # The other one's proof with that endpoint among what it must not reach.
        with probing.doors() as doors:
            plan = probing.Plan(portal, [*doors, (own[0], port)])
            there = machines.driver._of(other)
            there.hypervisor.open_ways(portal)
            report = there.errands.run(
                "probe", other, machines.driver._files(other).folder, machines.bound(),
                provenance=PROVENANCE, order=plan.order, has_network=True,
            )  # fmt: skip
        assert plan.proof(report).holds, plan.proof(report)

    assert [path.name for path in place.glob("h-*")], "it has a network of its own"
    machines.driver.destroy(allowed, machines.bound())
    assert not list(place.glob("h-*")), "which ends with it"
    assert len(machines_below(place)) == 1, "the owner of the other network"


def probe_of(portal: str) -> str:
    return f"10.0.2.2:{portal.rpartition(':')[2]}"


def test_a_probe_that_tells_nothing_proves_nothing() -> None:
    assert not probing.Plan("http://127.0.0.1:8000", [("10.0.2.2", 1)]).proof(Report()).holds


def test_a_namespace_has_lo_and_ends_with_who_uses_it() -> None:
    namespace = Namespace()
    try:
        assert namespace.interfaces() == ["lo"]
        with namespace.listen(8000) as inside, pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", inside.getsockname()[1]), timeout=5)
        inner = subprocess.run(
            [*namespace.command, "cat", "/proc/net/dev"], capture_output=True, text=True, check=True, timeout=30
        )
        assert [line.split(":")[0].strip() for line in inner.stdout.splitlines()[2:]] == ["lo"]
    finally:
        namespace.close()
