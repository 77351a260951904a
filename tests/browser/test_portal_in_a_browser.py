"""The portal as people use it: a real browser, the real policy, no word on the console."""

from typing import Any

import pytest

from incidents.models import Incident
from tests.factories import PASSWORD
from tests.portal.pages import pages_of, staff_pages_of
from tests.portal.story import tell_story

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def sign_in(browser: Any, address: str, name: str, **options: Any) -> tuple[Any, list[str]]:
    """A page on which this person is signed in, and what its console has said."""
    page = browser.new_context(**options).new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{address}/accounts/login/")
    page.fill("#id_login", name)
    page.fill("#id_password", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_selector("h1:has-text('Good day')")
    return page, said


def test_a_requester_reports_an_incident_and_the_desk_resolves_it(browser, live_server) -> None:
    story = tell_story(4)
    page, said = sign_in(browser, live_server.url, "requester")
    page.click("main a:has-text('Report an incident')")
    page.fill("[name=title]", "The printer smokes")
    page.press("[name=ci]", "s")
    page.fill("[name=ci]", story.cis[0].name)
    page.click("main button[type=submit]")
    page.wait_for_selector("h1:has-text('The printer smokes')")
    page.fill("#id_text", "It is **loud**, too.")
    page.click(".composer button")
    page.wait_for_selector(".timeline-list strong:has-text('loud')")
    number = Incident.objects.get(title="The printer smokes").number

    desk, heard = sign_in(browser, live_server.url, "desk")
    desk.keyboard.press("/")
    desk.keyboard.type(number.lower().replace("-", ""))
    desk.keyboard.press("Enter")
    desk.wait_for_selector("h1:has-text('The printer smokes')")
    desk.click("main button:has-text('Start work')")
    desk.wait_for_selector(".states .state:has-text('in progress')")
    desk.click("main a:has-text('Resolve')")
    desk.fill("#verb-form textarea", "Pulled the plug.")
    desk.click("#verb-form button[type=submit]")
    desk.wait_for_selector(".states .state:has-text('resolved')")
    desk.wait_for_selector(".portal-toast")
    assert desk.url.endswith(f"/incidents/{number}/")
    assert said == []
    assert heard == []


def test_a_refusal_stands_in_the_form_and_keeps_the_text(browser, live_server) -> None:
    story = tell_story(4)
    incident = next(i for i in story.incidents if i.state == "on_hold")
    page, _said = sign_in(browser, live_server.url, "desk")
    page.goto(f"{live_server.url}/incidents/{incident.number}/")
    page.click("main a:has-text('Resolve')")
    page.fill("#verb-form textarea", "Typed with care.")
    Incident.objects.filter(pk=incident.pk).update(state="closed", hold_reason="")
    page.click("#verb-form button[type=submit]")
    page.wait_for_selector("#verb-form .alert, #verb-form .notice")
    assert page.input_value("#verb-form textarea") == "Typed with care."


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1360), ("dark", 1360), ("light", 390)], ids=["light", "dark", "narrow"]
)
def test_no_page_breaks_the_policy_or_the_width(browser, live_server, scheme: str, width: int) -> None:
    story = tell_story(4)
    page, said = sign_in(
        browser, live_server.url, "admin", color_scheme=scheme, viewport={"width": width, "height": 800}
    )
    fragments = {"bell", "running rollouts", "rollout live", "ci options"}
    for name, address in {**pages_of(story), **staff_pages_of(story)}.items():
        if name in fragments:
            continue
        page.goto(live_server.url + address)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} px too wide"
        assert page.evaluate("document.documentElement.getAttribute('data-bs-theme')") == scheme, name
    assert said == []


def test_the_live_page_follows_the_rollout(browser, live_server) -> None:
    story = tell_story(6)
    page, said = sign_in(browser, live_server.url, "manager")
    page.goto(f"{live_server.url}/rollouts/{story.rollout.number}/")
    page.click("main a:has-text('Pause')")
    page.fill("#verb-form textarea", "Let us look.")
    page.click("#verb-form button[type=submit]")
    page.wait_for_selector(".states .state:has-text('paused')")
    type(story.rollout).objects.filter(pk=story.rollout.pk).update(state="running", updated_at=story.rollout.started_at)
    page.wait_for_selector(".states .state:has-text('running')", timeout=8000)
    assert said == []
