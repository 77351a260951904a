"""`kill -9` at every point: after a restart the CI is updated or back, and the server heard it once."""

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.failpoint import POINTS
from tests.agent.ci import Ci, software
from tests.agent.ddi_server import Action, DdiServer, running_server
from tests.agent.signer import KeyHolder, removal

REVERT_POINTS = ("mid_revert", "after_revert")
# Only where a way back is asked for: see test_ways_back.py.
LEAVE_POINTS = ("after_leave",)


def assert_consistent(ci: Ci, server: DdiServer, action: Action) -> None:
    """What must hold after any crash, once the agent is at rest."""
    assert len(action.closes) == 1, "exactly one terminal report was accepted"
    assert ci.leftovers() == []
    state = ci.state()
    assert (state["action"], state["outbox"]) == (None, [])
    sent = [line for line in ci.journal() if line["kind"] != "configData"]
    by_report = {}
    for line in sent:
        assert by_report.setdefault(line["report"], line["body"]) == line["body"], "one report, one content"
    terminal = [str(body) for body in by_report.values() if body["status"]["execution"] == "closed"]
    assert len(terminal) == 1, "one terminal report was ever made"
    numbers = [line["report"] for line in sent]
    assert numbers == sorted(numbers), "reports keep their order"
    answered = [line["body"] for line in sent if line["status"] == 200]
    events = [body for kind, _, body in server.accepted if kind != "configData"]
    assert all(body in events for body in answered), "what the journal says was accepted, the server has"
    assert events[-1] in [line["body"] for line in sent]
    running = {f"version.{p}": ci.running(p) for p in ("app", "lib") if ci.running(p)}
    assert server.attributes == {
        "agent.version": "1.1.0",
        "agent.ways_back": "script,snapshot",
        "signatures": "required",
        "signatures.keys": "1",
        **running,
    }
    installed = {f"version.{p}": release["version"] for p, release in ci.trust()["installed"].items()}
    if action.closes[0][0] == "success":
        assert installed.items() >= {name: v for name, v in running.items() if v == "2.0"}.items()
    else:
        assert installed == {}, "what was taken back does not count"


@pytest.fixture
def ci(tmp_path: Path, server: DdiServer) -> Ci:
    """Signatures are on in all of these tests."""
    ci = trusting(tmp_path, server)
    ci.configure(hooks={"pre": {"command": ["true"]}})
    return ci


def trusting(folder: Path, server: DdiServer) -> Ci:
    server.holder = server.holder or KeyHolder()
    return Ci(folder, server, root_keys=[server.holder.root.public])


@pytest.mark.parametrize("point", [point for point in POINTS if point not in (*REVERT_POINTS, *LEAVE_POINTS)])
def test_killed_while_installing_finishes_after_restart(ci: Ci, server: DdiServer, point: str) -> None:
    ci.seed("app", "1.0", "old")
    action = server.offer(server.chunk("app", "2.0", software("app", "2.0", size=200_000)))

    assert ci.once(AGENT_FAILPOINT=point) == -signal.SIGKILL
    assert ci.running() in ("1.0", "2.0")
    assert ci.once() == 0

    assert (ci.running(), ci.text()) == ("2.0", "app 2.0")
    assert action.closes[0][0] == "success"
    assert_consistent(ci, server, action)


@pytest.mark.parametrize("point", ["before_switch", "mid_switch", "after_switch", *REVERT_POINTS, "before_close"])
def test_killed_around_a_failing_update_goes_back_after_restart(ci: Ci, server: DdiServer, point: str) -> None:
    # lib is seeded with the very label that is offered: the hardest way back.
    ci.seed("app", "1.0", "old app")
    ci.seed("lib", "2.0", "old lib")
    action = server.offer(
        server.chunk("app", "2.0", software("app", "2.0")),
        server.chunk("lib", "2.0", software("lib", "2.0", healthy=False)),
    )

    assert ci.once(AGENT_FAILPOINT=point) == -signal.SIGKILL
    assert None not in (ci.running("app"), ci.running("lib"))
    assert ci.once() == 0

    assert (ci.running("app"), ci.text("app")) == ("1.0", "old app")
    assert (ci.running("lib"), ci.text("lib")) == ("2.0", "old lib")
    assert action.closes[0][0] == "failure"
    assert_consistent(ci, server, action)


def test_killed_agent_finishes_without_the_server(ci: Ci, server: DdiServer) -> None:
    ci.seed("app", "1.0", "old")
    action = server.offer(server.chunk("app", "2.0", software("app", "2.0", healthy=False)))
    assert ci.once(AGENT_FAILPOINT="after_switch") == -signal.SIGKILL
    assert ci.running() == "2.0"
    server.stop()

    assert ci.once() == 1
    assert ci.running() == "1.0"
    assert ci.state()["outbox"][-1]["body"]["status"]["execution"] == "closed"

    server.start()
    assert ci.once() == 0
    assert_consistent(ci, server, action)


def test_failpoint_with_a_file_fires_once(ci: Ci, server: DdiServer, tmp_path: Path) -> None:
    server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    (tmp_path / "armed").touch()
    environment = {"AGENT_FAILPOINT": "before_switch", "AGENT_FAILPOINT_ONCE": str(tmp_path / "armed")}

    assert ci.once(**environment) == -signal.SIGKILL
    assert ci.once(**environment) == 0

    assert ci.running() == "1.0"


@pytest.mark.parametrize(("point", "code"), [("after_pre", "pre_hook_failed"), ("after_health", "health_check_failed")])
def test_hook_that_always_kills_the_agent_ends_in_going_back(ci: Ci, server: DdiServer, point: str, code: str) -> None:
    ci.seed("app", "1.0", "old")
    action = server.offer(server.chunk("app", "2.0", software("app", "2.0")))

    for _ in range(3):
        assert ci.once(AGENT_FAILPOINT=point) == -signal.SIGKILL
    assert ci.once(AGENT_FAILPOINT=point) == 0

    assert ci.running() == "1.0"
    assert action.closes[0][1][0] == f"{code}: the agent died 3 times during it"
    assert_consistent(ci, server, action)


class _Killed(BaseException):
    """Stands for SIGKILL inside this process: nothing of the agent catches it."""


def _run_with_crashes(ci: Ci, points: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts the agent again and again; the n-th start dies at the n-th point if it comes by."""
    for point in points:
        monkeypatch.setenv("AGENT_FAILPOINT", point)
        try:
            ci.cycle()
        except _Killed:
            for product in ("app", "lib"):
                ci.running(product)  # never half a version
    monkeypatch.delenv("AGENT_FAILPOINT", raising=False)
    ci.cycle()
    ci.cycle()


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    points=st.lists(st.sampled_from(POINTS), max_size=4),
    seeded=st.sampled_from([None, "1.0", "2.0"]),
    lib=st.sampled_from(["absent", "good", "bad", "removed"]),
    healthy=st.booleans(),
    lost_answers=st.integers(0, 2),
)
def test_any_crashes_in_any_scenario_end_in_one_of_two_states(
    points: list[str], seeded: str | None, lib: str, healthy: bool, lost_answers: int
) -> None:
    with TemporaryDirectory() as folder, running_server() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.failpoint.os.kill", _die)
        ci = trusting(Path(folder), server)
        ci.seed("lib", "1.0", "old lib")
        if seeded:
            ci.seed("app", seeded, "old app")
        chunks = [server.chunk("app", "2.0", software("app", "2.0", healthy=healthy, size=100_000))]
        if lib == "removed":
            assert server.holder is not None
            decision = {"key": "itsm.rollback", "value": server.holder.decision("lib", "1.0", None)}
            chunks.append({**removal("lib"), "metadata": [*removal("lib")["metadata"], decision]})
        elif lib != "absent":
            chunks.append(server.chunk("lib", "2.0", software("lib", "2.0", healthy=lib == "good")))
        action = server.offer(*chunks)
        for _ in range(lost_answers):
            server.fault("POST", "feedback", drop=True)

        _run_with_crashes(ci, points, patch)
        for _ in itertools.takewhile(lambda _: ci.state()["outbox"], range(5)):
            ci.cycle()

        died_too_often = "died 3 times" in action.closes[0][1][0]
        if healthy and lib != "bad" and not died_too_often:
            assert action.closes[0][0] == "success"
            expected_lib = {"absent": "1.0", "good": "2.0", "removed": None}[lib]
            assert (ci.running("app"), ci.text("app")) == ("2.0", "app 2.0")
            assert ci.running("lib") == expected_lib
        else:
            assert action.closes[0][0] == "failure"
            assert ci.running("app") == seeded
            assert not seeded or ci.text("app") == "old app"
            assert (ci.running("lib"), ci.text("lib")) == ("1.0", "old lib")
        assert_consistent(ci, server, action)


def _die(process: int, number: int) -> None:
    assert (process, number) == (os.getpid(), signal.SIGKILL)
    raise _Killed


DISK_CALLS = ("rename", "replace", "symlink", "unlink", "mkdir", "rmdir", "link")


@pytest.mark.parametrize("healthy", [True, False])
def test_death_before_any_disk_operation_leaves_a_whole_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, healthy: bool
) -> None:
    """Replaces the folder of the running version, the longest way, once per operation to die before."""
    counted = [0]
    deadly = [0]
    for name in DISK_CALLS:
        monkeypatch.setattr(os, name, _counting(getattr(os, name), counted, deadly))
    with running_server() as server:
        # The way back is longer and touches more; on the way forward every second operation will do.
        for number in itertools.count(1, 2 if healthy else 1):
            folder = tmp_path / str(number)
            folder.mkdir()
            ci = trusting(folder, server)
            ci.seed("app", "1.0", "old")
            server.attributes = None
            server.accepted.clear()
            data = software("app", "1.0", text="new", healthy=healthy)
            action = server.offer(server.chunk("app", "1.0", data))
            counted[0], deadly[0] = 0, number
            try:
                ci.cycle()
                died = False
            except _Killed:
                died = True
            deadly[0] = 0
            assert ci.running() == "1.0" or (ci.running() or "").startswith(".old-")
            assert ci.text() in ("old", "new")
            ci.cycle()
            assert (ci.running(), ci.text()) == ("1.0", "new" if healthy else "old")
            assert_consistent(ci, server, action)
            if not died:
                break
    assert number > 30


def _counting(call: Callable[..., Any], counted: list[int], deadly: list[int]) -> Callable[..., Any]:
    def counting(*arguments: Any, **options: Any) -> Any:
        counted[0] += 1
        if counted[0] == deadly[0]:
            raise _Killed
        return call(*arguments, **options)

    return counting
