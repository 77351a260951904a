"""Hooks of the package and of the administrator: in order, in time, and ended for certain."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.agent.ci import Ci, archive
from tests.agent.ddi_server import DdiServer
from tests.agent.signer import removal

# Tells who it is and for what it was called.
TELL = (
    'echo "$0 $AGENT_OPERATION $AGENT_PRODUCT $AGENT_PREVIOUS>$AGENT_VERSION $(cat app.txt)" >> "$AGENT_CI_ROOT/calls"'
)


def shell(script: str, name: str = "sh", seconds: float = 10) -> dict[str, Any]:
    return {"command": ["sh", "-c", script, name], "timeout_seconds": seconds}


def package(version: str, **hooks: dict[str, Any]) -> bytes:
    info = {"product": "app", "version": version, **hooks}
    return archive({"software.json": json.dumps(info).encode(), "app.txt": f"app {version}".encode()})


def telling(version: str, **replaced: dict[str, Any]) -> bytes:
    """A version whose three hooks tell."""
    return package(version, **{name: shell(TELL, f"app-{name}") for name in ("pre", "post", "health")}, **replaced)


def deploy(ci: Ci, server: DdiServer, *chunks: dict[str, Any]) -> tuple[str, list[str]]:
    action = server.offer(*chunks)
    ci.cycle()
    return action.closes[0]


def calls(ci: Ci) -> list[str]:
    """What the hooks told since the last question."""
    path = ci.root / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


@pytest.fixture
def told(ci: Ci, server: DdiServer) -> Ci:
    """The administrator has all hooks too, and 1.0 runs."""
    ci.configure(hooks={name: shell(TELL, f"admin-{name}") for name in ("pre", "post", "health")})
    deploy(ci, server, server.chunk("app", "1.0", telling("1.0")))
    return ci


def test_administrator_and_package_are_called_around_the_switch(told: Ci, server: DdiServer) -> None:
    here = "install app >1.0 app 1.0"
    order = ["admin-pre", "app-pre", "app-post", "admin-post", "app-health", "admin-health"]
    assert calls(told) == [f"{name} {here}" for name in order]

    assert deploy(told, server, server.chunk("app", "2.0", telling("2.0")))[0] == "success"
    assert calls(told) == [f"{name} install app 1.0>2.0 app 2.0" for name in order]

    assert deploy(told, server, removal("app"))[0] == "success"
    assert calls(told) == [f"{name} remove app 2.0> app 2.0" for name in (*order[:4], "admin-health")]

    assert deploy(told, server, removal("app"))[0] == "success"
    assert calls(told) == [], "nothing was there to remove"


@pytest.mark.parametrize(
    ("name", "code", "before"),
    [
        ("pre", "pre_hook_failed", []),
        ("post", "post_hook_failed", ["app-pre"]),
        ("health", "health_check_failed", ["app-pre", "app-post"]),
    ],
)
def test_failing_hook_goes_back_and_calls_those_of_the_old_version(
    ci: Ci, server: DdiServer, name: str, code: str, before: list[str]
) -> None:
    deploy(ci, server, server.chunk("app", "1.0", telling("1.0")))
    calls(ci)
    hooks = {hook: shell(TELL, f"app-{hook}") for hook in ("pre", "post", "health")}
    data = package("2.0", **{**hooks, name: shell("echo no; exit 7")})

    result, details = deploy(ci, server, server.chunk("app", "2.0", data))

    assert result == "failure"
    assert details == [f"{code}: app 2.0: exit status 7", "no", "went back to: app 1.0"]
    assert (ci.running(), ci.text()) == ("1.0", "app 1.0")
    back = [f"app-{hook} revert app 2.0>1.0 app 1.0" for hook in ("pre", "post")]
    assert calls(ci) == [*(f"{hook} install app 1.0>2.0 app 2.0" for hook in before), *back]


def test_failed_first_install_calls_the_hooks_of_what_goes(ci: Ci, server: DdiServer) -> None:
    data = package("1.0", pre=shell(TELL, "pre"), post=shell(TELL, "post"), health=shell("exit 1"))

    deploy(ci, server, server.chunk("app", "1.0", data))

    assert ci.running() is None
    assert calls(ci) == [
        "pre install app >1.0 app 1.0",
        "post install app >1.0 app 1.0",
        "pre revert app 1.0> app 1.0",
        "post revert app 1.0> app 1.0",
    ]


def test_administrator_may_refuse(told: Ci, server: DdiServer) -> None:
    told.configure(hooks={"pre": shell('echo not on Mondays; test "$AGENT_OPERATION" = revert')})
    calls(told)

    result, details = deploy(told, server, server.chunk("app", "2.0", telling("2.0")))

    assert (result, told.running()) == ("failure", "1.0")
    assert details[0] == "pre_hook_failed: app 2.0: the administrator's command: exit status 1"
    assert "not on Mondays" in details


def test_trouble_on_the_way_back_is_told_and_does_not_stop_it(ci: Ci, server: DdiServer) -> None:
    deploy(ci, server, server.chunk("app", "1.0", package("1.0")))
    ci.configure(hooks={"post": shell("exit 5")})

    result, details = deploy(ci, server, server.chunk("app", "2.0", telling("2.0")))

    assert (result, ci.running()) == ("failure", "1.0")
    assert details == [
        "post_hook_failed: app 2.0: the administrator's command: exit status 5",
        "post_hook_failed: app 1.0: the administrator's command: exit status 5",
        "went back to: app 1.0",
    ]


def test_missing_program_is_a_failure_not_a_crash(ci: Ci, server: DdiServer) -> None:
    data = package("1.0", post={"command": ["no-such-program"]})

    result, details = deploy(ci, server, server.chunk("app", "1.0", data))

    assert result == "failure"
    assert details[0].startswith("post_hook_failed: app 1.0: cannot start (")


# A child in the group, and one that fled into a session of its own.
BRANCHING = (
    'echo $$ > "$AGENT_CI_ROOT/leader"; sleep 600 & echo $! > "$AGENT_CI_ROOT/child";'
    " setsid sh -c 'echo $$ > \"$AGENT_CI_ROOT/fled\"; exec sleep 600' &"
    ' until test -s "$AGENT_CI_ROOT/fled"; do sleep 0.02; done; echo waiting > "$AGENT_CI_ROOT/ready";'
)


def process(ci: Ci, name: str) -> int:
    return int((ci.root / name).read_text())


def is_alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_hook_that_takes_too_long_is_ended_with_all_its_descendants(ci: Ci, server: DdiServer) -> None:
    data = package("1.0", health=shell(f"{BRANCHING} echo waiting; sleep 600", seconds=6))

    _, details = deploy(ci, server, server.chunk("app", "1.0", data))

    assert details[0] == "health_check_failed: app 1.0: no answer within 6 s"
    assert "waiting" in details
    for name in ("leader", "child", "fled"):
        server.wait(lambda name=name: not is_alive(process(ci, name)))


def test_successful_hook_leaves_nothing_but_what_it_set_free(ci: Ci, server: DdiServer) -> None:
    data = package("1.0", post=shell(BRANCHING))

    assert deploy(ci, server, server.chunk("app", "1.0", data))[0] == "success"

    assert not is_alive(process(ci, "leader"))
    server.wait(lambda: not is_alive(process(ci, "child")))
    assert is_alive(process(ci, "fled")), "a service that was started on purpose"
    os.kill(process(ci, "fled"), signal.SIGKILL)


@pytest.mark.parametrize("name", ["pre", "post", "health"])
def test_killed_agent_takes_its_hook_along(ci: Ci, server: DdiServer, name: str) -> None:
    ci.seed("app", "0.9", "old")
    once = 'test -e "$AGENT_CI_ROOT/ready" && exit 0;'
    data = package("1.0", **{name: shell(f"{once} {BRANCHING} sleep 600", seconds=600)})
    action = server.offer(server.chunk("app", "1.0", data))
    agent = ci.start("--once")
    server.wait((ci.root / "ready").exists, 20)

    agent.kill()
    agent.communicate(timeout=10)

    server.wait(lambda: not is_alive(process(ci, "leader")))
    assert is_alive(process(ci, "fled")), "this one is left for the next start"
    assert ci.once() == 0
    for each in ("child", "fled"):
        server.wait(lambda each=each: not is_alive(process(ci, each)))
    assert (action.closes[0][0], ci.running()) == ("success", "1.0")
    assert not (ci.root / ".agent" / "command").exists()
