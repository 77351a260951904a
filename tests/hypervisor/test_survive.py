"""What is killed on the way: the owner of the hypervisor, a machine, the runner in the middle of a capture."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.conf import settings as django_settings

from test_environments.drivers.errors import Capacity, Conflict
from test_environments.drivers.interface import Power
from test_environments.drivers.libvirt import host
from tests.hypervisor.guests import machines_below, until
from tests.hypervisor.scenes import SECONDS, Golden, Machines, media

pytestmark = pytest.mark.timeout(600)


def test_machines_outlive_the_owner_and_the_runner_and_find_the_portal_again(machines: Machines) -> None:
    image = machines.image()
    environment = machines.create(image)
    with socket.create_server(("127.0.0.1", 0)) as portal:
        machines.deliver(environment, f"http://127.0.0.1:{portal.getsockname()[1]}")
        machines.driver.start(environment, machines.bound())
        process = machines.driver.observe(environment, machines.bound()).process

        owner = machines.driver._hypervisor.connection.pid
        assert owner is not None
        os.kill(owner, signal.SIGKILL)
        until(lambda: machines.driver._hypervisor.connection.pid is None, seconds=30)
        assert machines.driver.observe(environment, machines.bound()).process == process

        machines.driver.close()
        machines.driver = machines.open()
        machines.driver.open(machines.bound())
        assert machines.driver.observe(environment, machines.bound()).process == process
        portal.settimeout(SECONDS)
        caller, _address = portal.accept()  # the agent, once its machine is up
        caller.close()

    assert process is not None
    os.kill(process, signal.SIGKILL)
    until(lambda: machines.driver.observe(environment, machines.bound()).power is Power.CRASHED, seconds=30)
    machines.driver.start(environment, machines.bound())
    assert machines.driver.observe(environment, machines.bound()).power is Power.RUNNING

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "free_memory_mb", lambda: 100)
        with pytest.raises(Capacity, match="100 MB are free"):
            machines.create(image)
    with pytest.raises(Conflict, match=str(environment)):
        machines.driver.delete_image(image.image, machines.bound())


def test_a_runner_killed_during_a_capture_is_followed_by_one_that_finishes_or_removes_it(
    machines: Machines, place: Path, golden: Golden
) -> None:
    machines.driver.close()
    image = uuid4()
    script = f"""
        from pathlib import Path
        from uuid import UUID
        from test_environments.drivers.bound import Bound
        from test_environments.drivers.interface import CaptureOrder, Consistency, Kind
        from test_environments.drivers.libvirt.driver import Libvirt
        from tests.hypervisor.scenes import PROVENANCE

        options = {{"sources": {str(golden.sources)!r}, "media": {str(media())!r}}}
        driver = Libvirt(Path({str(place)!r}), portal=PROVENANCE.portal, options=options, say=print)
        order = CaptureOrder(UUID("{image}"), Kind.PHYSICAL, "disk", "till-7.raw", Consistency.COLD, PROVENANCE)
        driver.capture(order, Bound(200))
    """
    runner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], cwd=django_settings.BASE_DIR)
    try:
        until(lambda: errand_of(place, image), seconds=SECONDS)
    finally:
        runner.kill()
        runner.wait()

    machines.driver = machines.open()
    owned = machines.driver.list_owned(machines.bound())
    assert [(one.uuid, one.what) for one in owned] == [(image, "image")]
    machines.driver.delete_image(image, machines.bound())
    until(lambda: not errand_of(place, image), seconds=30)
    assert machines.driver.list_owned(machines.bound()) == []
    assert list((place / "images").iterdir()) == []


def errand_of(place: Path, key: UUID) -> bool:
    """Whether the machine of an errand runs."""
    for process in machines_below(place):
        try:
            if f"guest=errand-{key}".encode() in Path(f"/proc/{process}/cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False
