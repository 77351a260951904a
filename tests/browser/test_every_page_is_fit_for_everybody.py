"""Every page in a real browser: accessible in both themes, within the policy, silent, from this host alone."""

from typing import Any

import pytest

from tests.browser.inspector import Inspector
from tests.portal.pages import pages_of, staff_pages_of
from tests.portal.story import tell_story

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

FRAGMENTS = {"bell", "running rollouts", "rollout live", "ci options"}
LOOKS = {
    "light": ({"color_scheme": "light", "viewport": {"width": 1280, "height": 900}}, ()),
    "dark": ({"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}}, ("color-contrast",)),
    "narrow": ({"color_scheme": "light", "viewport": {"width": 390, "height": 800}}, ()),
}
WIDE = {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}}


def fails(inspector: Inspector) -> None:
    assert not inspector.wrong, f"{len(inspector.wrong)} findings\n" + "\n".join(inspector.wrong)


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_accessible_and_keeps_the_policy(browser: Any, live_server: Any, look: str) -> None:
    story = tell_story(4)
    options, rules = LOOKS[look]
    inspector = Inspector(browser, live_server.url, options).sign_in("admin")
    for name, address in {**pages_of(story), **staff_pages_of(story)}.items():
        if name not in FRAGMENTS:
            inspector.open(name, address)
            inspector.look(*rules)
    fails(inspector)


@pytest.mark.proof  # the same pages once more, with less on them
@pytest.mark.parametrize("who", ["requester", "desk", "manager"])
def test_what_each_role_sees_is_accessible(browser: Any, live_server: Any, who: str) -> None:
    story = tell_story(4)
    inspector = Inspector(browser, live_server.url, WIDE).sign_in(who)
    for name, address in pages_of(story).items():
        if name not in FRAGMENTS:
            inspector.open(f"{who}, {name}", address)
            inspector.look()
    fails(inspector)


@pytest.mark.parametrize("look", LOOKS)
def test_what_opens_on_a_page_is_accessible(browser: Any, live_server: Any, look: str) -> None:
    story = tell_story(4)
    inspector = Inspector(browser, live_server.url, LOOKS[look][0])
    inspector.open("signing in", "/accounts/login/")
    inspector.look()
    inspector.sign_in("admin")
    page = inspector.page
    inspector.open("the palette", "/")
    page.keyboard.press("/")
    page.keyboard.type("invoi")
    page.wait_for_selector("#search-results .search-hit")
    inspector.look()
    for name, button in {
        "the menu of what is new": "[data-menu=new]",
        "the person's menu": "[data-menu=person]",
    }.items():
        inspector.open(name, "/")
        page.click(button)
        page.wait_for_selector(f"{button}[aria-expanded=true]")
        inspector.look()
    inspector.open("a verb on the page", f"/incidents/{story.incidents[0].number}/")
    page.click("main .actions a.btn >> nth=0")
    page.wait_for_selector("#verb-form form")
    page.wait_for_load_state("networkidle")
    inspector.look()
    fails(inspector)


def test_a_page_that_does_not_exist_is_accessible(browser: Any, live_server: Any) -> None:
    tell_story(1)
    inspector = Inspector(browser, live_server.url, WIDE).sign_in("desk")
    inspector.open("not found", "/incidents/INC-9999999/")
    inspector.wrong.clear()  # the browser itself complains about the answer 404
    inspector.look()
    fails(inspector)


def test_nothing_moves_for_who_wants_no_motion(browser: Any, live_server: Any) -> None:
    story = tell_story(4)
    inspector = Inspector(browser, live_server.url, {**WIDE, "reduced_motion": "reduce"}).sign_in("admin")
    moving = """() => [...document.querySelectorAll("*")].flatMap((e) => ["", "::before", "::after"].map((part) => {
        const style = getComputedStyle(e, part || null);
        const moves = [style.transitionDuration, style.animationName === "none" ? "0s" : style.animationDuration];
        return moves.join().split(",").some((time) => parseFloat(time) > 0) ? e.tagName + "." + e.className + part : "";
    })).filter(Boolean)"""
    for path in ("/", f"/rollouts/{story.rollout.number}/", "/styleguide/"):
        inspector.open(path, path)
        assert inspector.page.evaluate(moving) == []
