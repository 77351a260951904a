"""The rollout page at each special state tells what is going on, also on a telephone. SHOTS=<folder> keeps pictures."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from changes.models import Change, Freeze
from cmdb.models import ConfigurationItem
from releases import probing, services
from releases.models import Release, Rollout
from tests.browser.person import Person
from tests.factories import PASSWORD, make_user
from tests.releases.world import World
from tickets.clock import database_now

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]
POLICY: dict[str, Any] = {
    "strategy": "phased",
    "waves": [{"count": 2}, {"percent": 50}, {"rest": True}],
    "error_threshold": 20,
    "soak_seconds": 3600,
    "offer_deadline": 86400,
    "progress_deadline": 86400,
    "confirm_deadline": 86400,
}
SHORT = {**POLICY, "soak_seconds": 1}
VIEWS = {
    "light": {"width": 1360, "color_scheme": "light"},
    "dark": {"width": 1360, "color_scheme": "dark"},
    "narrow": {"width": 390, "color_scheme": "light"},
}


class Scene:
    """A world whose states are looked at one after the other; each has CIs of its own."""

    def __init__(self, browser: Any, address: str) -> None:
        self.world = World(now=database_now())
        roles = ("release manager", "operator", "change manager", "administrator")
        make_user("boss", *roles, password=PASSWORD, is_superuser=True, is_staff=True)
        self.people = {
            name: Person(
                browser, address, "boss", PASSWORD, color_scheme=view["color_scheme"],
                viewport={"width": view["width"], "height": 900},
            )
            for name, view in VIEWS.items()
        }  # fmt: skip

    def fleet(self, name: str, number: int = 12) -> list[ConfigurationItem]:
        return [self.world.add_ci(f"{name}-{n:02}") for n in range(1, number + 1)]

    def approved(self, name: str, policy: dict[str, Any] = POLICY, number: int = 12, **values: Any) -> Release:
        cis = self.fleet(name, number)
        return self.world.approved(policy=policy, targets={"cis": [ci.pk for ci in cis]}, **values)

    def started(self, name: str, policy: dict[str, Any] = POLICY, number: int = 12, **values: Any) -> Rollout:
        release = self.approved(name, policy, number, **values)
        rollout = services.start_rollout(release, actor=self.world.sven, now=self.world.now)
        self.world.tick()
        return rollout

    def cis(self, name: str, first: int, last: int) -> list[ConfigurationItem]:
        return [d.ci for d in self.world.devices if d.ci.name in {f"{name}-{n:02}" for n in range(first, last + 1)}]

    def soaking(self, name: str, policy: dict[str, Any] = POLICY, **values: Any) -> Rollout:
        rollout = self.started(name, policy, **values)
        self.world.work(*self.cis(name, 1, 2))
        self.world.tick(1)
        return rollout

    def look(self, name: str, path: str, *texts: str) -> None:
        """The page shows the texts in every view, is no wider than its window, and the console has nothing to say."""
        for view, person in self.people.items():
            person.open(path)
            if "tab=plan" in path:
                person.page.wait_for_selector("#dry-run .notice", timeout=60_000)
            if folder := os.environ.get("SHOTS"):
                Path(folder).mkdir(parents=True, exist_ok=True)
                person.shot(Path(folder) / f"{name}-{view}.png")
            shown = person.page.inner_text("main")
            for text in texts:
                assert text.lower() in shown.lower(), f"{name}, {view}: no “{text}”"
            wide = person.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name}, {view}: {wide} px too wide"
            assert person.said == []

    def see(self, name: str, rollout: Rollout, *texts: str) -> None:
        self.look(name, f"/rollouts/{rollout.number}/", *texts)


def test_each_special_state_says_what_is_going_on(browser, live_server, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(browser, live_server.url)
    world = scene.world
    monkeypatch.setattr("releases.probing.database_now", lambda: world.now)

    planned = scene.approved("planned")
    scene.look("plan", f"/releases/{planned.number}/?tab=plan", "Dry run", "Big bang")
    services.schedule_start(planned, actor=world.sven, now=world.now, start_at=world.now + timedelta(hours=5))
    scene.look("scheduled", f"/releases/{planned.number}/?tab=rollout", "Scheduled", "starts by itself")

    running = scene.started("running", SHORT)
    world.work(*scene.cis("running", 1, 2))
    world.tick()
    world.tick(2)
    world.mood("hangs", *scene.cis("running", 3, 5))
    world.work(*scene.cis("running", 3, 6))
    world.tick()
    scene.see("running", running, "running")

    paused = scene.soaking("paused")
    services.pause_rollout(paused, actor=world.olga, now=world.now, reason="The shop is full of people.")
    scene.see("paused-by-a-person", paused, "paused", "The shop is full of people")

    frozen = scene.started("frozen")
    world.work(*scene.cis("frozen", 1, 1))
    freeze = Freeze.objects.create(
        name="Month end", reason="Books are closed", starts_at=world.now, ends_at=world.now + timedelta(hours=8),
        created_by=world.rita, created_at=world.now,
    )  # fmt: skip
    world.tick(1)
    scene.see("paused-by-a-freeze", frozen, "paused", "Month end")
    freeze.delete()
    world.tick(1)

    late = scene.started("late", changes=[world.change(planned_end=world.now + timedelta(minutes=5))])
    world.work(*scene.cis("late", 1, 1))
    world.tick(600)
    scene.see("paused-by-the-window", late, "paused", "planned")
    Change.objects.filter(releases__rollouts=late).update(planned_end=world.now + timedelta(days=30))

    breach = scene.started("breach")
    world.mood("fails", *scene.cis("breach", 1, 1))
    world.work(*scene.cis("breach", 1, 2))
    world.tick()
    scene.see("paused-by-a-breach", breach, "paused", "failed")

    probe = {"check": "health", "every": 5, "timeout": 10, "samples": 2, "failures": 1}
    asked = scene.soaking("probe", {**POLICY, "probes": [probe]})
    probing.take_samples()
    world.tick(11)
    probing.take_samples()
    world.tick(1)
    scene.see("paused-by-a-probe", asked, "paused", "neither yes nor no")

    gate = scene.soaking("gate", {**SHORT, "probes": [{**probe, "timeout": 3600}]})
    world.tick(5)
    scene.see("soaking-with-a-gate-open", gate, "Waiting: the probes of wave 1")

    aborting = scene.started("aborting", {**POLICY, "waves": [{"count": 6}, {"rest": True}]})
    world.mood("hangs", *scene.cis("aborting", 1, 4))
    world.work(*scene.cis("aborting", 1, 4))
    services.abort_rollout(aborting, actor=world.olga, now=world.now, reason="Wrong file")
    world.tick(1)
    scene.see("aborting", aborting, "aborting")

    back = scene.soaking("back", {**SHORT, "waves": [{"count": 8}, {"rest": True}]})
    world.work(*scene.cis("back", 1, 8))
    world.tick(1)
    services.roll_back_rollout(back, actor=world.sven, now=world.now, reason="Prices are wrong")
    world.tick(1)
    world.work(*scene.cis("back", 1, 3))
    world.tick(1)
    scene.see("rolling-back", back, "rolling back", "5 CIs are not back")

    stopped = scene.soaking(
        "stopped", {**SHORT, "waves": [{"rest": True}], "rollback": {"error_threshold": 10, "max_in_flight": 3}}
    )
    world.work(*scene.cis("stopped", 1, 12))
    world.tick(1)
    services.roll_back_rollout(stopped, actor=world.sven, now=world.now, reason="Prices are wrong")
    world.tick(1)
    world.mood("fails", *scene.cis("stopped", 1, 3))
    world.work(*scene.cis("stopped", 1, 3))
    world.tick(1)
    scene.see("rollback-stopped", stopped, "Waiting: a person", "did not come back")

    done = scene.started(
        "done", {**SHORT, "strategy": "big_bang", "waves": [{"rest": True}], "success_threshold": 70,
                 "overdue_counts_as": "skipped", "offer_deadline": 60},
    )  # fmt: skip
    world.mood("offline", *scene.cis("done", 10, 12))
    world.work(*scene.cis("done", 1, 12))
    world.tick(120)
    world.tick(2)
    world.tick(2)
    scene.see("completed-with-stragglers", done, "completed", "3 CIs do not have it")
    scene.look("operations", "/operations/", "tick")
