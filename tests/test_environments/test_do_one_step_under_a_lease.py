"""Jobs of the test host inside this process: whose result counts, and what an interruption leaves."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cmdb.models import AgentToken, ConfigurationItem
from test_environments import services
from test_environments.drivers.errors import Interrupted
from test_environments.jobs import Job, LeaseLost, claim, renew
from test_environments.models import CopySource, TestEnvironment
from tests.factories import make_ci
from tests.test_environments.source import install
from tickets.clock import database_now
from tickets.exceptions import TransitionRefused

pytestmark = pytest.mark.django_db

State = TestEnvironment.State


@pytest.fixture
def environment(copies: Path, db) -> TestEnvironment:
    ci = make_ci("till-7", agent_id="till-7")
    CopySource.objects.create(ci=ci, folder="till-7")
    return services.request_environment(ci, actor=None, now=database_now())


def claimed(environment: TestEnvironment) -> Job:
    job = Job(environment.pk, claim(environment, now=database_now()))
    environment.refresh_from_db()
    return job


def test_a_finished_job_lets_go_of_the_row_and_wants_the_agent(environment):
    claimed(environment).run()
    environment.refresh_from_db()
    assert (environment.state, environment.is_wanted_running, environment.lease) == ("provisioning", True, None)


def test_what_a_copy_said_before_it_was_made_again_is_forgotten(environment):
    said = {"attributes": {"version.billing": "0.8"}, "attributes_at": database_now(), "attributes_wanted": False}
    ConfigurationItem.objects.filter(pk=environment.copy_id).update(**said)
    claimed(environment).run()
    copy = ConfigurationItem.objects.get(pk=environment.copy_id)
    assert (copy.attributes, copy.attributes_at, copy.attributes_wanted) == ({}, None, True)
    assert services.advance_test_environments(now=database_now()) == 0


def test_a_request_is_claimed_once(environment):
    rival = TestEnvironment.objects.get()
    claimed(environment)
    with pytest.raises(TransitionRefused):
        claim(rival, now=database_now())


def test_work_of_a_dead_host_is_claimed_once(environment):
    claimed(environment)
    rival = TestEnvironment.objects.get()
    claimed(environment)
    with pytest.raises(TransitionRefused):
        claim(rival, now=database_now())


def test_a_job_whose_lease_was_taken_changes_nothing(environment):
    first, second = claimed(environment), claimed(environment)
    with pytest.raises(LeaseLost):
        first.run()
    second.run()
    assert AgentToken.objects.count() == 1


def test_a_copy_that_is_destroyed_while_it_is_made_never_starts(environment, copies):
    job = claimed(environment)
    job.check = lambda: services.destroy_environment(environment, actor=None, now=database_now())
    with pytest.raises(LeaseLost):
        job.run()
    environment.refresh_from_db()
    assert (environment.state, environment.is_wanted_running) == (State.DESTROYING, False)
    assert not AgentToken.objects.exists()
    claimed(environment).run()
    environment.refresh_from_db()
    assert environment.state == State.DESTROYED
    assert os.listdir(copies) == []


def test_a_job_that_is_told_to_stop_leaves_the_row_for_the_next_host(environment, copies):
    job = claimed(environment)
    job.stop.set()
    with pytest.raises(Interrupted):
        job.run()
    assert os.listdir(copies) == []
    job.give_back()
    environment.refresh_from_db()
    assert (environment.state, environment.lease) == (State.PROVISIONING, None)
    claimed(environment).run()
    environment.refresh_from_db()
    assert environment.is_wanted_running


def test_a_source_that_is_updated_once_is_copied_again(environment, copies):
    job = claimed(environment)
    updates = iter([lambda: install(copies.parent / "fleet" / "till-7", "billing", "1.1")])
    job.check = lambda: next(updates, lambda: None)()
    job.run()
    environment.refresh_from_db()
    assert environment.baseline == {"billing": "1.1"}
    assert (copies / str(environment.pk) / "root" / "billing" / "current").readlink() == Path("versions/1.1")


def test_a_source_that_never_rests_ends_in_an_error(environment, copies):
    job = claimed(environment)
    tries = []

    def update_once_a_try() -> None:
        if os.listdir(copies / f".new-{environment.pk}" / "root") == []:
            tries.append(1)
            install(copies.parent / "fleet" / "till-7", "billing", f"2.{len(tries)}")

    job.check = update_once_a_try
    job.run()
    assert len(tries) == 3
    environment.refresh_from_db()
    assert (environment.state, environment.error_from) == (State.ERROR, State.PROVISIONING)
    assert "try again" in environment.last_error
    assert os.listdir(copies) == []


def test_a_disk_that_refuses_ends_in_an_error_with_the_path(environment, copies):
    copies.write_text("not a folder")
    claimed(environment).run()
    environment.refresh_from_db()
    assert environment.state == State.ERROR
    assert str(copies) in environment.last_error


def test_a_destruction_that_fails_can_be_tried_again(environment, copies, monkeypatch):
    claimed(environment).run()
    services.destroy_environment(environment, actor=None, now=database_now())
    with monkeypatch.context() as patch:
        patch.setattr("test_environments.drivers.file_copy.copying.shutil.rmtree", refuse)
        claimed(environment).run()
    environment.refresh_from_db()
    assert (environment.state, environment.error_from) == (State.ERROR, State.DESTROYING)
    services.retry_environment(environment, actor=None, now=database_now())
    claimed(environment).run()
    assert TestEnvironment.objects.get().state == State.DESTROYED
    assert os.listdir(copies) == []


def refuse(path: Path) -> None:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_lease_is_renewed_in_its_second_half_only(environment):
    job = claimed(environment)
    now = environment.leased_until - timedelta(seconds=30)
    with CaptureQueriesContext(connection) as queries:
        assert renew(environment.pk, job.lease, now=now)
    assert len(queries) == 1
    assert renew(environment.pk, job.lease, now=now + timedelta(seconds=20))
    environment.refresh_from_db()
    assert environment.leased_until == now + timedelta(seconds=50)


def test_a_lost_lease_is_not_renewed(environment):
    job = claimed(environment)
    claimed(environment)
    assert not renew(environment.pk, job.lease, now=database_now() + timedelta(seconds=20))
