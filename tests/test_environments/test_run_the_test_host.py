"""The test host as a real process with real agents: it makes, runs and removes copies, whatever kills it."""

import json
import os
import signal
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection

from cmdb.models import AgentToken, ConfigurationItem, InstalledVersion
from test_environments import services
from test_environments.failpoint import DESTROYING, KEEPING, MAKING, REVERTING
from test_environments.models import CopySource, EnvironmentSnapshot, GoldenImage, TestEnvironment
from tests.factories import make_product
from tests.test_environments.conftest import pid_of, request, state_of, until, until_runs, until_state
from tests.test_environments.source import tree
from tickets.clock import database_now

pytestmark = pytest.mark.django_db(transaction=True)

State = TestEnvironment.State


def left_of(environment: TestEnvironment) -> list[str]:
    return [f"environments/{environment.uuid}", f"images/{environment.image.uuid}"]


def test_two_older_versions_run_in_parallel_copies_and_nothing_is_left_of_them(host, till):
    make_product("billing")
    older, current = request(till, billing="0.9"), request(till)
    host.start()
    until_state(host, older, State.READY)
    until_state(host, current, State.READY)

    running = {e: (host.folder_of(e) / "root/billing/current/app.txt").read_text() for e in (older, current)}
    assert running == {older: "billing 0.9", current: "billing 1.0"}
    reported = {i.ci_id: i.label for i in InstalledVersion.objects.filter(valid_to=None)}
    assert reported == {older.copy_id: "0.9", current.copy_id: "1.0"}
    assert older.copy.attributes["site"] == "Kiel"
    assert older.baseline == current.baseline == {"billing": "1.0"}
    assert len(host.agents()) == 2
    until(lambda: set(host.agents()) == {pid_of(older), pid_of(current)}, say=host.says)
    assert list(ConfigurationItem.objects.production()) == [till]

    config = json.loads((host.folder_of(older) / "agent.json").read_text())
    assert config["controller_id"] == older.copy.agent_id
    assert (host.folder_of(older) / "token").stat().st_mode & 0o777 == 0o600

    for environment in (older, current):
        services.destroy_environment(environment, actor=None, now=database_now())
    until_state(host, older, State.DESTROYED)
    until_state(host, current, State.DESTROYED)
    assert host.agents() == []
    until(lambda: host.leftovers() == [], say=host.says)
    assert older.destroyed_at is not None
    assert tree(host.folder / "fleet" / "till-7")["billing/current"] == "-> versions/1.0"
    assert host.end() == 0


@pytest.mark.slow
def test_a_stopped_host_takes_its_agents_along_and_the_next_one_starts_them_again(host, till):
    environment = request(till)
    host.start()
    first = until_runs(host, environment)

    assert host.end() == 0
    assert host.agents() == []
    environment.refresh_from_db()
    assert (environment.state, environment.observed_pid) == (State.READY, None)

    host.start()
    until(lambda: host.agents(), say=host.says)
    until(lambda: TestEnvironment.objects.get().observed_pid, say=host.says)
    assert host.agents() == [TestEnvironment.objects.get().observed_pid] != [first]


@pytest.mark.slow
def test_a_killed_host_takes_its_agents_along_too(host, till):
    environment = request(till)
    host.start()
    until_state(host, environment, State.READY)
    host.end(signal.SIGKILL)
    until(lambda: not host.agents())
    host.start()
    until(lambda: host.agents(), say=host.says)


@pytest.mark.slow
def test_a_killed_agent_is_started_again(host, till):
    environment = request(till)
    host.start()
    os.kill(until_runs(host, environment), signal.SIGKILL)
    until(lambda: TestEnvironment.objects.get().observed_pid not in (None, environment.observed_pid), say=host.says)
    assert state_of(environment) == State.READY


@pytest.mark.slow
def test_a_host_killed_twice_is_followed_by_one_that_finishes_both(host, till):
    environment = request(till)
    host.start(failpoint="token_written")
    assert host.wait() == -signal.SIGKILL, host.says()
    host.start(failpoint="moved_away")
    until_state(host, environment, State.READY)
    services.destroy_environment(environment, actor=None, now=database_now())
    assert host.wait() == -signal.SIGKILL, host.says()
    host.start()
    until_state(host, environment, State.DESTROYED)
    until(lambda: host.leftovers() == [], say=host.says)


@pytest.mark.slow
@pytest.mark.parametrize("point", MAKING)
def test_a_host_killed_while_it_makes_a_copy_is_followed_by_one_that_finishes_it(host, till, point):
    environment = request(till)
    host.start(failpoint=point)
    assert host.wait() == -signal.SIGKILL, host.says()
    until(lambda: not host.agents())

    host.start()
    until_state(host, environment, State.READY)
    until(lambda: TestEnvironment.objects.get().evidence == "file_copy", say=host.says)
    assert host.leftovers() == left_of(environment)
    copy = tree(host.folder_of(environment) / "root")
    assert {k: v for k, v in copy.items() if ".agent" not in k} == tree(host.folder / "fleet" / "till-7")
    assert AgentToken.objects.filter(ci=environment.copy, revoked_at=None).count() == 1
    assert len(host.agents()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("point", DESTROYING)
def test_a_host_killed_while_it_destroys_a_copy_is_followed_by_one_that_finishes_it(host, till, point):
    environment = request(till)
    host.start(failpoint=point)
    until_state(host, environment, State.READY)
    services.destroy_environment(environment, actor=None, now=database_now())
    assert host.wait() == -signal.SIGKILL, host.says()

    host.start()
    until_state(host, environment, State.DESTROYED)
    until(lambda: host.leftovers() == [], say=host.says)
    assert host.agents() == []


@pytest.mark.slow
@pytest.mark.parametrize("point", [*KEEPING, *REVERTING])
def test_a_host_killed_while_it_keeps_or_brings_back_a_state_is_followed_by_one_that_finishes_it(host, till, point):
    environment = request(till)
    host.start(failpoint=point)
    until_state(host, environment, State.READY)
    note = host.folder_of(environment) / "root" / "billing" / "note.txt"
    note.write_text("first")
    services.snapshot_environment(environment, actor=None, now=database_now(), name="first")
    if point in KEEPING:
        assert host.wait() == -signal.SIGKILL, host.says()
        host.start()
    until(lambda: EnvironmentSnapshot.objects.get().kept_at, say=host.says)
    until_state(host, environment, State.READY)
    note.write_text("second")
    services.revert_environment(environment, actor=None, now=database_now(), snapshot="first")
    if point in REVERTING:
        assert host.wait() == -signal.SIGKILL, host.says()
        host.start()
    until_state(host, environment, State.READY)
    assert note.read_text() == "first"
    assert AgentToken.objects.filter(ci=environment.copy, revoked_at=None).count() == 1
    assert host.leftovers() == left_of(environment)


@pytest.mark.slow
def test_what_no_row_speaks_of_is_removed_and_what_one_speaks_of_stays(host, till, tmp_path):
    environment = request(till)
    host.start()
    until_state(host, environment, State.READY)
    host.end()
    for kind in ("environments", "images"):
        (host.copies / "file_copy" / kind / str(uuid4())).mkdir()
        (host.copies / "file_copy" / kind / f".new-{uuid4()}").mkdir()
    host.start()
    until(lambda: host.leftovers() == left_of(environment), say=lambda: f"{host.leftovers()}: {host.says()}")
    assert state_of(environment) == State.READY


@pytest.mark.slow
def test_an_environment_whose_lease_for_running_ended_is_off_and_can_be_started_again(host, till):
    environment = request(till)
    host.start()
    until_state(host, environment, State.READY)
    TestEnvironment.objects.update(stop_at=database_now() - timedelta(seconds=1))
    until(lambda: not host.agents(), say=host.says)
    until(lambda: TestEnvironment.objects.get().observed_power == "off", say=host.says)
    assert state_of(environment) == State.READY
    services.start_environment(environment, actor=None, now=database_now())
    until(host.agents, say=host.says)


@pytest.mark.slow
def test_an_environment_whose_lease_ended_is_destroyed_and_its_image_with_it(host, till):
    environment = request(till)
    host.start()
    until_state(host, environment, State.READY)
    TestEnvironment.objects.update(stop_at=None, delete_at=database_now() - timedelta(seconds=1))
    until_state(host, environment, State.DESTROYED)
    until(lambda: GoldenImage.objects.get().state == "deleted", say=host.says)
    assert host.leftovers() == []


@pytest.mark.slow
def test_a_driver_that_is_not_set_up_is_refused_and_replaced_by_no_other(host, till):
    environment = request(till)
    GoldenImage.objects.update(driver="libvirt")
    TestEnvironment.objects.update(driver="libvirt")
    host.start()
    until_state(host, environment, State.ERROR)
    assert "libvirt" in environment.last_error
    assert host.leftovers() == []


@pytest.mark.slow
def test_a_host_that_never_comes_back_ends_in_an_error_that_offers_a_retry(host, till):
    environment = request(till)
    host.start(failpoint="copied")
    assert host.wait() == -signal.SIGKILL, host.says()
    services.advance_test_environments(now=database_now() + timedelta(minutes=6))
    environment.refresh_from_db()
    assert (environment.state, environment.error_from) == (State.ERROR, State.PROVISIONING)

    host.start()
    services.retry_environment(environment, actor=None, now=database_now())
    until_state(host, environment, State.READY)
    assert host.leftovers() == left_of(environment)


@pytest.mark.slow
def test_a_failed_copy_can_be_retried_or_destroyed(host, till):
    link = host.folder / "fleet" / "till-7" / "billing" / "versions" / "1.0" / "secret"
    link.symlink_to("/etc/shadow")
    environment = request(till)
    host.start()
    until_state(host, environment, State.ERROR)
    assert "leads out" in environment.last_error
    assert host.leftovers() == []

    link.unlink()
    services.retry_environment(environment, actor=None, now=database_now())
    until_state(host, environment, State.READY)
    services.destroy_environment(environment, actor=None, now=database_now())
    until_state(host, environment, State.DESTROYED)


@pytest.mark.slow
def test_a_copy_begins_again_with_a_new_identity_and_forgets_what_it_ran(host, till):
    environment = request(till)
    host.start()
    until_state(host, environment, State.READY)
    InstalledVersion.objects.create(
        ci=environment.copy, product=make_product("billing"), label="2.0", valid_from=database_now()
    )
    token = (host.folder_of(environment) / "token").read_text()
    services.fail_environment(environment, now=database_now(), text="spoilt")
    services.retry_environment(environment, actor=None, now=database_now())
    until_state(host, environment, State.READY)
    assert (host.folder_of(environment) / "token").read_text() != token
    assert AgentToken.objects.filter(ci=environment.copy, revoked_at=None).count() == 1
    assert not InstalledVersion.objects.filter(ci=environment.copy, label="2.0", valid_to=None).exists()


@pytest.mark.slow
def test_a_source_that_is_no_longer_released_is_not_copied(host, till):
    environment = request(till)
    CopySource.objects.all().delete()
    host.start()
    until_state(host, environment, State.ERROR)
    assert "Sources of copies" in environment.last_error


@pytest.mark.slow
def test_a_second_host_says_so_and_goes(host, till):
    first = host.start()
    until(lambda: "ready" in host.says())
    second = host.start("--wait", "0")
    assert second.wait(60) == 1
    assert "Another test host runs" in host.says()
    assert first.poll() is None
    first.terminate()
    assert first.wait(60) == 0


@pytest.mark.slow
def test_a_host_that_lost_its_connections_goes_on(host, till):
    host.start()
    until(services.is_host_running, say=host.says)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    environment = request(till)
    until_state(host, environment, State.READY)
    assert services.is_host_running()


@pytest.mark.slow
def test_a_quiet_host_writes_nothing(host, till):
    environment = request(till)
    host.start()
    until_runs(host, environment)
    until_turns(2)
    before = row_versions()
    until_turns(3)
    assert row_versions() == before


def row_versions() -> list[tuple[str, str]]:
    """The row versions of the tables that only the host writes."""
    found = []
    with connection.cursor() as cursor:
        for model in (TestEnvironment, AgentToken, InstalledVersion):
            cursor.execute(f"SELECT '{model.__name__}', xmin::text FROM {model._meta.db_table} ORDER BY 2")
            found += cursor.fetchall()
    return found


def until_turns(turns: int) -> None:
    """Waits for the host's next turns: each looks at its lock once."""
    seen = {last_look()}
    until(lambda: len(seen) > turns or seen.add(last_look()))


def last_look() -> object:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT query_start FROM pg_stat_activity WHERE pid ="
            " (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s::bigint::oid"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
            [services.HOST_LOCK & 0xFFFF_FFFF],
        )
        return cursor.fetchone()
