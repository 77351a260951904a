"""The processes of copies: real ones, with a script in the agent's place where the agent is too well-behaved."""

import os
import signal
import time
from pathlib import Path

import pytest

from test_environments import agents as module
from test_environments.agents import Agents, end_processes_in, is_locked
from tests.test_environments.conftest import processes_of, until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "copies" / "5"
    (folder / "root" / ".agent").mkdir(parents=True)
    return folder


@pytest.fixture
def agents(folder: Path):
    agents = Agents(print)
    yield agents
    agents.stop_all()
    assert processes_of(folder.parent) == []


def use_script(settings, tmp_path: Path, text: str) -> None:
    script = tmp_path / "agent.py"
    script.write_text(text)
    settings.TEST_ENVIRONMENT_AGENT = str(script)


SLEEPER = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"
STUBBORN = """
import signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "600"], start_new_session=True)
print("up", flush=True)
time.sleep(600)
"""


def until_up(folder: Path) -> None:
    until(lambda: (folder / "agent.log").exists() and "up" in (folder / "agent.log").read_text())


def test_an_agent_is_started_once_and_stopped_with_all_that_it_started(agents, folder, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STOP_SECONDS", 0.2)
    use_script(settings, tmp_path, STUBBORN)
    agents.keep_running(5, folder)
    until_up(folder)
    pid = agents.pid(5)
    agents.keep_running(5, folder)
    assert agents.pid(5) == pid
    assert len(processes_of(folder.parent)) == 2
    assert not agents.stop(5)
    until(lambda: agents.stop(5))
    assert processes_of(folder.parent) == []


def test_an_agent_runs_in_a_group_of_its_own_without_the_portals_secrets(
    agents, folder, settings, tmp_path, monkeypatch
):
    monkeypatch.setenv("SECRET_KEY", "do-not-tell")
    use_script(settings, tmp_path, SLEEPER)
    agents.keep_running(5, folder)
    until_up(folder)
    pid = agents.pid(5)
    assert os.getpgid(pid) == pid != os.getpgid(0)
    environ = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"do-not-tell" not in environ
    assert b"DATABASE_URL" not in environ


def test_an_agent_dies_with_a_host_that_is_killed(folder, settings, tmp_path):
    use_script(settings, tmp_path, SLEEPER)
    host = os.fork()
    if host == 0:
        Agents(print).keep_running(5, folder)
        time.sleep(600)
    until_up(folder)
    assert len(processes_of(folder.parent)) == 1
    os.kill(host, signal.SIGKILL)
    os.waitpid(host, 0)
    until(lambda: not processes_of(folder.parent))


def test_a_died_agent_is_started_again_after_a_delay_and_given_up_in_the_end(
    agents, folder, settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "FIRST_DELAY", 0.02)
    use_script(settings, tmp_path, "print('cannot read the config')\nraise SystemExit(4)\n")
    begun = time.monotonic()
    until(lambda: agents.keep_running(5, folder) == "\n".join(["cannot read the config"] * 5))
    assert time.monotonic() - begun >= 0.02 * (1 + 2 + 4 + 8 + 16)
    assert (folder / "agent.log").read_text().count("cannot read") == module.DEATHS_ALLOWED
    assert agents.pid(5) is None


def test_an_agent_that_lived_long_is_forgiven(agents, folder, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(module, "LONG_LIFE", 0.0)
    use_script(settings, tmp_path, SLEEPER)
    for _ in range(module.DEATHS_ALLOWED + 1):
        until(lambda: not agents.keep_running(5, folder) and agents.pid(5))
        pid = agents.pid(5)
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: not agents.keep_running(5, folder) and agents.pid(5) != pid)


def test_a_leftover_of_a_killed_host_is_ended_before_the_agent_is_started(agents, folder, settings, tmp_path):
    holder = (
        f"import fcntl, time\nlock = open({str(folder / 'root/.agent/lock')!r}, 'w')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\nprint('up', flush=True)\ntime.sleep(600)\n"
    )
    use_script(settings, tmp_path, holder)
    leftover = module._spawn(folder)
    until_up(folder)
    assert is_locked(folder)
    agents.keep_running(5, folder)
    assert agents.pid(5) is None
    assert leftover.wait(10) == -signal.SIGKILL
    until(lambda: not agents.keep_running(5, folder) and agents.pid(5))


def test_processes_of_other_folders_are_left_alone(agents, folder, settings, tmp_path):
    use_script(settings, tmp_path, SLEEPER)
    agents.keep_running(5, folder)
    until_up(folder)
    assert end_processes_in(folder.parent) == 0
    assert end_processes_in(folder.parent / "55") == 0
    assert len(processes_of(folder.parent)) == 1
