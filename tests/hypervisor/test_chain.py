"""Releases are tried on virtual machines through the portal: from the image of a production CI to the open gate.

Everything is real: web server, worker and beat, the test host with its machines, the agents in them, and the agent of
the production CI. People use the API.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from itsm_portal.demo.people import Person, Refused
from tests.faults.stack import Stack, started
from tests.hypervisor.guests import machines_below
from tests.hypervisor.scenes import SECONDS, Golden

pytestmark = pytest.mark.timeout(1500)

SOAK = 30
PASSWORD = "as long as it takes"


class Portal:
    """People at a running portal, and waiting for what comes of what they do."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.till = str(stack.cis["till-7"]["number"])
        self._people: dict[str, Person] = {}

    def __getitem__(self, name: str) -> Person:
        if name not in self._people:
            self._people[name] = Person(self.stack.url, name, PASSWORD)
        return self._people[name]

    def run(self, release: str) -> dict[str, Any]:
        """The latest test of a release."""
        found: dict[str, Any] = self["engineer"].get(f"/releases/{release}/")["test_runs"][0]
        return found

    def environment(self, release: str) -> dict[str, Any]:
        found: dict[str, Any] = self["engineer"].get(f"/environments/{self.run(release)['environment']}/")
        return found

    def running(self, ci: str) -> dict[str, str]:
        """Product and version that a CI reports."""
        rows = self["engineer"].get(f"/cis/{ci}/")["installed"]
        return {row["product"]: row["label"] for row in rows if not row["valid_to"]}

    def built(self, label: str, release_type: str, **facts: Any) -> str:
        return str(self.stack.direct("build_release", label=label, release_type=release_type, **facts))

    def until(self, what: str, ask: Callable[[], Any]) -> Any:
        """Asks twice a second until the answer is true: what asks more often takes the machines' processor."""
        deadline = time.monotonic() + 2 * SECONDS
        while not (found := ask()):
            self.stack.supervisor.poll()
            assert time.monotonic() < deadline, f"still not: {what}\n{self._story()}"
            time.sleep(0.5)
        return found

    def until_run(self, release: str, state: str) -> dict[str, Any]:
        """Waits until the test of a release is in this state."""
        last = {"failed", "passed", "voided"} - {state}
        run = self.until(f"{release} {state}", lambda: (r := self.run(release))["state"] in {state, *last} and r)
        assert run["state"] == state, f"{run}\n{self._story()}"
        return dict(run)

    def until_environment(self, number: str, **facts: Any) -> None:
        def is_so() -> bool:
            found = self["engineer"].get(f"/environments/{number}/")
            return all(found[name] == value for name, value in facts.items())

        self.until(f"{number} {facts}", is_so)

    def refuses(self, person: str, path: str, why: str, **values: Any) -> None:
        with pytest.raises(Refused, match=why):
            self[person].post(path, **values)

    def _story(self) -> str:
        events = self.stack.rows("SELECT at, environment_id, text FROM test_environments_environmentevent ORDER BY id")
        consoles = self.stack.rows("SELECT environment_id, right(text, 800) FROM test_environments_environmentconsole")
        return "\n".join(str(row) for row in [*events, *consoles])


@pytest.fixture
def portal(machines_folder: Path, golden: Golden, tmp_path: Path) -> Iterator[Portal]:
    golden.offer_disk(tmp_path / "fleet")
    with (
        started(tmp_path, "chain", names=["till-7"], director="tests.hypervisor.director") as stack,
        stack.process("run_test_hosts"),
    ):
        stack.direct("open_doors", password=PASSWORD, disk="till-7.raw", soak_seconds=SOAK)
        yield Portal(stack)


def test_releases_are_tried_on_machines_until_the_gate_is_open_and_nothing_is_left(portal: Portal, place: Path) -> None:
    image = capture_with_approval(portal)
    good, great = portal.built("2.0", "minor"), portal.built("3.0", "major")
    for release in (good, great):
        portal["engineer"].post(f"/releases/{release}/start_test/", source_ci=portal.till, image=image)
    portal.until_run(good, "soaking")
    incident = an_incident_begins_the_period_anew(portal, good)
    portal.until_run(great, "soaking")
    for release in (good, great):
        is_a_closed_machine(portal.environment(release), image)
    two_versions_run_side_by_side(portal, image, {"2.0", "3.0"})
    a_machine_that_is_off_does_not_soak(portal, good)

    bad = portal.built("4.0", "minor", is_healthy=False)
    portal["engineer"].post(f"/releases/{bad}/start_test/", source_ci=portal.till, image=image)
    applied_again(portal, good, incident)
    less_evidence_than_needed_passes_only_by_a_second_person(portal, great)
    the_gate_opens(portal, good)
    the_bad_one_fails(portal, bad)
    portal.until("the machines of both tests are gone", lambda: not living(portal))
    portal["engineer"].post(f"/images/{image}/delete_files/")
    portal.until("nothing is left", lambda: not list(place.rglob("*.qcow2")))
    assert len(machines_below(place)) == 1, "the owner of the hypervisor, and no machine"
    assert portal.running(portal.till) == {"billing": "2.0"}


def capture_with_approval(portal: Portal) -> str:
    """The golden image of the production CI: asked for by one, allowed by another."""
    engineer = portal["engineer"]
    image = str(engineer.post("/images/", source=portal.till, reason="To try billing on it.")["number"])
    portal.refuses("engineer", f"/images/{image}/approve/", "403")
    portal["tester"].post(f"/images/{image}/approve/")
    found = portal.until(
        "the image", lambda: (i := engineer.get(f"/images/{image}/"))["state"] in {"ready", "error"} and i
    )
    assert found["state"] == "ready", found["last_error"]
    assert (found["approval"], found["approved_by"]["username"]) == ("person", "tester")
    assert (found["baseline"], found["versions"]) == ({"billing": "1.0"}, {"billing": ["0.9", "1.0"]})
    return image


def is_a_closed_machine(environment: dict[str, Any], image: str) -> None:
    assert (environment["evidence"], environment["accelerator"]) == ("emulated", "tcg")
    assert (environment["image"], environment["network"]) == (image, "isolated")
    proof = environment["isolation"]
    assert proof["holds"], proof
    assert {probe["is_reached"] for probe in proof["probes"]} == {True, False}, "with a negative control"


def two_versions_run_side_by_side(portal: Portal, image: str, versions: set[str]) -> None:
    rows = portal["engineer"].get("/environments/", image=image, unfinished=True)["results"]
    assert {portal.running(row["copy"])["billing"] for row in rows} == versions
    assert portal.running(portal.till) == {"billing": "1.0"}, "production knows nothing of it"
    portal.refuses("engineer", f"/images/{image}/delete_files/", "Destroy them first")


def an_incident_begins_the_period_anew(portal: Portal, release: str) -> str:
    """As long as it is open, the test does not pass either."""
    copy = portal.environment(release)["copy"]
    facts = {"title": "The till prints nothing", "ci": copy, "impact": "low", "urgency": "low"}
    incident = str(portal["desk"].post("/incidents/", **facts)["number"])
    portal.until("the period begins anew", lambda: portal.run(release)["restarts"] == 1)
    [period] = portal.run(release)["earlier_periods"]
    assert incident in period["why"]
    return incident


def a_machine_that_is_off_does_not_soak(portal: Portal, release: str) -> None:
    number = portal.run(release)["environment"]
    portal["engineer"].post(f"/environments/{number}/stop/")
    portal.until_environment(number, observed_power="off")
    stopped = portal.until("the clock stands still", lambda: (r := portal.run(release))["soak_paused_at"] and r)
    portal["engineer"].post(f"/environments/{number}/start/")
    portal.until_environment(number, observed_power="running")
    went_on = portal.until("the clock goes on", lambda: not (r := portal.run(release))["soak_paused_at"] and r)
    assert (went_on["state"], went_on["soaked_seconds"]) == ("soaking", stopped["soaked_seconds"])
    assert went_on["soak_started_at"] > stopped["soak_paused_at"]


def applied_again(portal: Portal, release: str, incident: str) -> None:
    """The copy goes back to its image and gets the package once more, from 1.0 to 2.0, before the test passes."""
    before = portal.run(release)
    portal["engineer"].post(f"/releases/{release}/apply_again/", reason="with the printer's driver")
    desk = portal["desk"]
    desk.post(f"/incidents/{incident}/assign/", assignee="desk")
    desk.post(f"/incidents/{incident}/start/")
    desk.post(f"/incidents/{incident}/resolve/", resolution="It was the printer.")
    portal.until_run(release, "preparing")
    run = portal.until_run(release, "soaking")
    assert (run["restarts"], run["environment"]) == (2, before["environment"])
    assert "printer's driver" in run["earlier_periods"][0]["why"]
    assert run["soak_started_at"] > before["soak_started_at"]
    assert portal.running(portal.environment(release)["copy"]) == {"billing": "2.0"}
    portal.refuses("approver", f"/releases/{release}/approve/", "409", comment="Quick!")
    portal.until_run(release, "passed")


def less_evidence_than_needed_passes_only_by_a_second_person(portal: Portal, release: str) -> None:
    """Its period is over for long, but an emulated machine is less than its type of release needs."""
    run = portal.run(release)
    assert (run["state"], run["evidence"], run["evidence_needed"]) == ("soaking", "emulated", "accelerated")
    over = "SELECT 1 FROM releases_testrun WHERE id = %s AND soak_started_at + soak_seconds * '1 s'::interval < now()"
    portal.until("its period is over", lambda: portal.stack.rows(over, run["id"]))
    assert portal.run(release)["state"] == "soaking"
    accept = f"/releases/{release}/accept_evidence/"
    portal.refuses("engineer", accept, "403", reason="I am in a hurry.")
    portal["tester"].post(accept, reason="The change is one line of text.")
    portal.until_run(release, "passed")
    [exception] = portal["tester"].get(f"/releases/{release}/")["exceptions"]
    assert (exception["kind"], exception["recorded_by"]["username"]) == ("weaker_evidence", "tester")


def the_gate_opens(portal: Portal, release: str) -> None:
    """What was tried on the copy goes to the production CI, by the same way."""
    assert portal["engineer"].get(f"/releases/{release}/")["state"] == "ready"
    portal["approver"].post(f"/releases/{release}/approve/", comment="Tried on a machine.")
    rollout = portal["starter"].post(f"/releases/{release}/start_rollout/")["number"]
    portal.until("rolled out", lambda: portal["operator"].get(f"/rollouts/{rollout}/")["state"] == "completed")


def the_bad_one_fails(portal: Portal, release: str) -> None:
    """Its copy runs what it ran before, and stays to be looked at, until somebody destroys it."""
    run = portal.until_run(release, "failed")
    assert "billing 4.0: exit status 3" in run["reason"], "what its health check said"
    assert portal["engineer"].get(f"/releases/{release}/")["state"] == "test_failed"
    environment = portal.environment(release)
    assert environment["state"] == "ready"
    assert portal.running(environment["copy"]) == {"billing": "1.0"}
    portal["engineer"].post(f"/environments/{environment['number']}/destroy/")


def living(portal: Portal) -> list[Any]:
    rows: list[Any] = portal["engineer"].get("/environments/", unfinished=True)["results"]
    return rows
