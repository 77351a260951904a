"""Leaving a version by its own script or by what was kept before it: ordered, by itself, and after a crash."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.agent.ci import Ci, archive
from tests.agent.ddi_server import Action, DdiServer
from tests.agent.signer import KeyHolder

# An installation that converts its data, and the script that converts it back.
CONVERT = 'echo "v$AGENT_VERSION" > "$AGENT_CI_ROOT/app/data/format"'
UNDO = '(cat app.txt; echo "$AGENT_OPERATION $AGENT_PREVIOUS>$AGENT_VERSION") >> "$AGENT_CI_ROOT/undone"'
HELD = {"key": "itsm.way_back"}
ORDER = {"key": "itsm.go_back"}


def shell(script: str) -> dict[str, Any]:
    return {"command": ["sh", "-c", script], "timeout_seconds": 10}


def package(version: str, *, healthy: bool = True, **members: Any) -> bytes:
    members = {"post": shell(CONVERT), "health": shell("true" if healthy else "exit 3"), **members}
    info = {"product": "app", "version": version, **members}
    return archive({"software.json": json.dumps(info).encode(), "app.txt": f"app {version}\n".encode()})


class Till:
    """A CI with data of its own, and an operator who deploys to it."""

    def __init__(self, ci: Ci, server: DdiServer) -> None:
        self.ci, self.server = ci, server
        self.data.mkdir(parents=True)
        (self.data / "sub").mkdir()
        self.write("day 1")
        self.chunks: dict[str, dict[str, Any]] = {}

    @property
    def data(self) -> Path:
        return self.ci.root / "app" / "data"

    def write(self, text: str) -> None:
        (self.data / "sub" / "orders").write_text(text)

    def orders(self) -> str:
        return (self.data / "sub" / "orders").read_text()

    def format(self) -> str:
        return (self.data / "format").read_text().strip()

    def offer(self, version: str, way: str = "", *, data: bytes | None = None, back: bool = False) -> Action:
        known = self.chunks.get(version) if data is None else None
        chunk = known or self.server.chunk("app", version, data if data is not None else package(version))
        self.chunks[version] = chunk
        said = [{**(ORDER if back else HELD), "value": way}] if way else []
        return self.server.offer({**chunk, "metadata": said})

    def deploy(self, version: str, way: str = "", **how: Any) -> tuple[str, str]:
        """Result and first detail of a deployment."""
        action = self.offer(version, way, **how)
        self.ci.cycle()
        result, details = action.closes[0]
        return result, details[0]

    def downloads(self) -> int:
        return sum("/artifacts/" in path for _method, path, _headers in self.server.requests)


@pytest.fixture
def till(ci: Ci, server: DdiServer) -> Till:
    """1.0 runs."""
    till = Till(ci, server)
    assert till.deploy("1.0")[0] == "success"
    return till


# --- by script ---------------------------------------------------------------------------------
def test_the_script_of_the_version_that_runs_undoes_it_before_the_link_goes_back(till: Till) -> None:
    assert till.deploy("2.0", "script", data=package("2.0", rollback=shell(UNDO)))[0] == "success"
    fetched = till.downloads()

    assert till.deploy("1.0", "script", back=True)[0] == "success"

    assert (till.ci.running(), till.format()) == ("1.0", "v1.0")
    assert (till.ci.root / "undone").read_text() == "app 2.0\nrollback 2.0>1.0\n"
    assert till.downloads() == fetched, "1.0 was still there"


def test_a_package_without_the_script_is_refused_when_it_comes(till: Till) -> None:
    result, detail = till.deploy("2.0", "script")
    assert (result, till.ci.running()) == ("failure", "1.0")
    assert detail == "no_rollback_script: app 2.0 is to be left by its script, but has none"
    assert till.ci.leftovers() == []


def test_a_failing_script_moves_nothing(till: Till) -> None:
    till.deploy("2.0", "script", data=package("2.0", rollback=shell("echo cannot; exit 4")))
    result, detail = till.deploy("1.0", "script", back=True)
    assert (result, till.ci.running()) == ("failure", "2.0")
    assert detail.startswith("rollback_hook_failed: app 1.0: exit status 4")


def test_a_version_that_came_without_a_script_is_not_left_by_one(till: Till) -> None:
    till.deploy("2.0")
    result, detail = till.deploy("1.0", "script", back=True)
    assert (result, till.ci.running()) == ("failure", "2.0")
    assert detail == "no_rollback_script: app 2.0 has no rollback script"


def test_an_installation_that_fails_is_undone_by_its_script(till: Till) -> None:
    bad = package("2.0", healthy=False, rollback=shell(UNDO))
    assert till.deploy("2.0", "script", data=bad)[0] == "failure"
    assert till.ci.running() == "1.0"
    assert (till.ci.root / "undone").read_text() == "app 2.0\nrollback 2.0>1.0\n"


def test_a_script_during_which_the_agent_dies_is_run_again_and_given_up_in_the_end(till: Till) -> None:
    till.deploy("2.0", "script", data=package("2.0", rollback=shell("kill -9 $PPID")))
    action = till.offer("1.0", "script", back=True)
    for _ in range(3):
        assert till.ci.once() == -signal.SIGKILL
    assert till.ci.once() == 0
    assert action.closes[0][1][0] == "rollback_hook_failed: the agent died 3 times during it"
    assert till.ci.running() == "2.0"


# --- by snapshot -------------------------------------------------------------------------------
KEEPING: dict[str, Any] = {"keep": ["data"]}


def test_what_was_kept_comes_back_without_a_download(till: Till) -> None:
    assert till.deploy("2.0", "snapshot", data=package("2.0", **KEEPING))[0] == "success"
    till.write("day 2")
    (till.data / "new").write_text("made by 2.0")
    fetched = till.downloads()

    assert till.deploy("1.0", "snapshot", back=True)[0] == "success"

    assert (till.ci.running(), till.orders(), till.format()) == ("1.0", "day 1", "v1.0")
    assert not (till.data / "new").exists()
    assert till.downloads() == fetched
    assert list((till.ci.root / ".agent" / "kept").iterdir()) == [], "it is used up"


def test_an_installation_that_fails_gives_the_data_back(till: Till) -> None:
    spoil = 'rm -rf "$AGENT_CI_ROOT/app/data"'
    assert till.deploy("2.0", "snapshot", data=package("2.0", healthy=False, post=shell(spoil), **KEEPING))[0] == (
        "failure"
    )
    assert (till.ci.running(), till.orders(), till.format()) == ("1.0", "day 1", "v1.0")


def test_a_way_back_that_fails_leaves_the_data_as_it_was(till: Till, server: DdiServer) -> None:
    """1.0 does not get well any more: 2.0 goes on, with what it wrote."""
    once = f'{CONVERT}; test ! -e "$AGENT_CI_ROOT/sick"'
    till.deploy("1.1", data=package("1.1", health=shell(once)))
    till.deploy("2.0", "snapshot", data=package("2.0", **KEEPING))
    till.write("day 2")
    (till.ci.root / "sick").touch()
    result, detail = till.deploy("1.1", "snapshot", back=True)
    assert (result, detail.split(":")[0]) == ("failure", "health_check_failed")
    assert (till.ci.running(), till.orders(), till.format()) == ("2.0", "day 2", "v2.0")
    (till.ci.root / "sick").unlink()
    assert till.deploy("1.1", "snapshot", back=True)[0] == "success", "it is still kept"
    assert till.orders() == "day 1"


def test_back_to_nothing_by_a_snapshot(ci: Ci, server: DdiServer) -> None:
    till = Till(ci, server)
    till.deploy("1.0", "snapshot", data=package("1.0", keep=["data/sub", "extra"]))
    till.write("day 2")
    (ci.root / "app" / "extra").write_text("made by 1.0")
    removal = {"part": "app", "name": "app", "version": "1.0", "artifacts": []}
    said = [{"key": "action", "value": "remove"}, {**ORDER, "value": "snapshot"}]
    action = server.offer({**removal, "metadata": said})
    ci.cycle()
    assert action.closes[0][0] == "success", action.closes
    assert (ci.running(), till.orders(), (ci.root / "app" / "extra").exists()) == (None, "day 1", False)
    assert till.format() == "v", "its hook ran last, and nobody asked for this to be kept"


@pytest.mark.parametrize("between", [None, "2.1"])
def test_without_what_was_kept_it_is_refused(till: Till, between: str | None) -> None:
    """A snapshot is that of the installation that runs; a later one drops it."""
    till.deploy("2.0", "snapshot" if between else "", data=package("2.0", **KEEPING))
    if between:
        till.deploy(between)
    result, detail = till.deploy("1.0", "snapshot", back=True)
    assert (result, detail.split(":")[0]) == ("failure", "snapshot_missing")
    assert (till.ci.running(), till.orders()) == (between or "2.0", "day 1")


def test_a_package_that_does_not_say_what_to_keep_is_refused_when_it_comes(till: Till) -> None:
    result, detail = till.deploy("2.0", "snapshot")
    assert (result, detail.split(":")[0], till.ci.running()) == ("failure", "nothing_to_keep", "1.0")


@pytest.mark.parametrize(
    "keep",
    [
        "data",
        [1],
        ["../.."],
        ["/etc"],
        ["versions"],
        ["current"],
        [".hidden"],
        ["data", "data/sub"],
        ["a", "a"],
        ["a//b"],
    ],
)
def test_paths_to_keep_stay_below_the_product(till: Till, keep: Any) -> None:
    result, detail = till.deploy("2.0", "snapshot", data=package("2.0", keep=keep))
    assert (result, detail.split(":")[0], till.ci.running()) == ("failure", "bad_software_json", "1.0")


def test_a_link_is_kept_as_a_link_and_never_followed(till: Till, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("not mine")
    (till.data / "way").symlink_to(secret)
    result, detail = till.deploy("2.0", "snapshot", data=package("2.0", keep=["data/way/key"]))
    assert (result, detail.split(":")[0], till.ci.running()) == ("failure", "unsafe_path", "1.0")
    assert till.deploy("2.1", "snapshot", data=package("2.1", **KEEPING))[0] == "success"
    assert os.readlink(till.ci.root / ".agent" / "kept" / "app" / "data" / "data" / "way") == str(secret)
    assert till.deploy("1.0", "snapshot", back=True)[0] == "success"
    assert (secret / "key").read_text() == "not mine"


def test_no_room_to_keep_anything_is_found_before_the_switch(till: Till) -> None:
    till.ci.configure(disk_reserve_bytes=1)
    with (till.data / "big").open("wb") as file:
        file.truncate(1 << 43)  # a sparse file: it only says how big it is
    result, detail = till.deploy("2.0", "snapshot", data=package("2.0", **KEEPING))
    (till.data / "big").unlink()
    assert (result, detail.split(":")[0], till.ci.running()) == ("failure", "disk_full", "1.0")


# --- what it survives, and who may order it ----------------------------------------------------
@pytest.mark.parametrize("point", ["after_leave", "mid_switch", "mid_put_back", "after_switch", "before_close"])
@pytest.mark.parametrize("is_back", [False, True])
def test_killed_on_the_way_it_ends_in_the_same_state(till: Till, point: str, is_back: bool) -> None:
    if is_back:
        till.deploy("2.0", "snapshot", data=package("2.0", **KEEPING))
        till.write("day 2")
        action = till.offer("1.0", "snapshot", back=True)
    else:
        action = till.offer("2.0", "snapshot", data=package("2.0", **KEEPING))
    assert till.ci.once(AGENT_FAILPOINT=point) == -signal.SIGKILL
    assert till.ci.once() == 0
    assert action.closes[0][0] == "success"
    assert (till.ci.running(), till.orders()) == ("1.0" if is_back else "2.0", "day 1")
    if not is_back:
        till.write("day 2")
        assert till.deploy("1.0", "snapshot", back=True)[0] == "success"
        assert till.orders() == "day 1"


@pytest.mark.parametrize("point", ["mid_put_back", "after_switch", "mid_revert"])
def test_killed_while_a_way_back_fails_it_keeps_what_runs(till: Till, point: str) -> None:
    till.deploy("1.1", data=package("1.1", health=shell('test ! -e "$AGENT_CI_ROOT/sick"')))
    till.deploy("2.0", "snapshot", data=package("2.0", **KEEPING))
    till.write("day 2")
    (till.ci.root / "sick").touch()
    action = till.offer("1.1", "snapshot", back=True)
    assert till.ci.once(AGENT_FAILPOINT=point) == -signal.SIGKILL
    assert till.ci.once() == 0
    assert action.closes[0][0] == "failure"
    assert (till.ci.running(), till.orders()) == ("2.0", "day 2")


def test_a_way_back_that_the_agent_does_not_know_is_refused(till: Till) -> None:
    result, detail = till.deploy("2.0", "magic")
    assert (result, detail) == ("failure", "way_back_unknown: this agent does not know 'magic'")


@pytest.mark.parametrize("way", ["script", "snapshot"])
def test_an_older_version_needs_its_signed_decision_whatever_the_way(
    signed_ci: Ci, server: DdiServer, holder: KeyHolder, way: str
) -> None:
    till = Till(signed_ci, server)
    server.holder = holder
    assert till.deploy("1.0")[0] == "success"
    new = package("2.0", rollback=shell(UNDO), **KEEPING)
    assert till.deploy("2.0", way, data=new)[0] == "success"
    result, detail = till.deploy("1.0", way, back=True)
    assert (result, detail.split(":")[0], till.ci.running()) == ("failure", "downgrade_refused", "2.0")
    assert not (till.ci.root / "undone").exists(), "nothing was run for it"

    server.holder = None
    decision = holder.decision("app", "2.0", "1.0")
    chunk = holder.signed({**till.chunks["1.0"], "metadata": [{**ORDER, "value": way}]}, rollback=decision)
    action = server.offer(chunk)
    signed_ci.cycle()
    assert (action.closes[0][0], signed_ci.running()) == ("success", "1.0"), action.closes
