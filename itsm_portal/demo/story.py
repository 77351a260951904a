"""The story, told by people through the API: from incidents to the version that fixes them, with one bad release.

Billing 2.0 breaks in the second wave and goes back by itself; 2.1 goes through while an agent and the worker are
killed; 2.1.1 is a small emergency patch for everybody at once.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from itsm_portal.demo.key_holder import KeyHolder
from itsm_portal.demo.people import Person, Refused
from itsm_portal.demo.seed import FLEET, TEST_SOURCE, ci_name, owner_of
from itsm_portal.demo.software import PRODUCT, archive_of

# Who has trouble on which till server: owners report it themselves, users call the service desk.
REPORTS: tuple[tuple[str, int], ...] = (
    ("owner-2", 2),
    ("owner-6", 14),
    ("owner-5", 5),
    ("user-1", 9),
    ("user-1", 37),
    ("user-2", 23),
    ("owner-3", 19),
)
WAVE_SOAK = 3
# An emulated machine takes its time, more so on a busy host. Seconds.
FILES_PATIENCE, MACHINE_PATIENCE = 60, 900
PHASED: dict[str, Any] = {
    "strategy": "phased",
    "waves": [{"count": 1}, {"percent": 25}, {"rest": True}],
    "success_threshold": 100,
    "error_threshold": 20,
    "on_error": "rollback_all",
    "soak_seconds": WAVE_SOAK,
    "offer_deadline": 60,
    "progress_deadline": 60,
    "confirm_deadline": 60,
}
BIG_BANG: dict[str, Any] = {
    **{key: PHASED[key] for key in PHASED if key.endswith("_deadline")},
    "strategy": "big_bang",
    "success_threshold": 100,
    "error_threshold": 10,
    "on_error": "pause",
    "soak_seconds": 1,
    "max_in_flight": 15,
}


class StoryFailed(RuntimeError):
    """A step did not come about in time."""


@dataclass
class Told:
    """What the story made, for those who verify it."""

    incidents: list[str] = field(default_factory=list)
    problem: str = ""
    change: str = ""
    patch_change: str = ""
    releases: dict[str, str] = field(default_factory=dict)
    rollouts: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    killed: dict[str, int] = field(default_factory=dict)
    refused_unsigned: list[str] = field(default_factory=list)
    image: str = ""


class Story:
    """Plays the story against a running portal. `kill` ends a part of it by name, as a fault would."""

    def __init__(
        self,
        base_url: str,
        password: str,
        *,
        say: Callable[[str], None],
        kill: Callable[[str], bool],
        holder: KeyHolder,
        with_machine: bool = False,
    ) -> None:
        self.with_machine = with_machine
        self.say = say
        self.kill = kill
        self.holder = holder
        self.told = Told()
        self.people: dict[str, Person] = {}
        self.base_url, self.password = base_url, password
        self.cis: dict[str, str] = {}

    def __getitem__(self, name: str) -> Person:
        """The person, logged in at the first use."""
        if name not in self.people:
            self.people[name] = Person(self.base_url, name, self.password)
        return self.people[name]

    @contextmanager
    def _phase(self, name: str, title: str) -> Iterator[None]:
        self.say(f"▶ {title}")
        begun = time.monotonic()
        yield
        self.told.seconds[name] = round(time.monotonic() - begun, 1)

    def _until(self, what: str, ask: Callable[[], Any], seconds: float = 90) -> Any:
        """Asks until the answer is true; fails with `what` after so many seconds."""
        deadline = time.monotonic() + seconds
        while not (found := ask()):
            if time.monotonic() > deadline:
                raise StoryFailed(f"after {seconds:.0f} s still not: {what}")
            time.sleep(0.25)
        return found

    def play(self) -> Told:
        with self._phase("fleet", f"{FLEET} agents report what they run"):
            self._until("every agent has reported", self._fleet_reported)
        with self._phase("tickets", "Incidents, their problem, an RFC approved by somebody else"):
            self._report_and_group()
            self.told.change = self._change(
                "normal", "Replace the ledger driver in billing", problems=[self.told.problem]
            )
        if self.with_machine:
            with self._phase("image", f"The disk of {ci_name(TEST_SOURCE)} becomes an image, allowed by somebody else"):
                self._capture()
        with self._phase("release 2.0", "Release 2.0: tested on a copy, then a phased rollout that breaks in wave 2"):
            rollout = self._release("2.0", "minor", self.told.change, PHASED)
            self._follow(rollout, {"rolled_back", "rolled_back_with_exceptions"})
        with self._phase("release 2.1", "Release 2.1: the same RFC, while an agent and the worker are killed"):
            rollout = self._release("2.1", "minor", self.told.change, PHASED)
            self._kill_in_the_middle(rollout)
            self._follow(rollout, {"completed"})
            self._until("every ticket is told", lambda: self._are_resolved())
        with self._phase("release 2.1.1", "Emergency patch 2.1.1: big bang, at most 15 at a time"):
            self.told.patch_change = self._change("emergency", "Correct the rounding of receipts")
            rollout = self._release("2.1.1", "emergency", self.told.patch_change, BIG_BANG)
            self._follow(rollout, {"completed"})
        if self.with_machine:
            with self._phase("removal", "The last machine and the image go"):
                self._remove_image()
        return self.told

    # --- before ---------------------------------------------------------------------------------------------
    def _fleet_reported(self) -> bool:
        page = self["engineer"].get("/cis/", limit=500)
        self.cis = {row["name"]: row["number"] for row in page["results"]}
        first, last = (self.cis.get(ci_name(n)) for n in (1, FLEET))
        if first is None or last is None:
            return False
        return all(
            any(v["product"] == PRODUCT for v in self["engineer"].get(f"/cis/{self.cis[ci_name(n)]}/")["installed"])
            for n in range(FLEET, 0, -1)
        )

    # --- tickets --------------------------------------------------------------------------------------------
    def _report_and_group(self) -> None:
        for username, number in REPORTS:
            reporter, on_behalf = (username, {}) if owner_of(number) == username else ("desk", {"requester": username})
            made = self[reporter].post(
                "/incidents/",
                **on_behalf,
                title=f"Receipts come late in shop {number:03d}",
                description="The till waits up to **20 seconds** before a receipt is printed.",
                ci=self.cis[ci_name(number)],
                impact="medium",
                urgency="high",
            )
            self.told.incidents.append(made["number"])
        desk = self["desk"]
        for incident in self.told.incidents:
            desk.post(f"/incidents/{incident}/assign/", assignee="desk", team="Service desk")
            desk.post(f"/incidents/{incident}/start/")
        problem = desk.post(
            "/problems/",
            title="Billing waits for the ledger",
            description="The same delay in several shops since the last month's closing.",
            incidents=self.told.incidents,
            impact="high",
            urgency="medium",
        )["number"]
        self.told.problem = problem
        manager = self["problems"]
        manager.post(f"/problems/{problem}/assess/")
        manager.post(f"/problems/{problem}/analyse/")
        manager.post(
            f"/problems/{problem}/document/",
            root_cause="The ledger driver of billing 1.0 opens a new connection for every receipt.",
            workaround="Restart billing in the morning: the delay is gone for some hours.",
            is_known_error=True,
        )
        manager.post(f"/problems/{problem}/communicate_workaround/")
        for incident in self.told.incidents:
            desk.post(f"/incidents/{incident}/hold/", reason="problem", note=f"Waits for the fix of {problem}.")
        self.say(f"  {len(self.told.incidents)} incidents → {problem}, workaround communicated")

    def _change(self, change_type: str, title: str, problems: list[str] | None = None) -> str:
        start = datetime.now(UTC) - timedelta(minutes=1)
        number: str = self["author"].post(
            "/changes/",
            title=title,
            change_type=change_type,
            activity="repair",
            problems=problems or [],
            products=[PRODUCT],
            implementation_plan="Roll out the new version of billing to every till server.",
            test_plan="Run it on a copy of a till server for the problem-free period.",
            backout_plan="Roll back to the version before.",
        )["number"]
        self["author"].post(f"/changes/{number}/submit/")
        self["manager"].post(f"/changes/{number}/assess/", risk="medium", risk_reason="Every shop is concerned.")
        approver = "emergency" if change_type == "emergency" else "board"
        self[approver].post(f"/changes/{number}/approve/", comment="The way back is known.")
        self["manager"].post(
            f"/changes/{number}/schedule/",
            planned_start=start.isoformat(),
            planned_end=(start + timedelta(hours=8)).isoformat(),
        )
        self.say(f"  {number} approved by {approver}, scheduled")
        return number

    # --- releases -------------------------------------------------------------------------------------------
    def _release(self, label: str, release_type: str, change: str, policy: dict[str, Any]) -> str:
        engineer = self["engineer"]
        version = engineer.post("/versions/", product=PRODUCT, label=label, notes=f"Implements {change}.")
        engineer.upload(f"/versions/{version['id']}/artifact/", f"{PRODUCT}-{label}.tar.gz", archive_of(label))
        release: str = engineer.post(
            "/releases/",
            title=f"Billing {label}",
            release_type=release_type,
            changes=[change],
            versions=[f"{PRODUCT}/{label}"],
            policy=policy,
            targets={"ci_classes": ["till-server"]},
        )["number"]
        self.told.releases[label] = release
        engineer.post(f"/releases/{release}/plan/")
        engineer.post(f"/releases/{release}/build/")
        self._sign(release, label)
        image = {"image": self.told.image} if self.with_machine else {}
        engineer.post(f"/releases/{release}/start_test/", source_ci=self.cis[ci_name(TEST_SOURCE)], **image)
        self.say(f"  {release} is tested on a copy of {ci_name(TEST_SOURCE)}")
        patience = MACHINE_PATIENCE if self.with_machine else FILES_PATIENCE
        state = self._until(
            f"test of {release} over", lambda: self._left("/releases/", release, {"testing"}), seconds=patience
        )
        if state != "ready":
            raise StoryFailed(f"{release} is {state}, not ready")
        self["approver"].post(f"/releases/{release}/approve/", comment="Tested, way back known.")
        rollout: str = self["starter"].post(f"/releases/{release}/start_rollout/")["number"]
        self.told.rollouts[label] = rollout
        self.say(f"  {release} approved, {rollout} started")
        return rollout

    def _capture(self) -> None:
        """The golden image that the machines are clones of."""
        engineer = self["engineer"]
        source = self.cis[ci_name(TEST_SOURCE)]
        image = engineer.post("/images/", source=source, reason="To try releases of billing on machines.")["number"]
        self["approver"].post(f"/images/{image}/approve/")
        self.say(f"  {image}: asked for by engineer, allowed by approver")
        is_over = self._until(
            f"{image} captured", lambda: self._left("/images/", image, {"approved", "capturing"}), MACHINE_PATIENCE
        )
        if is_over != "ready":
            raise StoryFailed(f"{image} is {is_over}: {engineer.get(f'/images/{image}/')['last_error']}")
        self.told.image = image

    def _remove_image(self) -> None:
        engineer = self["engineer"]

        def is_free() -> bool:
            return not engineer.get("/environments/", unfinished=True)["results"]

        self._until("no machine is left", is_free, MACHINE_PATIENCE)
        engineer.post(f"/images/{self.told.image}/delete_files/")
        self._until(
            "the image is deleted", lambda: self._left("/images/", self.told.image, {"deleting"}), MACHINE_PATIENCE
        )

    def _sign(self, release: str, label: str) -> None:
        """The key holder signs what the release needs, after the portal has refused to test it unsigned."""
        engineer = self["engineer"]
        try:
            engineer.post(f"/releases/{release}/start_test/", source_ci=self.cis[ci_name(TEST_SOURCE)])
        except Refused as refusal:
            if "signatures_missing" not in str(refusal):
                raise
            self.told.refused_unsigned.append(label)
        request = engineer.get(f"/releases/{release}/signing_request/")
        envelopes = [*self.holder.key_set(), *self.holder.sign(request)]
        accepted = engineer.post("/signatures/", envelopes=envelopes)["accepted"]
        self.say(f"  the key holder signs offline: {'; '.join(accepted)}")

    def _left(self, path: str, number: str, states: set[str]) -> str:
        state: str = self["engineer"].get(f"{path}{number}/")["state"]
        return "" if state in states else state

    def _follow(self, rollout: str, ends: set[str]) -> None:
        """Shows the progress until the rollout has ended in one of `ends` and its tickets are told."""
        shown = ""
        deadline = time.monotonic() + 90
        while True:
            row = self["operator"].get(f"/rollouts/{rollout}/")
            line = f"  {rollout} {row['state']}: " + " | ".join(_wave_line(wave) for wave in row["waves"])
            if line != shown:
                self.say(line)
                shown = line
            if row["state"] in ends:
                break
            if row["state"] in {"paused", "aborted", "completed", "rolled_back", "rolled_back_with_exceptions"}:
                raise StoryFailed(f"{rollout} is {row['state']}: {row['pause_reason']}")
            if time.monotonic() > deadline:
                raise StoryFailed(f"{rollout} is still {row['state']} after 90 s")
            time.sleep(0.3)
        release = row["release"]
        self._until(f"{release} told", lambda: self._left("/releases/", release, {"deploying"}))
        if "completed" not in ends:
            change = self.told.change
            self._until(f"{change} backed out", lambda: self._left("/changes/", change, {"implementing"}))

    def _are_resolved(self) -> bool:
        rows = self["desk"].get("/incidents/", state="resolved", limit=100)["results"]
        return set(self.told.incidents) <= {row["number"] for row in rows}

    def _kill_in_the_middle(self, rollout: str) -> None:
        """Kills the worker as soon as the second wave is under way, and an agent that has something to install."""

        def second_wave_is_open() -> bool:
            waves = self["operator"].get(f"/rollouts/{rollout}/")["waves"]
            return any(w["kind"] == "forward" and w["number"] == 2 and w["state"] == "deploying" for w in waves)

        self._until("the second wave is open", second_wave_is_open)
        for part in ("worker", ci_name(5)):
            if self.kill(part):
                self.told.killed[part] = self.told.killed.get(part, 0) + 1
                self.say(f"  kill -9 {part}")


def _wave_line(wave: dict[str, Any]) -> str:
    counts = wave["counts"]
    name = "back" if wave["kind"] == "rollback" else f"wave {wave['number']}"
    under_way = sum(counts[s] for s in ("offered", "downloading", "installing", "confirming", "cancelling"))
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    done = counts["succeeded"] + counts["skipped"]
    return (
        f"{name} {wave['state']} {done}/{counts['total']}" + (f", {under_way} under way" if under_way else "") + failed
    )
