"""The process supervisor, with real processes. Plain pytest; nothing here needs Django."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from itsm_portal import supervisor as module
from itsm_portal.supervisor import GaveUp, Supervisor, SupervisorError

ROOT = Path(module.__file__).parents[1]
SLEEP = ["sleep", "600"]
# a first process that ignores SIGTERM, with a child that ignores it too
STUBBORN = ["sh", "-c", "trap '' TERM; sleep 600 & echo $!; while :; do sleep 0.1; done"]


def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Waits until the condition holds; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come to hold"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody collects counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def group_of(leader: int) -> list[int]:
    """The living processes of a group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(entry.name)) == leader and alive(int(entry.name)):
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found


class Watched(Supervisor):
    """A supervisor that keeps what it says."""

    def __init__(self, log_dir: Path, **options: float) -> None:
        self.said: list[str] = []
        super().__init__(log_dir, self.said.append, **options)  # type: ignore[arg-type]

    def poll_until(self, condition: Callable[[], object]) -> None:
        def polled() -> object:
            self.poll()
            return condition()

        until(polled)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    supervisor = Watched(tmp_path, stop_seconds=1.0)
    yield supervisor
    supervisor.stop()


def running_pid(supervisor: Supervisor, name: str) -> int:
    pid = supervisor.pid(name)
    assert pid is not None
    return pid


def test_restarts_what_died_with_its_last_lines(watched: Watched, tmp_path: Path) -> None:
    code = "for i in $(seq 15); do echo line $i $GREETING; done; pwd; exec sleep 600"
    watched.add("web", ["sh", "-c", code], env={"GREETING": "hi"}, cwd=tmp_path)
    watched.start()
    until(lambda: str(tmp_path) in watched.tail("web"))
    first = running_pid(watched, "web")
    assert watched.kill("web")
    watched.poll_until(lambda: watched.pid("web") not in (None, first))
    assert len(watched.said) == 1
    head, *tail = watched.said[0].splitlines()
    assert head == "web ended: exit status -9; starting it again in 0.2 s. Its last lines:"
    assert len(tail) == 10
    assert tail[0] == "line 7 hi"
    assert tail[-1] == str(tmp_path)
    assert watched.returncode("web") == -signal.SIGKILL


def test_backoff_doubles_and_five_deaths_are_enough(tmp_path: Path) -> None:
    supervisor = Watched(tmp_path, first_delay=0.05)
    supervisor.add("good", SLEEP)
    supervisor.add("bad", ["sh", "-c", "echo no database; exit 3"])
    supervisor.start()
    good = running_pid(supervisor, "good")
    with pytest.raises(GaveUp, match=r"(?s)bad ended 5 times within 60 s.*bad.log.*no database") as caught:
        supervisor.run_forever(interval=0.01)
    assert caught.value.name == "bad"
    assert caught.value.tail.splitlines()[-1] == "no database"
    delays = [line.split(" again in ")[1].split(" s")[0] for line in supervisor.said]
    assert len(delays) == 4
    assert not alive(good), "giving up stops the others"


def test_deaths_long_ago_do_not_count(tmp_path: Path) -> None:
    supervisor = Watched(tmp_path, first_delay=0.01, deaths_allowed=3, death_window=0.2)
    supervisor.add("slow", ["sleep", "0.15"])
    with supervisor:
        supervisor.poll_until(lambda: len(supervisor.said) >= 5)


def test_delays(tmp_path: Path) -> None:
    supervisor = Watched(tmp_path, deaths_allowed=9)
    supervisor.add("x", SLEEP)
    for _ in range(7):
        supervisor._after_death(supervisor._children["x"], "a test")
    delays = [float(line.split(" again in ")[1].split(" s")[0]) for line in supervisor.said]
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_children_that_end_for_good(watched: Watched) -> None:
    watched.add("once", ["sh", "-c", "exit 4"], restart=False)
    watched.start()
    watched.poll_until(lambda: watched.said)
    assert watched.said == ["once ended: exit status 4"]
    assert watched.pid("once") is None
    assert watched.returncode("once") == 4
    assert not watched.kill("once")
    watched.add("late", SLEEP)
    watched.poll_until(lambda: watched.pid("late"))


def test_rest_of_a_dead_group_is_killed(watched: Watched) -> None:
    watched.add("pool", ["sh", "-c", "sleep 600 & echo ready; wait"])
    watched.start()
    first = running_pid(watched, "pool")
    until(lambda: len(group_of(first)) == 2 and "ready" in watched.tail("pool"))
    watched.kill("pool")
    watched.poll_until(lambda: watched.pid("pool") not in (None, first))
    until(lambda: not group_of(first))


def test_stop_is_graceful_parallel_and_then_stern(watched: Watched) -> None:
    code = "trap 'sleep 0.3; echo clean; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    for number in range(4):
        watched.add(f"polite{number}", ["sh", "-c", code])
    watched.add("stubborn", STUBBORN, stage=0)
    watched.start()
    until(lambda: all("up" in watched.tail(f"polite{n}") for n in range(4)) and watched.tail("stubborn"))
    stubborn = running_pid(watched, "stubborn")
    assert len(group_of(stubborn)) >= 2
    begin = time.monotonic()
    watched.stop()
    assert 0.9 < time.monotonic() - begin < 2.5, "one after the other would take longer; stop_seconds is 1"
    assert all(watched.tail(f"polite{n}").endswith("clean") for n in range(4))
    assert watched.returncode("stubborn") == -signal.SIGKILL
    until(lambda: not group_of(stubborn))
    watched.stop()


def test_later_stages_stop_first(watched: Watched, tmp_path: Path) -> None:
    for name, stage in (("web", 1), ("database", 0)):
        code = f"trap 'echo {name} >> order; exit' TERM; echo up; while :; do sleep 0.02; done"
        watched.add(name, ["sh", "-c", code], cwd=tmp_path, stage=stage)
    watched.start()
    until(lambda: watched.tail("web") and watched.tail("database"))
    watched.stop()
    assert (tmp_path / "order").read_text().split() == ["web", "database"]


def test_logs_are_bounded(tmp_path: Path) -> None:
    supervisor = Watched(tmp_path, log_bytes=2000)
    supervisor.add("loud", ["sh", "-c", "while :; do echo 0123456789; sleep 0.001; done"])
    with supervisor:
        supervisor.poll_until((tmp_path / "loud.log.1").exists)
        supervisor.poll_until(lambda: 0 < (tmp_path / "loud.log").stat().st_size < 2000)
        assert b"\0" not in (tmp_path / "loud.log").read_bytes()


def test_wrong_use_is_refused(watched: Watched) -> None:
    watched.add("a", SLEEP)
    with pytest.raises(SupervisorError, match="named a already"):
        watched.add("a", SLEEP)
    watched.add("b", ["no-such-program"])
    with pytest.raises(SupervisorError, match="could not start no-such-program: "):
        watched.start()
    assert watched.pid("a") is None, "nothing half started stays"
    errors: list[SupervisorError] = []

    def elsewhere() -> None:
        try:
            watched.poll()
        except SupervisorError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "on the thread that called start" in str(errors[0])


def test_story_thread_beside_the_main_thread(watched: Watched) -> None:
    watched.add("worker", SLEEP)
    watched.start()
    seen: list[int | None] = []

    def story() -> None:
        seen.append(watched.pid("worker"))
        watched.kill("worker")
        until(lambda: watched.pid("worker") not in (None, seen[0]))
        seen.append(watched.pid("worker"))
        watched.stop()

    thread = threading.Thread(target=story)
    thread.start()
    watched.run_forever(interval=0.02)  # returns because the story stops it
    thread.join(10)
    assert len(set(seen)) == 2
    assert None not in seen
    assert not alive(seen[1] or 0)


MAIN = """
import sys
from pathlib import Path
from itsm_portal.supervisor import Supervisor
supervisor = Supervisor(Path(sys.argv[1]), stop_seconds=float(sys.argv[2]))
supervisor.add("plain", ["sleep", "600"])
supervisor.add("stubborn", ["sh", "-c", sys.argv[3]])
supervisor.start()
print(supervisor.pid("plain"), supervisor.pid("stubborn"), supervisor._guard.pid, flush=True)
supervisor.run_forever()
"""


def catches_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.split("SigCgt:")[1].split()[0], 16) >> (signal.SIGTERM - 1) & 1)


def main_program(log_dir: Path, stop_seconds: float) -> tuple[subprocess.Popen[str], list[int]]:
    """A supervisor in a process of its own, and the ids of its two children and its guard."""
    argv = [sys.executable, "-c", MAIN, str(log_dir), str(stop_seconds), STUBBORN[2]]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    until(lambda: catches_sigterm(process.pid))  # it has reached run_forever()
    until(lambda: len(group_of(pids[1])) >= 2 and (log_dir / "stubborn.log").stat().st_size)
    return process, pids


def test_kill_9_of_the_supervisor_leaves_nothing(tmp_path: Path) -> None:
    process, (plain, stubborn, guard) = main_program(tmp_path, 1)
    process.kill()
    process.wait()
    until(lambda: not alive(plain))
    until(lambda: not group_of(stubborn) and not alive(guard))


def test_plain_child_dies_with_the_supervisor_even_without_guard(tmp_path: Path) -> None:
    process, (plain, stubborn, guard) = main_program(tmp_path, 10)
    os.kill(guard, signal.SIGKILL)
    process.kill()
    process.wait()
    until(lambda: not alive(plain))
    os.killpg(stubborn, signal.SIGKILL)  # nobody else does now


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_hurries(sig: signal.Signals, tmp_path: Path) -> None:
    process, (plain, stubborn, guard) = main_program(tmp_path, 60)
    process.send_signal(sig)
    until(lambda: not alive(plain))
    assert alive(stubborn)
    assert process.poll() is None
    process.send_signal(sig)
    assert process.wait(10) == 0
    until(lambda: not group_of(stubborn) and not alive(guard))
