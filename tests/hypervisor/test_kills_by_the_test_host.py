"""Whatever is killed, full or over, while the test host has a machine: it goes on, or says why not; nothing is left."""

import os
import signal
from datetime import timedelta

import pytest

from cmdb.models import AgentToken, ConfigurationItem
from notifications.models import Outbox
from test_environments import services
from test_environments.models import EnvironmentSnapshot, GoldenImage, TestEnvironment
from tests.hypervisor.copies import Copies
from tests.hypervisor.guests import machines_below
from tests.test_environments.conftest import state_of
from tickets.clock import database_now
from tickets.exceptions import ConditionRefused

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(1500)]

State = TestEnvironment.State


def test_a_host_killed_in_each_state_is_followed_by_one_that_goes_on_until_the_leases_end(scene: Copies) -> None:
    environment, host = scene.ask(), scene.host
    host.start()
    scene.until(scene.has_errand, environment)  # which looks at the disk that was taken
    host.end(signal.SIGKILL)
    assert GoldenImage.objects.get().state == "capturing"
    for point in ("imaged", "copied", "token_issued"):
        host.start(failpoint=point)
        scene.until_dead()
    host.start()
    scene.until(scene.has_errand, environment)  # which writes the copy's identity
    host.end(signal.SIGKILL)
    assert state_of(environment) == State.PROVISIONING
    host.start(failpoint="running")
    scene.until_dead()
    host.start()
    scene.until_state(environment, State.READY, State.ERROR)
    assert (environment.state, environment.evidence) == (State.READY, "emulated"), scene.tell(environment)
    assert environment.isolation["holds"]
    assert AgentToken.objects.filter(ci=environment.copy, revoked_at=None).count() == 1
    assert scene.reports(environment, "1.0")

    a_machine_outlives_host_and_owner(scene, environment)
    an_image_in_use_stays(scene, environment)
    kept_and_brought_back(scene, environment)
    the_leases_end(scene, environment)
    assert list(ConfigurationItem.objects.production()) == [scene.till]
    assert host.end() == 0
    assert machines_below(scene.machines) == []


def a_machine_outlives_host_and_owner(scene: Copies, environment: TestEnvironment) -> None:
    scene.until(lambda: scene.process_of(environment), environment)
    process = scene.process_of(environment)
    scene.host.end(signal.SIGKILL)
    assert process in machines_below(scene.machines)
    scene.host.start()
    [owner] = until_owner(scene, environment, process)
    os.kill(owner, signal.SIGKILL)
    until_owner(scene, environment, process, besides=owner)
    scene.until(lambda: scene.process_of(environment) == process, environment)
    assert (state_of(environment), process in machines_below(scene.machines)) == (State.READY, True)


def until_owner(scene: Copies, environment: TestEnvironment, machine: int | None, besides: int = 0) -> list[int]:
    """Waits for the process that owns the hypervisor."""
    found: list[int] = []

    def is_there() -> bool:
        found[:] = [process for process in machines_below(scene.machines) if process not in {machine, besides}]
        return len(found) == 1

    scene.until(is_there, environment)
    return found


def an_image_in_use_stays(scene: Copies, environment: TestEnvironment) -> None:
    image = GoldenImage.objects.get(pk=environment.image_id)
    with pytest.raises(ConditionRefused, match=environment.number):
        services.delete_image(image, actor=scene.engineer, now=database_now())
    assert GoldenImage.objects.get().state == "ready"


def kept_and_brought_back(scene: Copies, environment: TestEnvironment) -> None:
    """A snapshot and going back to it, with the host killed after each."""
    restart(scene, "snapshot_kept")
    services.snapshot_environment(environment, actor=scene.engineer, now=database_now(), name="before")
    scene.until_dead()
    assert state_of(environment) == State.SNAPSHOTTING
    scene.host.start(failpoint="reverted")
    scene.until_state(environment, State.READY)
    assert EnvironmentSnapshot.objects.get().kept_at
    tokens = list(AgentToken.objects.filter(ci=environment.copy, revoked_at=None))
    services.revert_environment(environment, actor=scene.engineer, now=database_now(), snapshot="before")
    scene.until_dead()
    assert state_of(environment) == State.REVERTING
    scene.host.start()
    scene.until_state(environment, State.READY)
    [token] = AgentToken.objects.filter(ci=environment.copy, revoked_at=None)
    assert token not in tokens


def restart(scene: Copies, failpoint: str) -> None:
    assert scene.host.end() == 0
    scene.host.start(failpoint=failpoint)


def the_leases_end(scene: Copies, environment: TestEnvironment) -> None:
    """First it is stopped, in order; then it is destroyed, and its image with it. Who asked for it is told before."""
    restart(scene, "moved_away")
    TestEnvironment.objects.update(stop_at=database_now() + timedelta(seconds=3))
    scene.until(lambda: TestEnvironment.objects.get().observed_power == "off", environment)
    assert state_of(environment) == State.READY
    assert not TestEnvironment.objects.get().is_wanted_running
    assert environment.events.filter(text__startswith="Stopped (").exists(), scene.tell(environment)
    assert told(scene) == ["stop"]
    TestEnvironment.objects.update(delete_at=database_now() + timedelta(seconds=3))
    scene.until_dead()
    assert state_of(environment) == State.DESTROYING
    assert told(scene) == ["stop", "delete"]
    scene.host.start()
    scene.until_state(environment, State.DESTROYED)
    scene.until(lambda: GoldenImage.objects.get().state == "deleted", environment)
    scene.until(scene.nothing_is_left, environment)


def told(scene: Copies) -> list[str]:
    rows = Outbox.objects.filter(recipient=scene.engineer, event__startswith="environment:").order_by("pk")
    return [event.split(":")[2] for event in rows.values_list("event", flat=True)]
