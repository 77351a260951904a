"""`make screenshots`: plays the demo with data of its own and takes the pictures of the user guide and of the README.

python docs/screenshots.py [--only NAME ...] [--data FOLDER]
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, ViewportSize, sync_playwright

HERE = Path(__file__).resolve().parent
CLONE = HERE.parent
sys.path.insert(0, str(CLONE))

from tests.browser.conftest import ARGUMENTS, chromium_path  # noqa: E402

SIZE = {"width": 1280, "height": 800}
SECONDS_FOR_THE_STORY = 600


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture: who looks, at which address (with what the demo is asked for first), and what he does there."""

    name: str
    person: str
    address: str
    act: Callable[[Page], Any] = lambda page: None
    width: int = SIZE["width"]
    height: int = SIZE["height"]


def _report(page: Page) -> None:
    page.fill("[name=title]", "Receipts come late at the till")
    page.fill("[name=description]", "Since this morning each receipt takes a minute.")


def _comment(page: Page) -> None:
    page.fill("#id_text", "The till was **restarted**; receipts still come late. @problems please have a look.")
    page.locator("form.composer").scroll_into_view_if_needed()


def _search(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("billing")
    page.wait_for_selector(".search-results a, #search-results a")


def _to(selector: str) -> Callable[[Page], None]:
    return lambda page: page.locator(selector).first.scroll_into_view_if_needed()


SHOTS = (
    Shot("home-service-desk", "desk", "/"),
    Shot("report-an-incident", "user-2", "/incidents/new/", _report),
    Shot("incident-of-a-requester", "user-1", "{incident}", width=390, height=844),
    Shot("incident", "desk", "{incident}"),
    Shot("incident-composer", "desk", "{incident}", _comment),
    Shot("incident-list", "desk", "/incidents/?scope=all"),
    Shot("search", "desk", "/", _search),
    Shot("problem", "problems", "{problem}"),
    Shot("change", "manager", "{change}"),
    Shot("calendar", "manager", "/calendar/"),
    Shot("release-test", "engineer", "{release}?tab=test"),
    Shot("rollout-broken", "starter", "{broken}"),
    Shot("ci", "engineer", "{ci}"),
    Shot("ci-impact", "engineer", "{ci}", _to("#impact")),
    Shot("test-environments", "engineer", "/environments/"),
    Shot("reports", "manager", "/reports/"),
    Shot("preferences", "user-1", "/notices/preferences/"),
)


class Demo:
    """The demo as a process of its own, which stays up until the pictures are taken."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._log = data.parent / f"{data.name}.log"

    def __enter__(self) -> str:
        self._data.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PORTAL_PROFILE": "demo", "DATA_DIR": str(self._data), "PYTHONUNBUFFERED": "1"}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "itsm_portal.demo", "--port", "0"], cwd=CLONE, env=environment, stdout=log
            )
        deadline = time.monotonic() + SECONDS_FOR_THE_STORY
        while "Ctrl-C stops everything" not in (said := self._log.read_text()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"The demo did not come up:\n{said[-2000:]}")
            time.sleep(0.5)
        return said.split("  Portal  ", 1)[1].split()[0]

    def __exit__(self, *_error: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)


def _places(url: str, password: str) -> dict[str, str]:
    """Where the story took place: addresses of the pages by their names in `SHOTS`."""
    with httpx.Client(base_url=f"{url}/api/v1", trust_env=False, timeout=30) as api:
        token = api.post("/login/", json={"username": "auditor", "password": password}).json()["token"]
        api.headers["Authorization"] = f"Token {token}"

        def first(path: str, **asked: str) -> dict[str, Any]:
            found: dict[str, Any] = api.get(path, params={"ordering": "id", **asked}).json()["results"][0]
            return found

        rollouts = api.get("/rollouts/", params={"ordering": "id"}).json()["results"]
        broken, good = (
            next(one for one in rollouts if one["state"] == state) for state in ("rolled_back", "completed")
        )
        return {
            "incident": f"/incidents/{first('/incidents/', requester='user-1')['number']}/",
            "problem": f"/problems/{first('/problems/')['number']}/",
            "change": f"/changes/{first('/changes/')['number']}/",
            "release": f"/releases/{good['release']}/",
            "broken": f"/rollouts/{broken['number']}/",
            "ci": f"/cis/{first('/cis/', q='till-002')['number']}/",
        }


def take(shots: list[Shot], url: str, password: str, folder: Path) -> None:
    """Takes the pictures, each with a session of its own."""
    places = _places(url, password)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        for shot in shots:
            size = ViewportSize(width=shot.width, height=shot.height)
            context = browser.new_context(viewport=size, reduced_motion="reduce")
            page = context.new_page()
            page.goto(f"{url}/accounts/login/")
            page.fill("#id_login", shot.person)
            page.fill("#id_password", password)
            page.click("button[type=submit]")
            page.wait_for_url(lambda address: "/login/" not in address)
            page.goto(url + shot.address.format(**places), wait_until="load")
            shot.act(page)
            page.wait_for_load_state("networkidle")
            page.screenshot(path=folder / f"{shot.name}.png")
            print(f"  {shot.name}", flush=True)
            context.close()
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="takes the pictures of the user guide")
    parser.add_argument("--only", nargs="*", help="names of pictures")
    parser.add_argument("--data", type=Path, default=CLONE / ".data" / "screenshots")
    options = parser.parse_args()
    shots = [shot for shot in SHOTS if not options.only or shot.name in options.only]
    folder = HERE / "images"
    with Demo(options.data.resolve()) as url:
        take(shots, url, (options.data / "demo-password").read_text(), folder)


if __name__ == "__main__":
    main()
