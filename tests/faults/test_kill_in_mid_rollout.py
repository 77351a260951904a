"""Every part of the portal is killed (`kill -9`) in mid rollout: the facts afterwards are the same as without.

Where a part is killed is no matter of luck: CIs are held in mid installation, and locks in the database stop a
transaction where it is to be cut off.
"""

import signal
from collections.abc import Iterator

import pytest

from tests.faults.facts import expected_facts, found_facts
from tests.faults.software import Host
from tests.faults.stack import NAMES, Rollout, Stack, started

_LOCK_DEPLOYMENT = """
    SELECT 1 FROM distribution_deployment d JOIN cmdb_configurationitem ci ON ci.id = d.ci_id
    WHERE ci.name = %s AND d.batch_id = %s FOR NO KEY UPDATE OF d
"""

pytestmark = pytest.mark.timeout(300)  # for busy machines: starting a part again may take ten times as long


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with started(tmp_path_factory.mktemp("faults"), "faults") as stack:
        yield stack


@pytest.fixture(autouse=True)
def nothing_stays_held(stack: Stack) -> Iterator[None]:
    """A test that failed does not bring down the next ones."""
    yield
    for host in stack.hosts.values():
        if host.is_to_be_held():
            host.let_go()


def rollout_with_held(stack: Stack, *names: str) -> tuple[Rollout, list[Host]]:
    """A rollout whose second wave is under way, with these CIs in mid installation."""
    hosts = [stack.hosts[name] for name in names]
    for host in hosts:
        host.hold()
    rollout = stack.start_rollout()
    stack.until_held(*hosts)
    assert stack.wave_of(rollout, 2) == "deploying"
    return rollout, hosts


def assert_completed(stack: Stack, rollout: Rollout) -> None:
    stack.until_settled(rollout)
    assert found_facts(stack, rollout) == expected_facts(stack, rollout)


@pytest.mark.slow
def test_kill_agents_in_mid_installation_and_in_mid_report(stack: Stack) -> None:
    """One dies between the switch and the end of its check, one while the portal writes its final report."""
    rollout, (installing, reporting) = rollout_with_held(stack, "till-3", "till-6")
    with stack.locked(_LOCK_DEPLOYMENT, reporting.name, rollout.batches[1]) as lock:
        reporting.let_go()
        stack.until("a report is being written", lambda: lock.stopped("WITH moved"))
        stack.kill(installing.name, reporting.name)
    installing.await_end_of_check()
    installing.let_go()
    assert_completed(stack, rollout)
    assert stack.log(installing.name).count(": switching\n") == 1, "it goes on where it was, it does not begin anew"


@pytest.mark.slow
def test_kill_web_in_mid_report(stack: Stack) -> None:
    """The portal dies while it writes a report; another one finds nobody who listens, then its agent dies, too."""
    rollout, (cut_off, alone) = rollout_with_held(stack, "till-2", "till-7")
    with (
        stack.left_dead(),
        stack.locked(_LOCK_DEPLOYMENT, cut_off.name, rollout.batches[1]) as lock,
    ):
        cut_off.let_go()
        stack.until("a report is being written", lambda: lock.stopped("WITH moved"))
        stack.kill("web")
        lock.release()
        alone.let_go()
        for host in (cut_off, alone):
            stack.until("a report without an answer", lambda host=host: _has_unanswered_close(host))
        # The database ends the statement that it has; nobody hears of it, and the device asks again.
        assert [stack.states(rollout)[host.name] for host in (cut_off, alone)] == ["confirming", "installing"]
        stack.kill(alone.name)
    assert_completed(stack, rollout)


def _has_unanswered_close(host: Host) -> bool:
    last = host.journal()[-1]
    return last["status"] is None and last["body"].get("status", {}).get("execution") == "closed"


@pytest.mark.slow
def test_kill_worker_while_it_opens_a_wave_and_while_agents_install(stack: Stack) -> None:
    held = stack.hosts["till-4"]
    held.hold()
    rollout = stack.start_rollout()
    stack.until("frozen", lambda: len(stack.states(rollout)) == len(NAMES))
    with stack.locked("SELECT 1 FROM distribution_batch WHERE id = %s FOR NO KEY UPDATE", rollout.batches[1]) as lock:
        stack.until("the second wave is being opened", lambda: lock.stopped("UPDATE"))
        stack.kill("worker")
        lock.release()
        assert stack.wave_of(rollout, 2) == "waiting"
    stack.until_held(held)
    with stack.left_dead():
        stack.kill("worker")
        stack.until_installed_but(rollout, held)
        held.let_go()
        stack.until("agents need no worker", lambda: set(stack.states(rollout).values()) == {"succeeded"})
    assert_completed(stack, rollout)


@pytest.mark.slow
def test_kill_beat(stack: Stack) -> None:
    rollout, (held,) = rollout_with_held(stack, "till-5")
    with stack.left_dead():
        stack.kill("beat")
        held.let_go()
        stack.until("agents need no beat", lambda: set(stack.states(rollout).values()) == {"succeeded"})
    assert_completed(stack, rollout)


@pytest.mark.slow
def test_kill_valkey(stack: Stack) -> None:
    """It comes back on the same port, with what it had written down."""
    rollout, (held,) = rollout_with_held(stack, "till-6")
    with stack.left_dead():
        stack.kill("valkey")
        held.let_go()
        stack.until("agents need no broker", lambda: set(stack.states(rollout).values()) == {"succeeded"})
    assert_completed(stack, rollout)


@pytest.mark.slow
def test_valkey_forgets_everything(stack: Stack) -> None:
    rollout, (held,) = rollout_with_held(stack, "till-7")
    stack.flush_valkey()
    held.let_go()
    assert_completed(stack, rollout)


@pytest.mark.slow
def test_kill_everything_at_once(stack: Stack) -> None:
    """Seven agents in mid installation, web, worker, beat and Valkey: as when the machine is switched off."""
    rollout, held = rollout_with_held(stack, *NAMES[1:])
    with stack.left_dead():
        stack.kill("web", "worker", "beat", "valkey", *NAMES)
        for host in held:
            host.await_end_of_check()
            host.let_go()
    assert_completed(stack, rollout)


@pytest.mark.slow
def test_advance_replaces_dead_worker_and_beat(stack: Stack) -> None:
    """`manage.py advance --loop` does all the work, from the second wave to the last mail."""
    rollout, (held,) = rollout_with_held(stack, "till-3")
    with stack.left_dead(), stack.process("advance", "--loop") as loop:
        stack.kill("worker", "beat", "valkey")
        held.let_go()
        assert_completed(stack, rollout)
        assert stack.supervisor.pid("worker") is stack.supervisor.pid("beat") is None
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(30) == 0


@pytest.mark.slow
def test_kill_worker_while_it_rolls_back(stack: Stack) -> None:
    """First while the database commits what it queued, then while CIs go back."""
    rollout, (late,) = rollout_with_held(stack, "till-4")
    back = stack.hosts["till-8"]
    stack.until_installed_but(rollout, late)
    with stack.locked("SELECT 1 FROM cmdb_configurationitem WHERE name = %s FOR UPDATE", NAMES[0]) as lock:
        stack.direct("roll_back", rollout=rollout.id)
        stack.until("the way back is being committed", lambda: lock.stopped("COMMIT"))
        stack.kill("worker")
        back.hold()
        lock.release()
    assert len(stack.states(rollout, "rollback")) == 7, "the worker is dead, its last statement is not"
    late.let_go()
    stack.until("the next worker has queued the last one", lambda: len(stack.states(rollout, "rollback")) == 8)
    stack.until_held(back)
    assert stack.states(rollout, "rollback")[back.name] == "installing"
    with stack.left_dead():
        stack.kill("worker")
        back.let_go()
        stack.until("agents need no worker", lambda: stack.states(rollout, "rollback")[back.name] == "succeeded")
    stack.until_settled(rollout)
    assert found_facts(stack, rollout) == expected_facts(stack, rollout, is_rolled_back=True)
