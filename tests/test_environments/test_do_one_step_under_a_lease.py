"""Jobs of the test host inside this process: whose result counts, and what an interruption leaves."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cmdb.models import AgentToken, ConfigurationItem
from test_environments import services
from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Interrupted, Unavailable
from test_environments.drivers.file_copy.driver import FileCopy
from test_environments.drivers.interface import (
    Capabilities,
    CreateOrder,
    Driver,
    IsolationProof,
    NetworkMode,
    Observation,
    Power,
    Probe,
)
from test_environments.drivers.registry import open_drivers
from test_environments.models import CopySource, EnvironmentEvent, GoldenImage, TestEnvironment
from test_environments.runner.environment_jobs import EnvironmentJob, task_of
from test_environments.runner.image_jobs import ImageJob
from test_environments.runner.jobs import LeaseLost, TryAgain, claim
from tests.factories import make_ci
from tests.test_environments.processes import SLEEPER
from tickets.clock import database_now
from tickets.exceptions import TransitionRefused

pytestmark = pytest.mark.django_db

State = TestEnvironment.State


@pytest.fixture
def driver(copies: Path, tmp_path: Path, settings) -> Iterator[Driver]:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    settings.TEST_ENVIRONMENT_DRIVERS["file_copy"]["options"]["agent"] = str(tmp_path / "sleeper.py")
    driver = open_drivers(print)["file_copy"]
    yield driver
    driver.close()
    settings.TEST_ENVIRONMENT_DRIVERS["file_copy"]["options"]["agent"] = ""


@pytest.fixture
def environment(copies: Path, db) -> TestEnvironment:
    ci = make_ci("till-7", agent_id="till-7")
    CopySource.objects.create(ci=ci, folder="till-7")
    return services.request_environment(ci, actor=None, now=database_now())


def image_job(environment: TestEnvironment, driver: Driver, task: str = "capture") -> ImageJob:
    image = GoldenImage.objects.get(pk=environment.image_id)
    return ImageJob(image, task, claim(image, task, now=database_now()), driver)


def claimed(environment: TestEnvironment, driver: Driver, task: str = "make") -> EnvironmentJob:
    """A job for the environment; its image is taken before."""
    if GoldenImage.objects.get(pk=environment.image_id).state == GoldenImage.State.APPROVED:
        image_job(environment, driver).run()
        services.advance_test_environments(now=database_now())
    environment.refresh_from_db()
    assert task_of(environment, None) == task
    job = EnvironmentJob(environment, task, claim(environment, task, now=database_now()), driver)
    environment.refresh_from_db()
    return job


def left_on(copies: Path) -> list[str]:
    return sorted(path.parent.name for path in copies.glob("*/*/*"))


def test_a_finished_job_lets_go_of_the_row_and_wants_the_agent(environment, driver):
    claimed(environment, driver).run()
    environment.refresh_from_db()
    assert (environment.state, environment.is_wanted_running, environment.lease) == ("provisioning", True, None)
    assert (environment.task, environment.task_deadline, environment.evidence) == ("", None, "file_copy")


def test_task_and_deadline_are_written_before_the_driver_is_called(environment, driver):
    claimed(environment, driver)
    assert environment.task == "make"
    assert environment.task_deadline - environment.task_started_at == timedelta(hours=1)


def test_evidence_is_unknown_until_a_start_has_shown_it(environment, driver):
    assert environment.evidence == ""
    claimed(environment, driver)
    assert environment.evidence == ""


def test_what_a_copy_said_before_it_was_made_again_is_forgotten(environment, driver):
    said = {"attributes": {"version.billing": "0.8"}, "attributes_at": database_now(), "attributes_wanted": False}
    job = claimed(environment, driver)
    ConfigurationItem.objects.filter(pk=environment.copy_id).update(**said)
    job.run()
    copy = ConfigurationItem.objects.get(pk=environment.copy_id)
    assert (copy.attributes, copy.attributes_at, copy.attributes_wanted) == ({}, None, True)
    assert services.advance_test_environments(now=database_now()) == 0


def test_a_request_is_claimed_once(environment, driver):
    image_job(environment, driver).run()
    services.advance_test_environments(now=database_now())
    rival = TestEnvironment.objects.get()
    claimed(environment, driver)
    with pytest.raises(TransitionRefused):
        claim(rival, "make", now=database_now())


def test_work_of_a_dead_host_is_claimed_once(environment, driver):
    claimed(environment, driver)
    rival = TestEnvironment.objects.get()
    claimed(environment, driver)
    with pytest.raises(TransitionRefused):
        claim(rival, "make", now=database_now())


def test_a_job_whose_lease_was_taken_changes_nothing(environment, driver):
    first, second = claimed(environment, driver), claimed(environment, driver)
    with pytest.raises(LeaseLost):
        first.run()
    second.run()
    assert AgentToken.objects.count() == 1


def test_what_runs_but_was_never_written_down_is_started_again_and_keeps_its_label(environment, driver):
    claimed(environment, driver).run()
    TestEnvironment.objects.update(lease=uuid4(), evidence="")  # a machine outlives the host that is killed here
    environment.refresh_from_db()
    runs = Observation(Power.RUNNING)
    assert task_of(environment, runs) == "start"
    EnvironmentJob(environment, "start", claim(environment, "start", now=database_now()), driver).run()
    environment.refresh_from_db()
    assert (environment.lease, environment.evidence) == (None, "file_copy")
    assert task_of(environment, runs) == ""


def test_a_copy_that_is_destroyed_while_it_is_made_never_starts(environment, driver, copies):
    job = claimed(environment, driver)
    job.bound.check = lambda: services.destroy_environment(environment, actor=None, now=database_now())
    with pytest.raises(LeaseLost):
        job.run()
    environment.refresh_from_db()
    assert (environment.state, environment.is_wanted_running) == (State.DESTROYING, False)
    assert not AgentToken.objects.exists()
    claimed(environment, driver, "destroy").run()
    assert TestEnvironment.objects.get().state == State.DESTROYED
    image_job(environment, driver, "delete").run()
    assert GoldenImage.objects.get().state == GoldenImage.State.DELETED
    assert left_on(copies) == []


def test_a_job_that_is_told_to_stop_leaves_the_row_for_the_next_host(environment, driver, copies):
    job = claimed(environment, driver)
    job.stop.set()
    with pytest.raises(Interrupted):
        job.run()
    assert left_on(copies) == ["images"]
    job.give_back()
    environment.refresh_from_db()
    assert (environment.state, environment.lease, environment.task) == (State.PROVISIONING, None, "")
    claimed(environment, driver).run()
    assert TestEnvironment.objects.get().is_wanted_running


def test_a_failed_capture_is_the_environments_error_too_and_both_are_tried_again(environment, driver, copies):
    link = copies.parent / "fleet" / "till-7" / "billing" / "versions" / "1.0" / "secret"
    link.symlink_to("/etc/shadow")
    image_job(environment, driver).run()
    assert services.advance_test_environments(now=database_now()) == 1
    environment.refresh_from_db()
    assert (environment.state, environment.error_from) == (State.ERROR, State.REQUESTED)
    assert "leads out" in environment.last_error
    assert left_on(copies) == []
    link.unlink()
    services.retry_environment(environment, actor=None, now=database_now())
    claimed(environment, driver).run()


def test_a_source_that_is_no_longer_released_is_not_captured(environment, driver):
    job = image_job(environment, driver)
    CopySource.objects.all().delete()
    job.run()
    image = GoldenImage.objects.get()
    assert (image.state, image.error_from) == ("error", "approved")
    assert "Sources of copies" in image.last_error


def test_the_image_says_what_production_was_and_what_was_taken(environment, driver):
    image_job(environment, driver).run()
    image = GoldenImage.objects.get()
    assert image.source_sha256 == image.image_sha256 != ""
    assert image.baseline == {"billing": "1.0"}
    assert image.versions == {"billing": ["0.9", "1.0"]}
    assert (image.source_snapshot["name"], image.consistency, image.approval) == ("till-7", "cold", "standing")


def test_a_disk_that_refuses_ends_in_an_error_with_the_path(environment, driver, copies):
    copies.write_text("not a folder")
    image_job(environment, driver).run()
    image = GoldenImage.objects.get()
    assert image.state == GoldenImage.State.ERROR
    assert str(copies) in image.last_error


def test_a_destruction_that_fails_can_be_tried_again(environment, driver, copies, monkeypatch):
    claimed(environment, driver).run()
    services.destroy_environment(environment, actor=None, now=database_now())
    with monkeypatch.context() as patch:
        patch.setattr("test_environments.drivers.file_copy.copying.shutil.rmtree", refuse)
        claimed(environment, driver, "destroy").run()
    environment.refresh_from_db()
    assert (environment.state, environment.error_from) == (State.ERROR, State.DESTROYING)
    services.retry_environment(environment, actor=None, now=database_now())
    claimed(environment, driver, "destroy").run()
    assert TestEnvironment.objects.get().state == State.DESTROYED
    assert left_on(copies) == ["images"]


def refuse(path: Path) -> None:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_driver_out_of_reach_is_waited_for_but_not_for_ever(environment, driver, monkeypatch):
    def away(*_: object) -> None:
        raise Unavailable("The hypervisor does not answer.")

    job = claimed(environment, driver)
    monkeypatch.setattr(driver, "create", away)
    with pytest.raises(TryAgain):
        job.run()
    environment.refresh_from_db()
    assert (environment.state, environment.lease) == (State.PROVISIONING, None)
    assert environment.last_error == "The hypervisor does not answer."
    TestEnvironment.objects.update(updated_at=database_now() - timedelta(minutes=11))
    claimed(environment, driver).run()
    assert TestEnvironment.objects.get().state == State.ERROR


def test_more_than_the_disk_gives_is_refused_before_anything_is_made(environment, driver, copies):
    TestEnvironment.objects.update(disk_growth_mb=2**31 - 1)
    claimed(environment, driver).run()
    environment.refresh_from_db()
    assert environment.state == State.ERROR
    assert "MB are free" in environment.last_error
    assert left_on(copies) == ["images"]


class ClosedCopies(FileCopy):
    """Copies of files that claim a network of their own; `leaks` is what a probe finds."""

    leaks = False

    def capabilities(self, bound: Bound) -> Capabilities:
        return replace(super().capabilities(bound), can_probe=True)

    def create(self, order: CreateOrder, bound: Bound) -> None:
        super().create(replace(order, network=NetworkMode.HOST), bound)

    def probe(self, environment: UUID, bound: Bound) -> IsolationProof:
        return IsolationProof((Probe("10.0.2.2:80", True, True), Probe("10.0.2.3:53", self.leaks, False)))


@pytest.mark.parametrize("leaks", [False, True])
def test_a_machine_whose_isolation_does_not_hold_never_starts(environment, driver, leaks):
    closed = ClosedCopies(driver._work_folder, portal=driver._portal, options={"sources": driver._sources}, say=print)
    closed._agents, closed.leaks = driver._agents, leaks
    TestEnvironment.objects.update(network="isolated")
    job = claimed(environment, driver)
    job.driver = closed
    job.run()
    environment.refresh_from_db()
    assert environment.isolation["holds"] is not leaks
    assert environment.is_wanted_running is not leaks
    assert (driver.observe(environment.uuid, Bound(60)).power is Power.OFF) is leaks
    assert ("10.0.2.3:53" in environment.last_error) is leaks


def test_a_snapshot_is_kept_and_gone_back_to_with_a_new_identity(environment, driver, copies):
    claimed(environment, driver).run()
    tell_ready(environment)
    root = copies / "file_copy" / "environments" / str(environment.uuid) / "root"
    (root / "billing" / "note.txt").write_text("first")
    services.snapshot_environment(environment, actor=None, now=database_now(), name="before 2.0")
    claimed(environment, driver, "snapshot").run()
    tell_ready(environment)
    (root / "billing" / "note.txt").write_text("second")
    token = (root.parent / "token").read_text()
    services.revert_environment(environment, actor=None, now=database_now(), snapshot="before 2.0")
    claimed(environment, driver, "revert").run()
    environment.refresh_from_db()
    assert (environment.state, environment.is_wanted_running) == (State.PROVISIONING, True)
    assert (root / "billing" / "note.txt").read_text() == "first"
    assert (root.parent / "token").read_text() != token
    assert AgentToken.objects.filter(revoked_at=None).count() == 1


def tell_ready(environment: TestEnvironment) -> None:
    ConfigurationItem.objects.filter(pk=environment.copy_id).update(attributes_at=database_now())
    services.advance_test_environments(now=database_now())
    environment.refresh_from_db()
    assert environment.state == State.READY


def test_what_happened_is_told_in_order(environment, driver):
    claimed(environment, driver).run()
    texts = list(EnvironmentEvent.objects.filter(environment=environment).order_by("pk").values_list("text", flat=True))
    assert texts == [f"Asked for, of image {environment.image}.", "Started: file copy."]


def test_a_lease_is_renewed_in_its_second_half_only(environment, driver):
    job = claimed(environment, driver)
    now = environment.leased_until - timedelta(seconds=30)
    with CaptureQueriesContext(connection) as queries:
        assert job.renew(now=now)
    assert len(queries) == 1
    assert job.renew(now=now + timedelta(seconds=20))
    environment.refresh_from_db()
    assert environment.leased_until == now + timedelta(seconds=50)


def test_a_lost_lease_is_not_renewed(environment, driver):
    job = claimed(environment, driver)
    claimed(environment, driver)
    assert not job.renew(now=database_now() + timedelta(seconds=20))
