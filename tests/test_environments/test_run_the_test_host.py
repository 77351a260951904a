"""The test host as a real process with real agents: it makes, runs and removes copies, whatever kills it."""

import json
import os
import signal
from datetime import timedelta

import pytest
from django.db import connection

from cmdb.models import AgentToken, ConfigurationItem, InstalledVersion
from test_environments import services
from test_environments.models import CopySource, TestEnvironment
from tests.factories import make_product
from tests.test_environments.conftest import HostProcess, state_of, until
from tests.test_environments.source import tree
from tickets.clock import database_now

pytestmark = pytest.mark.django_db(transaction=True)

State = TestEnvironment.State


def request(till: ConfigurationItem, **versions: str) -> TestEnvironment:
    return services.request_environment(till, actor=None, now=database_now(), versions=versions)


def until_state(host: HostProcess, environment: TestEnvironment, state: str) -> None:
    def reached() -> bool:
        report_instead_of_the_agent(environment)
        return state_of(environment) == state

    until(reached, say=lambda: f"{state_of(environment)}: {host.says()}")
    environment.refresh_from_db()


def report_instead_of_the_agent(environment: TestEnvironment) -> None:
    wanted = TestEnvironment.objects.filter(pk=environment.pk, is_wanted_running=True).exclude(observed_pid=None)
    if wanted.exists():
        ConfigurationItem.objects.filter(pk=environment.copy_id).update(attributes_at=database_now())


def folder_of(host: HostProcess, environment: TestEnvironment):
    return host.copies / str(environment.pk)


def leftovers(host: HostProcess) -> list[str]:
    return sorted(name for name in os.listdir(host.copies) if name != ".host.lock")


def test_two_older_versions_run_in_parallel_copies_and_nothing_is_left_of_them(host, till):
    older, current = request(till, billing="0.9"), request(till)
    host.start()
    until_state(host, older, State.READY)
    until_state(host, current, State.READY)

    running = {e: (folder_of(host, e) / "root/billing/current/app.txt").read_text() for e in (older, current)}
    assert running == {older: "billing 0.9", current: "billing 1.0"}
    assert older.baseline == current.baseline == {"billing": "1.0"}
    assert len(host.agents()) == 2
    assert set(host.agents()) == {older.observed_pid, current.observed_pid}
    assert list(ConfigurationItem.objects.production()) == [till]

    config = json.loads((folder_of(host, older) / "agent.json").read_text())
    assert config["controller_id"] == older.copy.agent_id
    assert (folder_of(host, older) / "token").stat().st_mode & 0o777 == 0o600

    for environment in (older, current):
        services.destroy_environment(environment, actor=None, now=database_now())
    until_state(host, older, State.DESTROYED)
    until_state(host, current, State.DESTROYED)
    assert host.agents() == []
    assert leftovers(host) == []
    assert older.destroyed_at is not None
    assert tree(host.folder / "fleet" / "till-7")["billing/current"] == "-> versions/1.0"
    assert host.end() == 0


def test_a_stopped_host_takes_its_agents_along_and_the_next_one_starts_them_again(host, till):
    environment = request(till)
    host.start()
    until_state(host, environment, State.READY)
    first = environment.observed_pid

    assert host.end() == 0
    assert host.agents() == []
    environment.refresh_from_db()
    assert (environment.state, environment.observed_pid) == (State.READY, None)

    host.start()
    until(lambda: host.agents(), say=host.says)
    until(lambda: TestEnvironment.objects.get().observed_pid, say=host.says)
    assert host.agents() == [TestEnvironment.objects.get().observed_pid] != [first]


def test_a_killed_host_takes_its_agents_along_too(host, till):
    environment = request(till)
    host.start()
    until_state(host, environment, State.READY)
    host.end(signal.SIGKILL)
    until(lambda: not host.agents())
    host.start()
    until(lambda: host.agents(), say=host.says)


def test_a_killed_agent_is_started_again(host, till):
    environment = request(till)
    host.start()
    until_state(host, environment, State.READY)
    os.kill(environment.observed_pid, signal.SIGKILL)
    until(lambda: TestEnvironment.objects.get().observed_pid not in (None, environment.observed_pid), say=host.says)
    assert state_of(environment) == State.READY


MAKING = [
    "claimed",
    "captured",
    "provisioning",
    "copying",
    "copied",
    "token_issued",
    "token_written",
    "placed",
    "wanted",
    "started",
]


@pytest.mark.parametrize(
    "point",
    [p if p in {"copying", "token_written"} else pytest.param(p, marks=pytest.mark.slow) for p in MAKING],
)
def test_a_host_killed_while_it_makes_a_copy_is_followed_by_one_that_finishes_it(host, till, point):
    environment = request(till)
    host.start(failpoint=point)
    assert host.wait() == -signal.SIGKILL, host.says()
    until(lambda: not host.agents())

    host.start()
    until_state(host, environment, State.READY)
    assert leftovers(host) == [str(environment.pk)]
    copy = tree(folder_of(host, environment) / "root")
    assert {k: v for k, v in copy.items() if ".agent" not in k} == tree(host.folder / "fleet" / "till-7")
    assert AgentToken.objects.filter(ci=environment.copy, revoked_at=None).count() == 1
    assert len(host.agents()) == 1


@pytest.mark.parametrize(
    "point", ["moved_away", *(pytest.param(p, marks=pytest.mark.slow) for p in ("destroying", "deleted"))]
)
def test_a_host_killed_while_it_destroys_a_copy_is_followed_by_one_that_finishes_it(host, till, point):
    environment = request(till)
    host.start(failpoint=point)
    until_state(host, environment, State.READY)
    services.destroy_environment(environment, actor=None, now=database_now())
    assert host.wait() == -signal.SIGKILL, host.says()

    host.start()
    until_state(host, environment, State.DESTROYED)
    assert leftovers(host) == []
    assert host.agents() == []


def test_a_host_that_never_comes_back_ends_in_an_error_that_offers_a_retry(host, till):
    environment = request(till)
    host.start(failpoint="copying")
    assert host.wait() == -signal.SIGKILL, host.says()
    services.advance_test_environments(now=database_now() + timedelta(minutes=1))
    environment.refresh_from_db()
    assert (environment.state, environment.error_from) == (State.ERROR, State.PROVISIONING)

    host.start()
    services.retry_environment(environment, actor=None, now=database_now())
    until_state(host, environment, State.READY)
    assert leftovers(host) == [str(environment.pk)]


def test_a_failed_copy_can_be_retried_or_destroyed(host, till):
    link = host.folder / "fleet" / "till-7" / "billing" / "versions" / "1.0" / "secret"
    link.symlink_to("/etc/shadow")
    environment = request(till)
    host.start()
    until_state(host, environment, State.ERROR)
    assert "leads out" in environment.last_error
    assert leftovers(host) == []

    link.unlink()
    services.retry_environment(environment, actor=None, now=database_now())
    until_state(host, environment, State.READY)
    services.destroy_environment(environment, actor=None, now=database_now())
    until_state(host, environment, State.DESTROYED)


def test_a_copy_begins_again_with_a_new_identity_and_forgets_what_it_ran(host, till):
    environment = request(till)
    host.start()
    until_state(host, environment, State.READY)
    InstalledVersion.objects.create(
        ci=environment.copy, product=make_product("billing"), label="2.0", valid_from=database_now()
    )
    token = (folder_of(host, environment) / "token").read_text()
    services.fail_environment(environment, now=database_now(), text="spoilt")
    services.retry_environment(environment, actor=None, now=database_now())
    until_state(host, environment, State.READY)
    assert (folder_of(host, environment) / "token").read_text() != token
    assert AgentToken.objects.filter(ci=environment.copy, revoked_at=None).count() == 1
    assert not InstalledVersion.objects.filter(ci=environment.copy, label="2.0", valid_to=None).exists()


def test_a_source_that_is_no_longer_released_is_not_copied(host, till):
    environment = request(till)
    CopySource.objects.all().delete()
    host.start()
    until_state(host, environment, State.ERROR)
    assert "Sources of copies" in environment.last_error


def test_a_second_host_says_so_and_goes(host, till):
    first = host.start()
    until(lambda: "ready" in host.says())
    second = host.start("--wait", "0")
    assert second.wait(20) == 1
    assert "Another test host runs" in host.says()
    assert first.poll() is None
    first.terminate()
    assert first.wait(20) == 0


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


def test_a_quiet_host_writes_nothing(host, till):
    environment = request(till)
    host.start()
    until_state(host, environment, State.READY)
    before = written()
    turns = host_transactions()
    until(lambda: host_transactions() > turns + 3)
    assert written() == before


def written() -> list[tuple[str, str]]:
    """The row versions of the tables that a host writes."""
    found = []
    with connection.cursor() as cursor:
        for model in (TestEnvironment, ConfigurationItem, AgentToken):
            cursor.execute(f"SELECT '{model.__name__}', xmin::text FROM {model._meta.db_table} ORDER BY 2")
            found += cursor.fetchall()
    return found


def host_transactions() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
        cursor.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        return cursor.fetchone()[0]
