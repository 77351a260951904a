"""Workers that die, leases that run out, cancels in mid play: a probe decides, and nothing is installed twice."""

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction

from cmdb.models import ConfigurationItem
from distribution.channels.ansible.claims import LeaseLost, advance_push, claim
from distribution.channels.ansible.events import MAX_RUNS
from distribution.channels.ansible.models import PushRun, PushTarget
from distribution.channels.ansible.processes import processes_of
from distribution.channels.ansible.worker import carry_out, push_once
from distribution.models import DeploymentEvent
from distribution.services import cancel_open
from releases.invariants import check_invariants
from software.models import Product, Version
from tests.distribution.fleet import history, make_batch, queue, state
from tests.distribution.invariants import check_deployments
from tests.push.conftest import MakeHost, claimed, needs_ansible, running, software, stored, wait_until
from tickets.clock import database_now

pytestmark = [pytest.mark.slow, needs_ansible, pytest.mark.timeout(400)]

# Waits as long as the host's file `hold` is there, and says that it does.
WAITING = """
import os, pathlib, time
root = pathlib.Path(os.environ["AGENT_CI_ROOT"])
(root / "reached").touch()
while (root / "hold").exists():
    time.sleep(0.05)
"""


@pytest.fixture
def slow(billing: Product, old: Version) -> Version:
    """Billing 2.0, whose health check takes as long as its host wants."""
    return stored(billing, "2.0", software("billing", "2.0", ["python3", "-c", WAITING], timeout=300))


def root_of(ci: ConfigurationItem) -> Path:
    return Path(ci.connection.folder)


def hold(ci: ConfigurationItem) -> None:
    (root_of(ci) / "hold").touch()


def let_go(ci: ConfigurationItem) -> None:
    (root_of(ci) / "hold").unlink()


def is_reached(ci: ConfigurationItem) -> bool:
    return (root_of(ci) / "reached").exists()


def lose_leases() -> None:
    """As if every worker had been silent for too long: the tick ends their runs."""
    with transaction.atomic():
        now = database_now()
        PushRun.objects.filter(ended_at=None).update(leased_until=now - timedelta(seconds=1))
        assert advance_push(now=now) == 1


def worker(settings: Any) -> "subprocess.Popen[bytes]":
    """A worker in a process of its own, on the test's database."""
    code = "import django; django.setup(); from distribution.channels.ansible.worker import push_once; push_once()"
    server, _slash, _name = os.environ["DATABASE_URL"].rpartition("/")
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "itsm_portal.settings",
        "DATABASE_URL": f"{server}/{connection.settings_dict['NAME']}",
        "MEDIA_ROOT": str(settings.MEDIA_ROOT),
        "PUSH_FOLDER": str(settings.PUSH_FOLDER),
    }
    return subprocess.Popen([sys.executable, "-c", code], env=environment)


def beside(action: Any) -> threading.Thread:
    """Runs the action in a thread with a database connection of its own."""

    def run() -> None:
        try:
            action()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def kill_in_mid_play(ci: ConfigurationItem, settings: Any) -> PushRun:
    """Kills a worker while the host's health check runs; returns its run."""
    hold(ci)
    process = worker(settings)
    wait_until(lambda: is_reached(ci) or process.poll() is not None)
    run = PushRun.objects.get(ended_at=None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not processes_of(run.lease.hex))
    wait_until(lambda: not list(settings.PUSH_FOLDER.iterdir()))
    return run


def test_a_killed_worker_takes_its_play_and_its_keys_along_and_a_probe_decides(
    make_host: MakeHost, slow: Version, settings
):
    ci = make_host("shop-1")
    (deployment,) = queue(make_batch(), [ci], slow)
    run = kill_in_mid_play(ci, settings)

    assert running(ci) == "2.0", "it was killed after the switch"
    assert state(deployment) == "installing"
    assert claim(now=database_now()) is None, "the lease of the dead still holds"
    lose_leases()
    run.refresh_from_db()
    assert (run.outcome, state(deployment)) == ("lost", "unknown")

    let_go(ci)
    assert push_once()

    assert PushRun.objects.latest("pk").kind == "probe"
    assert state(deployment) == "succeeded"
    assert PushRun.objects.filter(kind="install").count() == 1, "it was not installed twice"
    check_deployments()
    assert [v for v in check_invariants(files=False) if v.invariant == "I14"] == []


def test_a_probe_that_finds_the_version_sick_says_so(make_host: MakeHost, billing: Product, old: Version, settings):
    sick = [*["python3", "-c"], WAITING + "\nraise SystemExit((root / 'sick').exists())"]
    new = stored(billing, "2.0", software("billing", "2.0", sick, timeout=300))
    ci = make_host("shop-1")
    (deployment,) = queue(make_batch(), [ci], new)
    kill_in_mid_play(ci, settings)
    lose_leases()
    (root_of(ci) / "sick").touch()
    let_go(ci)

    assert push_once()

    deployment.refresh_from_db()
    assert (deployment.state, deployment.error_code) == ("failed", "health_check_failed")
    current = ci.installed_versions.get(valid_to=None)
    assert (current.label, current.is_drift) == ("2.0", False), "what runs is written down, however it ended"


def test_a_run_killed_before_the_switch_is_done_again_after_a_probe(make_host: MakeHost, new: Version):
    ci = make_host("shop-1")
    (deployment,) = queue(make_batch(), [ci], new)
    for _lost in range(MAX_RUNS - 1):
        run = claimed()
        assert run.kind == "install"
        _begin_only(run)
        assert state(deployment) == "downloading"
        lose_leases()
        assert state(deployment) == "unknown"
        assert push_once(), "the probe"
        assert state(deployment) == "offered"
        assert running(ci) == "1.0"

    assert push_once()

    assert state(deployment) == "succeeded"
    assert running(ci) == "2.0"
    assert DeploymentEvent.objects.filter(deployment=deployment, kind="offered").count() == 1
    check_deployments()


def _begin_only(run: PushRun) -> None:
    """What a worker leaves that dies right after its play began on the hosts."""
    from distribution.channels.ansible.events import Results
    from distribution.channels.ansible.run_folder import run_folder

    with run_folder(run) as folder:
        results = Results(run, folder)
        for host in folder.hosts:
            results.take({"event": "start", "task": "Leave to begin", "host": host})


def test_what_was_cancelled_while_nobody_knew_its_state_is_not_begun_anew(make_host: MakeHost, new: Version):
    ci = make_host("shop-1")
    (deployment,) = queue(make_batch(), [ci], new)
    _begin_only(claimed())
    lose_leases()
    assert state(deployment) == "unknown"
    for _again in range(2):
        cancel_open([deployment.batch_id], now=database_now(), reason="aborted")
    assert state(deployment) == "unknown", "it may have been installed: a probe says so first"
    assert push_once()
    assert PushRun.objects.latest("pk").kind == "probe"
    deployment.refresh_from_db()
    assert (deployment.state, deployment.reason) == ("cancelled", "aborted")
    assert history(deployment)[-2:] == [("engine", "unknown", "unknown"), ("push", "unknown", "cancelled")]
    assert claim(now=database_now()) is None
    assert running(ci) == "1.0"
    check_deployments()


def test_given_up_when_too_many_runs_were_lost(make_host: MakeHost, new: Version):
    ci = make_host("shop-1")
    (deployment,) = queue(make_batch(), [ci], new)
    for _lost in range(MAX_RUNS):
        _begin_only(claimed())
        lose_leases()
        assert push_once()

    deployment.refresh_from_db()
    assert (deployment.state, deployment.error_code) == ("failed", "run_lost")
    assert running(ci) == "1.0"


def test_a_run_that_lost_its_lease_gets_no_leave_and_writes_nothing(make_host: MakeHost, slow: Version, settings):
    ci = make_host("shop-1")
    (deployment,) = queue(make_batch(), [ci], slow)
    hold(ci)
    thread = beside(push_once)
    wait_until(lambda: is_reached(ci))
    lose_leases()
    assert state(deployment) == "unknown"
    events = DeploymentEvent.objects.count()

    let_go(ci)
    thread.join()

    assert state(deployment) == "unknown", "its late success was refused"
    assert DeploymentEvent.objects.count() == events
    assert not list(settings.PUSH_FOLDER.iterdir())
    assert push_once()
    assert state(deployment) == "succeeded", "the probe found out"

    (other,) = queue(make_batch("ROL-0000002"), [make_host("shop-2")], slow)
    run = claimed()
    lose_leases()
    with pytest.raises(LeaseLost):
        carry_out(run, threading.Event())
    assert state(other) == "offered", "it had not begun: the next run takes it"
    assert running(other.ci) == "1.0"


def test_a_cancel_works_between_hosts(make_host: MakeHost, slow: Version, settings):
    settings.PUSH_FORKS = 1
    first, second = make_host("shop-1"), make_host("shop-2")
    batch = make_batch()
    deployments = queue(batch, [first, second], slow)
    hold(first)
    thread = beside(push_once)
    wait_until(lambda: is_reached(first))
    cancel_open([batch.pk], now=database_now(), reason="the wrong day")
    let_go(first)
    thread.join()

    assert [state(d) for d in deployments] == ["succeeded", "cancelled"]
    assert [running(ci) for ci in (first, second)] == ["2.0", "1.0"]
    assert not (root_of(second) / "billing" / "versions" / "2.0").exists()
    assert history(deployments[1])[-2:] == [("engine", "offered", "cancelling"), ("push", "cancelling", "cancelled")]
    assert PushTarget.objects.filter(ended_at=None).count() == 0
    check_deployments()


def test_a_worker_that_is_told_to_stop_leaves_its_hosts_to_the_next(make_host: MakeHost, slow: Version, settings):
    ci = make_host("shop-1")
    (deployment,) = queue(make_batch(), [ci], slow)
    hold(ci)
    stop = threading.Event()
    thread = beside(lambda: push_once(stop))
    wait_until(lambda: is_reached(ci))
    run = PushRun.objects.get()
    stop.set()
    thread.join()
    run.refresh_from_db()

    assert (run.outcome, state(deployment)) == ("broken", "unknown")
    assert not processes_of(run.lease.hex)
    let_go(ci)
    assert push_once()
    assert state(deployment) == "succeeded"
