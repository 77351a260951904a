"""The processes of copies: real ones, with a script in the agent's place where the agent is too well-behaved."""

import os
import signal
import time
from pathlib import Path
from uuid import uuid4

import pytest

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Interrupted
from test_environments.drivers.file_copy.agents import Agents, _spawn, command, end_processes_in, is_locked
from test_environments.drivers.interface import StoppedHow
from test_environments.runner import restarts
from test_environments.runner.restarts import Restarts
from tests.test_environments.conftest import until
from tests.test_environments.processes import SLEEPER, processes_of

KEY = uuid4()

STUBBORN = """
import signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "600"], start_new_session=True)
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "copies" / "5"
    (folder / "root" / ".agent").mkdir(parents=True)
    return folder


@pytest.fixture
def agents(folder: Path, tmp_path: Path):
    agents = Agents(command(str(tmp_path / "agent.py")), print)
    yield agents
    agents.close()
    assert processes_of(folder.parent) == []


def use_script(tmp_path: Path, text: str) -> None:
    (tmp_path / "agent.py").write_text(text)


def start(agents: Agents, folder: Path) -> int:
    agents.start(KEY, folder, Bound(60))
    return agents.process_of(KEY).pid


def until_up(folder: Path) -> None:
    until(lambda: (folder / "agent.log").exists() and "up" in (folder / "agent.log").read_text())


def test_an_agent_is_started_once_and_stopped_with_all_that_it_started(agents, folder, tmp_path):
    use_script(tmp_path, STUBBORN)
    pid = start(agents, folder)
    until_up(folder)
    assert start(agents, folder) == pid
    assert len(processes_of(folder.parent)) == 2
    assert agents.stop(KEY, folder, Bound(60), grace_seconds=0.1) is StoppedHow.FORCED
    assert processes_of(folder.parent) == []
    assert agents.stop(KEY, folder, Bound(60), grace_seconds=0.1) is StoppedHow.ALREADY


def test_an_agent_that_ends_when_asked_is_not_forced(agents, folder, tmp_path):
    use_script(tmp_path, SLEEPER)
    start(agents, folder)
    until_up(folder)
    assert agents.stop(KEY, folder, Bound(60), grace_seconds=30) is StoppedHow.GRACEFUL


def test_a_closed_runner_starts_nothing_any_more(agents, folder, tmp_path):
    use_script(tmp_path, SLEEPER)
    agents.close()
    with pytest.raises(Interrupted):
        start(agents, folder)


def test_an_agent_runs_in_a_group_of_its_own_without_the_portals_secrets(agents, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "do-not-tell")
    use_script(tmp_path, SLEEPER)
    pid = start(agents, folder)
    until_up(folder)
    assert os.getpgid(pid) == pid != os.getpgid(0)
    environ = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"do-not-tell" not in environ
    assert b"DATABASE_URL" not in environ


def test_an_agent_dies_with_a_host_that_is_killed(folder, tmp_path):
    use_script(tmp_path, SLEEPER)
    host = os.fork()
    if host == 0:
        Agents(command(str(tmp_path / "agent.py")), print).start(KEY, folder, Bound(60))
        time.sleep(600)
    until_up(folder)
    assert len(processes_of(folder.parent)) == 1
    os.kill(host, signal.SIGKILL)
    os.waitpid(host, 0)
    until(lambda: not processes_of(folder.parent))


def test_a_leftover_of_a_killed_host_is_ended_before_the_agent_is_started(agents, folder, tmp_path):
    holder = (
        f"import fcntl, time\nlock = open({str(folder / 'root/.agent/lock')!r}, 'w')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\nprint('up', flush=True)\ntime.sleep(600)\n"
    )
    use_script(tmp_path, holder)
    leftover = _spawn(command(str(tmp_path / "agent.py")), folder)
    until_up(folder)
    assert is_locked(folder)
    pid = start(agents, folder)
    assert leftover.wait(10) == -signal.SIGKILL
    assert pid != leftover.pid


def test_processes_of_other_folders_are_left_alone(agents, folder, tmp_path):
    use_script(tmp_path, SLEEPER)
    start(agents, folder)
    until_up(folder)
    assert end_processes_in(folder.parent) == 0
    assert end_processes_in(folder.parent / "55") == 0
    assert len(processes_of(folder.parent)) == 1


def test_what_ends_again_and_again_is_started_after_growing_pauses_and_given_up():
    lives = Restarts()
    pauses = []
    for _ in range(restarts.DEATHS_ALLOWED):
        lives.began(5)
        lives.ended(5)
        lives.ended(5)  # seen dead twice, died once
        pauses.append(lives._lives[5].due - time.monotonic())
        assert not lives.is_due(5)
    assert pauses == pytest.approx([0.5, 1, 2, 4, 8, 16], abs=0.4)
    assert lives.is_given_up(5)
    lives.forget(5)
    assert lives.is_due(5)
    assert not lives.is_given_up(5)


def test_what_lived_long_is_forgiven(monkeypatch):
    monkeypatch.setattr(restarts, "LONG_LIFE", -1.0)
    lives = Restarts()
    for _ in range(restarts.DEATHS_ALLOWED + 1):
        lives.began(5)
        lives.ended(5)
    assert not lives.is_given_up(5)
