"""Debian's SWUpdate against the portal: real agent, real server, real images; nothing in between is played."""

import hashlib
import re
from pathlib import Path

import pytest

from cmdb.admission import approve_registration, issue_gateway_token
from cmdb.models import AgentProfile, CIClass, CIGroup, Registration
from distribution.models import Deployment
from distribution.services import cancel_open
from tests.distribution.fleet import state
from tests.foreign_agents.device import SwupdateDevice
from tests.foreign_agents.line import Line
from tests.foreign_agents.signed_image import Signer
from tests.foreign_agents.world import World, software
from tickets.clock import database_now

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

INSTALLED = "All Chunks Installed."
PART = 100_000
SAYS_ANYTHING = rb"""#!/bin/sh
printf 'The "till" \033[31mis \377broken \\o/\n' >&2
exit 1
"""
LARGE = 4_000_000  # bytes; dripping, it would take longer than any test waits


def assert_has(device: SwupdateDevice, deployment: Deployment) -> None:
    """The device's file is the one in the image that the media library holds, and the library's hash is right."""
    artifact = deployment.items.get().to_version.artifacts.get(filename__endswith=".swu")
    with artifact.file.open("rb") as file:
        image = file.read()
    assert hashlib.sha256(image).hexdigest() == artifact.sha256
    (sha256,) = re.findall(rb'sha256 = "([0-9a-f]{64})"', image)
    assert device.sha256() == sha256.decode()


def test_installs_and_confirms_after_the_restart(world: World, line: Line) -> None:
    device = world.device()
    deployment = world.deploy(device)
    device.boot()
    world.until_reported(deployment, INSTALLED)
    assert_has(device, deployment)
    polls = line.polls()
    world.until("it has polled again", lambda: line.polls() >= polls + 3)
    assert len(line.downloads()) == 1, "it does not install again while it waits for the restart"
    assert state(deployment) == "installing", "installed is not confirmed"
    assert world.installed(device) == [("1.0", "", False)]

    device.reboot(confirm="2")
    world.until_state(deployment, "succeeded")
    assert world.reports(deployment)[-1] == ("closed", "success", ["Update Installed."])
    assert world.installed(device) == [("1.0", "", False), ("2.0", "ROL-0000001", False)]


def test_the_version_that_it_tells_is_a_proof_too(world: World) -> None:
    """With a profile that asks for the version as an attribute; SWUpdate sends its attributes at each start."""
    device = world.device(AgentProfile.Proof.ATTRIBUTES, tells_version=True)
    deployment = world.deploy(device)
    device.boot()
    world.until_reported(deployment, INSTALLED)
    assert world.attributes(device) == {"version.billing": "1.0"}

    device.reboot(confirm="2")
    world.until_state(deployment, "succeeded")
    assert world.attributes(device) == {"version.billing": "2.0"}
    assert world.installed(device) == [("1.0", "", False), ("2.0", "ROL-0000001", False)]


def test_who_says_that_it_works_but_runs_the_old_version_has_failed(world: World) -> None:
    """The boot loader went back, and the boot script does not notice."""
    device = world.device(AgentProfile.Proof.ATTRIBUTES, tells_version=True)
    deployment = world.deploy(device)
    device.boot()
    world.until_reported(deployment, INSTALLED)
    device.put_software(software("1.0"))
    device.reboot(confirm="2")
    world.until_state(deployment, "failed")
    deployment.refresh_from_db()
    assert (deployment.error_code, deployment.message) == ("reverted", "It runs billing 1.0")
    assert world.installed(device) == [("1.0", "", False)]


def test_a_failed_confirm_is_a_failed_deployment(world: World) -> None:
    device = world.device()
    deployment = world.deploy(device)
    device.boot()
    world.until_reported(deployment, INSTALLED)
    device.put_software(software("1.0"))  # the boot loader went back
    device.reboot(confirm="3")
    world.until_state(deployment, "failed")
    deployment.refresh_from_db()
    assert deployment.message == "Update Failed."
    assert world.installed(device) == [("1.0", "", False)]

    again = world.deploy(device, "2.1")
    world.until_reported(again, INSTALLED)
    assert_has(device, again)


def test_a_wrong_signature_is_refused_and_reported(world: World, folder: Path) -> None:
    device = world.device()
    deployment = world.deploy(device, signer=Signer(folder / "somebody"))
    device.boot()
    world.until_state(deployment, "failed")
    deployment.refresh_from_db()
    assert world.reports(deployment)[-1][:2] == ("closed", "failure")
    assert "Authentication of all signatures failed" in device.log()
    assert device.version() == "1.0"
    assert world.installed(device) == [("1.0", "", False)]


def test_cancel_in_mid_download(world: World, line: Line) -> None:
    device = world.device()
    line.slow_down_after(PART)
    deployment = world.deploy(device, size=LARGE)
    device.boot()
    world.until("the download drips", lambda: line.is_dripping)
    cancel_open([deployment.batch_id], now=database_now(), reason="Not this one")
    world.until_state(deployment, "cancelled")
    assert device.version() == "1.0"
    assert world.installed(device) == [("1.0", "", False)]

    line.speed_up()
    next_one = world.deploy(device, "3.0")
    world.until_reported(next_one, INSTALLED)
    assert_has(device, next_one)
    assert state(deployment) == "cancelled"


def test_cancel_while_it_waits_for_the_restart(world: World) -> None:
    """It says yes, but the new software is on the disk already; what it tells after the restart is written down."""
    device = world.device(tells_version=True)
    deployment = world.deploy(device)
    device.boot()
    world.until_reported(deployment, INSTALLED)
    cancel_open([deployment.batch_id], now=database_now(), reason="Not this one")
    world.until_state(deployment, "cancelled")
    device.reboot()
    world.until("it tells what it runs", lambda: world.attributes(device) == {"version.billing": "2.0"})
    assert world.installed(device) == [("1.0", "", False), ("2.0", "ROL-0000001", False)]


def test_resumes_after_a_cut(world: World, line: Line) -> None:
    device = world.device()
    line.slow_down_after(PART)
    deployment = world.deploy(device, size=LARGE)
    device.boot()
    world.until("the download drips", lambda: line.is_dripping)
    assert line.cut() == 1
    line.speed_up()
    world.until_reported(deployment, INSTALLED)
    first, second = line.downloads()
    assert first.range == ""
    begin = int(second.range.removeprefix("bytes=").removesuffix("-"))
    assert PART // 2 < begin < LARGE, "it goes on where it was cut"
    assert_has(device, deployment)


def test_polls_while_it_downloads(world: World, line: Line) -> None:
    """It asks from inside its download; a server that answers only afterwards would wait for ever."""
    device = world.device()
    line.slow_down_after(PART)
    deployment = world.deploy(device, size=LARGE)
    device.boot()
    world.until("the download drips", lambda: line.is_dripping)
    polls = line.polls()
    world.until("it polls meanwhile", lambda: line.polls() >= polls + 3)
    assert state(deployment) == "installing", "to fetch the deployment again is no step back"
    line.speed_up()
    world.until_reported(deployment, INSTALLED)
    assert [request.range for request in line.downloads()] == [""]
    assert_has(device, deployment)


def test_outside_its_window_it_sees_nothing_but_ends_what_it_has_begun(world: World, line: Line) -> None:
    """It cannot wait by itself: it closes `update: skip` as a success."""
    device = world.device()
    world.set_window(device, is_open=False)
    deployment = world.deploy(device)
    device.boot()
    world.until("it polls", lambda: line.polls() >= 3)
    assert line.polls() == len(line.requests)
    assert state(deployment) == "queued"

    world.set_window(device, is_open=True)
    world.until_reported(deployment, INSTALLED)
    assert_has(device, deployment)
    world.set_window(device, is_open=False)
    device.reboot(confirm="2")
    world.until_state(deployment, "succeeded")
    assert world.installed(device) == [("1.0", "", False), ("2.0", "ROL-0000001", False)]


def test_a_gateway_brings_a_device_that_nobody_knows(world: World) -> None:
    group, till = CIGroup.objects.create(name="plant"), CIClass.objects.create(name="Till", slug="till")
    token = issue_gateway_token(
        actor=None, now=database_now(), name="plant 1", group=group, ci_class=till, agent_profile=world.profile()
    )
    device = world.stranger(f'gatewaytoken = "{token}"')
    device.boot()
    waiting = Registration.objects.filter(agent_id=device.agent_id, attributes={"version.billing": "1.0"})
    registration = world.until("it waits and says what it runs", waiting.first)
    world.adopt(device, approve_registration(registration, actor=None, now=database_now()))
    deployment = world.deploy(device)
    world.until_reported(deployment, INSTALLED)
    assert_has(device, deployment)


def test_of_a_version_with_several_files_it_gets_the_image(world: World, line: Line) -> None:
    device = world.device()
    files = {"billing-2.0.tar.gz": b"For other agents", "billing-2.0.swu": world.image(device, "2.0")}
    deployment = world.deploy(device, files=files)
    device.boot()
    world.until_reported(deployment, INSTALLED)
    assert_has(device, deployment)
    assert [request.path.rpartition("/")[2] for request in line.downloads()] == ["billing-2.0.swu"]


def test_a_script_that_fails_may_say_anything(world: World) -> None:
    """SWUpdate puts what it says between quotes as it is; nothing of it is refused."""
    device = world.device()
    deployment = world.deploy(device, check=SAYS_ANYTHING)
    device.boot()
    world.until_state(deployment, "failed")
    assert world.reports(deployment)[-1][:2] == ("closed", "failure")
    assert world.installed(device) == [("1.0", "", False)]


def test_a_version_without_a_swu_file_fails(world: World) -> None:
    device = world.device()
    deployment = world.deploy(device, files={"billing-2.0.tar.gz": b"An archive"})
    device.boot()
    world.until_state(deployment, "failed")
    deployment.refresh_from_db()
    assert deployment.message == "No suitable .swu image found"
    assert device.version() == "1.0"
