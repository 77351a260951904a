"""A disk without room and too little memory: errors that say so, and can be tried again or destroyed."""

import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from distribution import services as distribution
from distribution.models import Batch
from software.services import create_version, store_artifact
from test_environments import services
from test_environments.models import GoldenImage, TestEnvironment
from tests.agent.ci import software
from tests.hypervisor.copies import Copies
from tickets.clock import database_now

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(1500)]

State = TestEnvironment.State


class SmallDisk:
    """A file system of its own below the machines' folder, as large as the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, megabytes: int) -> None:
        self._run("mount", "-o", f"remount,size={megabytes}m", self.folder)

    def leave(self, megabytes: int) -> None:
        """So much is free."""
        found = os.statvfs(self.folder)
        self.resize((found.f_blocks - found.f_bfree) * found.f_frsize // 2**20 + 1 + megabytes)

    def mount(self) -> None:
        """What is in the folder stays in it."""
        held = self.folder.with_name("held")
        self.folder.rename(held)
        self.folder.mkdir(mode=0o711)
        self._run("mount", "-t", "tmpfs", "-o", "size=1g,mode=711", "tmpfs", self.folder)
        self._run("cp", "-a", f"{held}/.", self.folder)

    def unmount(self) -> None:
        self._run("umount", "--lazy", self.folder)

    def _run(self, *command: object) -> None:
        subprocess.run([str(word) for word in command], check=True, timeout=60)


@pytest.fixture
def disk(machines_folder: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(machines_folder)
    disk.mount()
    yield disk
    disk.unmount()


def test_a_full_disk_and_too_little_memory_end_in_errors_that_say_so_and_can_be_tried_again(
    disk: SmallDisk, scene: Copies
) -> None:
    environment, host = scene.ask(), scene.host
    disk.leave(20)
    host.start()
    scene.until_state(environment, State.ERROR, State.READY)
    assert "are needed on the disk" in environment.last_error, "the image has no room"
    assert GoldenImage.objects.get().state == "error"

    disk.leave(400)
    services.retry_environment(environment, actor=scene.engineer, now=database_now())
    scene.until_state(environment, State.ERROR, State.READY)
    assert "make room" in environment.last_error, "the copy has no room"
    assert GoldenImage.objects.get().state == "ready"

    greedy = services.request_environment(
        scene.till, actor=scene.engineer, now=database_now(), image=environment.image, memory_mb=1_000_000
    )
    scene.until_state(greedy, State.ERROR, State.READY)
    assert "It needs 1000000 MB of memory" in greedy.last_error
    services.destroy_environment(greedy, actor=scene.engineer, now=database_now())

    disk.resize(1500)
    services.retry_environment(environment, actor=scene.engineer, now=database_now())
    scene.until_state(environment, State.ERROR, State.READY)
    assert environment.state == State.READY, scene.tell(environment)
    scene.until(lambda: scene.process_of(environment), environment)

    disk.leave(1)
    install(scene, environment, megabytes=3)
    scene.until_state(environment, State.ERROR)
    assert "are needed on the disk" in environment.last_error, "the running machine has no room"
    scene.until(lambda: TestEnvironment.objects.get(pk=environment.pk).observed_power == "off", environment)
    disk.resize(1500)
    services.destroy_environment(environment, actor=scene.engineer, now=database_now())
    for one in (environment, greedy):
        scene.until_state(one, State.DESTROYED)
    scene.until(scene.nothing_is_left, environment)
    assert host.end() == 0


def install(scene: Copies, environment: TestEnvironment, *, megabytes: int) -> None:
    """A package of this size, on its way to the copy."""
    now = database_now()
    version = create_version(scene.product, actor=scene.engineer, now=now, label="2.0")
    content = io.BytesIO(software("billing", "2.0", size=megabytes * 2**20))
    store_artifact(version, actor=scene.engineer, now=now, filename="billing.tar.gz", stream=content)
    batch = distribution.create_batch(label="REL-0000002", purpose=Batch.Purpose.TEST, now=now)
    package = [(version.product_id, version.pk, 1)]
    distribution.queue_deployments(batch, ci_ids=[environment.copy_id], package=package, fresh=None, now=now)
    distribution.open_batch(batch, now=now)
