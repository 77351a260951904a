"""A sweep over every failpoint: the process that comes to it is killed, and everything ends as if it had not been."""

import json
import os
import time
from collections.abc import Iterator

import pytest

from tests.faults.facts import expected_facts, found_facts
from tests.faults.failpoints import POINTS, RESULTS, Point
from tests.faults.stack import NAMES, Rollout, Stack, started

# After a kill something has to move again within so many seconds.
MOVES_AGAIN = 15.0
_POSITION = """
SELECT (SELECT max(id) FROM distribution_deploymentevent), (SELECT max(id) FROM releases_rolloutevent),
    (SELECT count(*) FROM notifications_outbox WHERE state = 'sent'),
    (SELECT array_agg(ARRAY[state, cascade_mark, freeze_mark::text, settled_at::text, waits_for] ORDER BY id)
        FROM releases_rollout)
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with started(tmp_path_factory.mktemp("failpoints"), "failpoints") as stack:
        yield stack


@pytest.fixture(autouse=True)
def nothing_stays_armed(stack: Stack) -> Iterator[None]:
    yield
    for point in POINTS:
        stack.disarm(point.name)
    for host in stack.hosts.values():
        if host.is_to_be_held():
            host.let_go()


def seconds_until_it_moves(stack: Stack, point: Point) -> float:
    """Waits for the kill, then for anything that moves; how long that took."""
    killed = stack.until(f"somebody comes to {point.name}", lambda: stack.went_off(point.name))
    at = stack.rows(_POSITION)
    settled = "SELECT 1 FROM releases_rollout WHERE settled_at IS NULL UNION SELECT 1 FROM notifications_outbox WHERE "
    settled += "state = 'pending' AND leased_until IS NULL"
    stack.until("it moves again", lambda: stack.rows(_POSITION) != at or not stack.rows(settled), MOVES_AGAIN)
    return time.time() - float(killed)


def forward(stack: Stack, point: Point) -> float:
    stack.arm(point.name)
    rollout = stack.start_rollout()
    took = seconds_until_it_moves(stack, point)
    stack.until_settled(rollout)
    assert found_facts(stack, rollout) == expected_facts(stack, rollout)
    return took


def back(stack: Stack, point: Point) -> float:
    rollout = stack.start_rollout()
    stack.until_settled(rollout)
    stack.arm(point.name)
    return roll_back(stack, rollout, point)


def cancel(stack: Stack, point: Point) -> float:
    """A CI of the second wave took its offer and fell silent; it is asked to stop, and answers."""
    silent = NAMES[3]
    with stack.silenced(silent):
        rollout = stack.start_rollout()
        stack.until("the second wave is open", lambda: stack.wave_of(rollout, 2) == "deploying")
        stack.until("it is offered", lambda: stack.direct("offer", name=silent))
        stack.direct("roll_back", rollout=rollout.id)
        stack.until("it is asked to stop", lambda: stack.states(rollout)[silent] == "cancelling")
        stack.arm(point.name)
    took = seconds_until_it_moves(stack, point)
    stack.until_settled(rollout)
    found, expected = found_facts(stack, rollout), expected_facts(stack, rollout, is_rolled_back=True)
    # How far each CI had come when it was asked to stop is a matter of luck; where all of them end is not.
    for fact in ("rollout", "tickets", "on the disks", "reported", "in the configuration database",
                 "open deployments anywhere", "reports answered but not written", "events that nobody reported",
                 "notices that were not sent", "violations of invariants"):  # fmt: skip
        assert found[fact] == expected[fact], fact
    return took


def roll_back(stack: Stack, rollout: Rollout, point: Point) -> float:
    stack.direct("roll_back", rollout=rollout.id)
    took = seconds_until_it_moves(stack, point)
    stack.until_settled(rollout)
    expected = expected_facts(stack, rollout, is_rolled_back=True, had_completed=True)
    assert found_facts(stack, rollout) == expected
    return took


def breach(stack: Stack, point: Point) -> float:
    """One CI fails; there is one incident and one pause, and a second person may abort and roll back."""
    sick = stack.hosts[NAMES[5]]
    sick.fall_ill()
    stack.arm(point.name)
    rollout = stack.start_rollout()
    took = seconds_until_it_moves(stack, point)
    paused = "SELECT pause_kind FROM releases_rollout WHERE id = %s AND state = 'paused'"
    assert stack.until("it stops", lambda: stack.rows(paused, rollout.id)) == [("breach",)]
    opened = "SELECT count(*) FROM releases_rolloutevent WHERE rollout_id = %s AND kind = 'incident_opened'"
    assert stack.rows(opened, rollout.id) == [(1,)]
    verdicts = (
        "SELECT count(*) FROM releases_verdict v JOIN releases_wave w ON w.id = v.wave_id WHERE w.rollout_id = %s"
    )
    assert stack.rows(verdicts + " AND outcome = 'breached'", rollout.id) == [(1,)]
    sick.recover()
    stack.direct("roll_back", rollout=rollout.id)
    stack.until_settled(rollout)
    versions = {host.name: host.version() for host in stack.hosts.values()}
    assert versions == dict.fromkeys(NAMES, rollout.before)
    assert stack.direct("check_invariants", journals=str(stack.folder / "fleet")) == []
    return took


def upload(stack: Stack, point: Point) -> float:
    """The disk is full: the upload is refused with a text that says so, and nothing is left; then it works."""
    stack.arm(point.name, "ENOSPC")
    began = time.time()
    answer = stack.direct("upload", label="disk-full")
    assert "full" in answer["refused"].lower() or "space" in answer["refused"].lower(), answer
    assert answer["leftovers"] == 0
    assert stack.direct("upload", label="disk-full") == {"refused": "", "leftovers": 0}
    return time.time() - began


SCENARIOS = {"forward": forward, "back": back, "cancel": cancel, "breach": breach, "upload": upload}


@pytest.mark.slow
@pytest.mark.proof
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_a_process_that_is_killed_here_changes_nothing_in_the_end(stack: Stack, point: Point) -> None:
    took = SCENARIOS[point.scenario](stack, point)
    assert took <= MOVES_AGAIN
    if os.environ.get("WRITE_RESULTS"):
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps({**results, point.name: f"{took:.1f} s"}, indent=1, sort_keys=True) + "\n")
