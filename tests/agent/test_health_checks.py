"""A health check that the server asks for: of what runs, once for each request, without touching anything."""

import json
import signal
from typing import Any

import pytest

from agent.config import load_config
from agent.runner import Agent
from tests.agent.ci import Ci, NoSignals, archive
from tests.agent.ddi_server import DdiServer

# Well unless somebody has put a file there; tells for what it was called.
CHECK = (
    'echo "$AGENT_OPERATION $AGENT_PREVIOUS>$AGENT_VERSION" >> "$AGENT_CI_ROOT/calls"; test ! -e "$AGENT_CI_ROOT/sick"'
)


def package(product: str = "app", script: str | None = CHECK, version: str = "1.0") -> bytes:
    info: dict[str, Any] = {"product": product, "version": version}
    if script is not None:
        info["health"] = {"command": ["sh", "-c", script], "timeout_seconds": 10}
    return archive({"software.json": json.dumps(info).encode(), "app.txt": b"app"})


@pytest.fixture
def well(ci: Ci, server: DdiServer) -> Ci:
    """app 1.0 runs and has a check, lib 1.0 has none."""
    server.offer(server.chunk("app", "1.0", package()), server.chunk("lib", "1.0", package("lib", None)))
    ci.cycle()
    assert ci.running() == "1.0"
    (ci.root / "calls").unlink()
    return ci


def health(server: DdiServer) -> dict[str, str]:
    assert server.attributes is not None
    return {key: value for key, value in server.attributes.items() if key.startswith("health.")}


def test_what_the_check_says_comes_with_the_attributes(well: Ci, server: DdiServer) -> None:
    server.health = 7
    well.cycle()
    assert health(server) == {"health.request": "7", "health.app": "pass", "health.lib": "none"}
    assert (well.root / "calls").read_text() == "check 1.0>1.0\n"
    (well.root / "sick").touch()
    server.health = 8
    well.cycle()
    said = health(server)
    assert (said["health.request"], said["health.app"].split(":")[0]) == ("8", "fail")
    assert (server.attributes or {})["version.app"] == "1.0"
    assert (well.running(), well.leftovers()) == ("1.0", []), "nothing is taken back by that"


def test_a_request_is_carried_out_once_by_a_running_agent(well: Ci, server: DdiServer) -> None:
    server.health = 7
    agent = Agent(load_config(well.config_file), NoSignals())  # type: ignore[arg-type]
    for _ in range(3):
        agent.cycle()
    assert (well.root / "calls").read_text() == "check 1.0>1.0\n"
    assert len([body for body in server.attribute_puts if "health.request" in body["data"]]) >= 1


def test_a_check_that_kills_the_agent_is_not_run_again(ci: Ci, server: DdiServer) -> None:
    server.offer(server.chunk("app", "1.0", package(script='test "$AGENT_OPERATION" != check || kill -9 $PPID')))
    ci.cycle()
    server.health = 7
    assert ci.once() == -signal.SIGKILL
    assert ci.once() == 0
    assert health(server) == {"health.request": "7", "health.app": "unknown: the agent ended during it"}


def test_it_waits_until_an_action_is_over(well: Ci, server: DdiServer) -> None:
    server.health = 7
    action = server.offer(server.chunk("app", "2.0", package(version="2.0")))
    action.update = "skip"
    server.attributes = {}
    well.cycle()
    assert health(server) == {}, "the action is in hand, and waits for its window"


@pytest.mark.parametrize("link", ["x", "7;id", "-1", "1e3", "٧", "9" * 30, "7&x=1"])
def test_a_request_is_a_number_and_nothing_else(well: Ci, server: DdiServer, link: str) -> None:
    server.health = link
    well.cycle()
    assert health(server) == {}
    assert not (well.root / "calls").exists()


def test_facts_cannot_say_that_it_is_well(well: Ci, server: DdiServer) -> None:
    (well.root / "facts.json").write_text(json.dumps({"health.app": "pass", "health.request": "7"}))
    server.attributes = None
    well.cycle()
    assert health(server) == {}
