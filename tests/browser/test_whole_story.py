"""The whole story lived through in the portal: real people's pages, a real fleet of agents, no other door.

From an incident to the version that fixes it: the first one breaks and goes back, wave by wave and CI by CI; the
second one comes through, and the requesters read it in their own tickets.
"""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from itsm_portal.demo.software import BROKEN_KIND, PRODUCT, archive_of, version_on_disk
from tests.browser.person import Person
from tests.factories import PASSWORD
from tests.faults.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

BROKEN = "till-4"  # 2.0 does not run on it; it is in the second wave
EXCLUDED = "till-8"
WAVES = {
    "strategy": "phased",
    "waves": "1, 50%, rest",
    "success_threshold": "100",
    "error_threshold": "10",
    "on_error": "pause and wait for a person",
    "soak_seconds": "1",
}
SCREENSHOTS = os.environ.get("SCREENSHOTS")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    base = os.environ.get("TEST_DATABASE_NAME", "test_itsm_portal")
    stack = Stack(tmp_path_factory.mktemp("story"), os.environ["DATABASE_URL"], f"{base}_story")
    for name, host in stack.hosts.items():
        host.folder.mkdir(parents=True)
        (host.folder / "facts.json").write_text(f'{{"kind": "{BROKEN_KIND if name == BROKEN else "standard"}"}}')
    try:
        stack.start()
        stack.direct("open_doors", password=PASSWORD)
        with stack.process("run_test_hosts"):
            yield stack
    finally:
        stack.stop()


class Story:
    """The cast, each signed in at the first use, and what they have made so far."""

    def __init__(self, browser: Any, stack: Stack) -> None:
        self._browser, self.stack = browser, stack
        self.people: dict[str, Person] = {}
        self.made: dict[str, str] = {}

    def __getitem__(self, name: str) -> Person:
        if name not in self.people:
            self.people[name] = Person(
                self._browser, self.stack.url, name, PASSWORD, viewport={"width": 1360, "height": 900}
            )
        return self.people[name]

    def at(self, name: str, what: str) -> Person:
        """The person, at the page of a ticket, release or rollout of the story."""
        number = self.made[what]
        folder = {"INC": "incidents", "PRB": "problems", "CHG": "changes", "REL": "releases", "ROL": "rollouts"}
        return self[name].open(f"/{folder[number[:3]]}/{number}/")

    def until(self, what: str, ask: Callable[[], Any]) -> None:
        self.stack.until(what, ask)

    def versions(self) -> dict[str, str]:
        """What runs where, on disk."""
        return {name: version_on_disk(host.folder) for name, host in self.stack.hosts.items()}


@pytest.fixture(scope="module")
def story(browser: Any, stack: Stack) -> Story:
    return Story(browser, stack)


def test_incidents_become_a_problem_and_an_rfc_that_somebody_else_approves(story: Story) -> None:
    for number, owner, ci in (("first", "owner-1", "till-1"), ("second", "owner-2", BROKEN)):
        page = story[owner].open("/incidents/new/")
        page.fill(title=f"Receipts come late at {ci}", description="Up to **20 seconds**.", ci=ci).submit()
        story.made[number] = page.state("new").number

    desk = story["desk"].open("/incidents/")
    for box in desk.page.locator("tbody input[type=checkbox]").all():
        box.check()
    desk.page.click("#bulk button:has-text('Open a problem')")
    desk.fill(title="Receipts come late").submit()
    story.made["problem"] = desk.state("new").number

    page = story.at("problems", "problem").press("Assess").press("Start analysis")
    page.press("Document", root_cause="The ledger driver.", workaround="Print *later*.", is_known_error=True)
    page.press("Communicate workaround")
    page.page.wait_for_selector("text=Posted into 2 incidents.")
    for number in ("first", "second"):
        desk = story.at("desk", number).press("Assign").press("Start work")
        desk.press("Put on hold", reason="waiting for the problem", note="Wait for the fix.")
        desk.state("on hold")

    author = story["author"].open(f"/changes/new/?problems={story.made['problem']}")
    author.fill(products=["Billing"], implementation_plan="Roll out.", test_plan="On a copy.", backout_plan="Back.")
    story.made["change"] = author.submit().state("draft").number
    author.press("Submit").state("submitted")
    assert author.page.locator(".actions .btn", has_text="Approve").count() == 0
    story["manager"].open("/").page.wait_for_selector(f"main a:has-text('{story.made['change']}')")
    story.at("manager", "change").press("Assess", risk="low", risk_reason="Done before.").state("assessed")
    story.at("board", "change").press("Approve", comment="Go.").state("authorised")
    begin = datetime.now(UTC) - timedelta(minutes=5)
    planned = {"planned_start": begin, "planned_end": begin + timedelta(hours=8)}
    moments = {name: moment.strftime("%Y-%m-%dT%H:%M") for name, moment in planned.items()}
    story.at("manager", "change").press("Schedule", **moments).state("scheduled")


def make_release(story: Story, label: str, folder: Path) -> None:
    """From the file on the engineer's disk to a tested, approved release."""
    archive = folder / f"{PRODUCT}-{label}.tar.gz"
    archive.write_bytes(archive_of(label))
    page = story["engineer"].open(f"/software/{PRODUCT}/")
    page.page.click("text=Add a version")
    page.fill(label=label, notes="A new *driver*.").submit().fill(file=archive).submit()
    row = page.page.locator("tr", has_text=archive.name)
    row.locator(".state", has_text="ready").wait_for()

    page.open(f"/releases/new/?changes={story.made['change']}").fill(title=f"Billing {label}", versions=[label])
    story.made["release"] = page.submit().state("draft").number
    page.page.click(".states a:has-text('Plan')")
    page.fill(**WAVES).submit()
    page.press("Plan").press("Build").state("built")
    page.press("Start test", source_ci="till-1").state("testing")
    page.open(f"/releases/{story.made['release']}/?tab=test")
    story.until("the release is tested", lambda: is_ready(page))
    page.page.wait_for_selector("text=passed")
    story.at("approver", "release").press("Approve", comment="Tested.")


def is_ready(page: Person) -> bool:
    page.page.reload()
    return bool(page.page.locator(".states .state", has_text="ready").count())


def start(story: Story, who: str) -> Person:
    page = story.at(who, "release").press("Start rollout")
    page.page.wait_for_url("**/rollouts/ROL-*/")
    story.made["rollout"] = page.number
    # Who it goes to is being written; before that, nobody can be left out.
    while page.page.locator(".states .state:has-text('preparing')").count():
        page.page.wait_for_timeout(300)
        page.page.reload()
    return page


def test_a_release_that_breaks_goes_back_ci_by_ci(story: Story, tmp_path: Path) -> None:
    make_release(story, "2.0", tmp_path)
    start(story, "starter")
    # An owner keeps his CI out of it.
    story.at("owner-2", "rollout").press("Exclude a CI", ci=EXCLUDED, reason="Inventory tonight.")
    page = story.at("starter", "rollout").state("paused")
    page.page.wait_for_selector("text=Too many failures; the evidence stands in")
    broken = page.page.locator(f".cell[title^='{BROKEN} ·']")
    assert "failed" in (broken.get_attribute("title") or "")
    page.press("Retry failed")
    # It stopped by itself: somebody other than its starter lets it go on.
    story.at("approver", "rollout").press("Resume", reason="Once more.")
    again = "SELECT 1 FROM distribution_deployment WHERE attempt = 2 AND state = 'failed'"
    story.until("it fails again", lambda: story.stack.rows(again))
    page.state("paused")

    operator = story.at("operator", "rollout").page.locator(".page-head .actions .btn")
    assert operator.filter(has_text="Abort").count() == 1
    assert operator.filter(has_text="Roll back").count() == 0
    page.press("Roll back a CI", ci="till-1", reason="Its owner asks.")
    story.until("till-1 is back", lambda: story.versions()["till-1"] == "1.0")
    page.state("paused").press("Roll back a wave", wave="Wave 2: 4 CIs", reason="It breaks there.")
    story.until("wave 2 is back", lambda: set(story.versions().values()) == {"1.0"})
    page.state("paused")
    page.press("Roll back everything", reason="2.0 is no good.").state("rolled back")
    story.at("manager", "change").state("authorised")
    story.at("starter", "release").state("rolled back")


def test_the_next_release_comes_through_and_everybody_reads_it(story: Story, tmp_path: Path) -> None:
    make_release(story, "2.1", tmp_path)
    page = start(story, "starter")
    operator = story.at("operator", "rollout").press("Pause", reason="The tills are closing the day.")
    operator.state("paused")  # anybody on duty may stop it; going on is for release managers
    page.state("paused").press("Resume", reason="They are done.").state("completed")
    assert set(story.versions().values()) == {"2.1"}

    for number, owner, ci in (("first", "owner-1", "till-1"), ("second", "owner-2", BROKEN)):
        reader = story.at(owner, number)
        story.until("the fix is told", lambda reader=reader: is_resolved(reader))
        reader.page.wait_for_selector(".timeline-list :text('2.1') >> visible=true")
        reader.open("/notices/").page.wait_for_selector(f"text={story.made[number]}")
        assert ci in story[owner].open(f"/cis/{story.stack.cis[ci]['number']}/").page.inner_text("h1")
    story.at("problems", "problem").state("resolved")
    story.at("manager", "change").state("implemented")

    # One CI goes back after all: its ticket waits again, the other one stays.
    page = story.at("starter", "rollout").press("Roll back a CI", ci="till-1", reason="Its printer dislikes it.")
    story.until("till-1 is back", lambda: story.versions()["till-1"] == "1.0")
    reader = story.at("owner-1", "first")
    story.until("the fix is withdrawn", lambda: not is_resolved(reader))
    reader.state("on hold")
    story.at("owner-2", "second").press("Close").state("closed")


def is_resolved(page: Person) -> bool:
    page.page.reload()
    return bool(page.page.locator(".states .state", has_text="resolved").count())


def test_nobodys_browser_complained(story: Story) -> None:
    assert [line for person in story.people.values() for line in person.said] == []
