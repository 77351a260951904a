"""Lists and the search palette by keyboard, as somebody uses them all day."""

import os
from pathlib import Path

import pytest

from incidents.models import Incident
from tests.browser.test_portal_in_a_browser import sign_in
from tests.portal.story import tell_story

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SCREENSHOTS = os.environ.get("SCREENSHOTS")
LOOKS = [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 2560)]


def shot(page, name: str) -> None:
    if SCREENSHOTS:
        # Hiding the caret would be a style that the policy forbids.
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True, caret="initial")


def test_rows_are_walked_chosen_and_worked_on_by_keyboard(browser, live_server) -> None:
    tell_story(6)
    page, said = sign_in(browser, live_server.url, "desk")
    page.goto(f"{live_server.url}/incidents/?scope=all")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.wait_for_selector(".bulk:has-text('2 chosen')")
    chosen = [box.get_attribute("value") for box in page.locator("input[name=pick]:checked").all()]
    page.click("#bulk button:has-text('Cancel')")
    assert page.locator("tbody tr").count() == 2
    page.fill("main [name=reason]", "A drill.")
    page.click("main form button[type=submit]")
    page.wait_for_selector("th:has-text('result')")
    shot(page, "bulk")
    assert page.locator("tbody tr").count() == len(chosen) == 2
    page.goto(f"{live_server.url}/incidents/?scope=all")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/incidents/INC-*/")
    assert said == []


def test_a_list_is_narrowed_in_place_and_kept(browser, live_server) -> None:
    tell_story(6)
    page, said = sign_in(browser, live_server.url, "desk")
    page.goto(f"{live_server.url}/incidents/?scope=all")
    page.select_option("[name=state]", label="on hold")
    page.wait_for_url("**state=on_hold**")
    page.click("summary:has-text('Keep this view')")
    page.fill("#view_name", "Waiting")
    page.click(".list-keep button:has-text('Keep')")
    page.wait_for_selector(".list-view.is-active:has-text('Waiting')")
    page.click("summary:has-text('Columns')")
    page.uncheck("input[name=col][value=ci]")
    page.click(".list-keep button:has-text('Show')")
    page.wait_for_selector("th:has-text('CI')", state="detached")
    assert said == []


def test_the_palette_finds_while_one_types(browser, live_server) -> None:
    tell_story(6)
    incident = Incident.objects.latest("pk")
    page, said = sign_in(browser, live_server.url, "desk")
    page.keyboard.press("Control+k")
    page.keyboard.type("invoi")
    page.wait_for_selector("#search-results .search-hit")
    shot(page, "palette")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "search"
    page.fill("#search", incident.number.lower().replace("-", ""))
    page.wait_for_selector(f"#search-results .search-hit:has-text('{incident.number}')")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"h1:has-text('{incident.number}')")
    assert said == []


@pytest.mark.parametrize(("scheme", "width"), LOOKS, ids=[f"{scheme}-{width}" for scheme, width in LOOKS])
def test_lists_search_and_style_guide_fit_every_screen(browser, live_server, scheme: str, width: int) -> None:
    tell_story(8)
    page, said = sign_in(
        browser, live_server.url, "admin", color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    for name, address in {
        "incidents": "/incidents/?scope=all&assignee=-",
        "cis": "/cis/",
        "search": "/search/?q=invoice",
        "styleguide": "/styleguide/",
    }.items():
        page.goto(live_server.url + address)
        page.wait_for_load_state("networkidle")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} px too wide"
        shot(page, f"{name}-{scheme}-{width}")
    assert said == []
