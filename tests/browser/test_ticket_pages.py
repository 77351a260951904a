"""Two people on one ticket: they see each other, lose nothing that they typed, and edit facts in their place."""

import os
from pathlib import Path

import pytest
from django.utils import timezone

from incidents.models import Incident
from incidents.services import comment_incident
from tests.browser.test_portal_in_a_browser import sign_in
from tests.factories import make_user
from tests.portal.story import tell_story

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SCREENSHOTS = os.environ.get("SCREENSHOTS")
LOOKS = [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)]


def shot(page, name: str) -> None:
    if SCREENSHOTS:
        # Hiding the caret would be a style that the policy forbids.
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True, caret="initial")


def write(incident: Incident, text: str) -> None:
    """A comment of the requester, who has no page open."""
    comment_incident(incident, actor=incident.requester, now=timezone.now(), text=text)


def test_two_people_work_on_one_incident_and_nobody_loses_a_word(browser, live_server) -> None:
    tell_story(3)
    make_user("carl", "service desk", password="correct horse battery staple", first_name="Carl", last_name="Colleague")
    incident = Incident.objects.filter(state="on_hold").latest("pk")
    address = f"{live_server.url}/incidents/{incident.number}/"
    dana, danas = sign_in(browser, live_server.url, "desk")
    carl, carls = sign_in(browser, live_server.url, "carl")
    dana.goto(address)
    carl.goto(address)
    carl.wait_for_selector(".presence:has-text('Dana Desk')", timeout=30_000)
    # What Carl types is kept while Dana's comment comes to his page, and after a reload.
    carl.fill("#id_text", "I look at the toner")
    dana.fill("#id_text", "Toner ordered, @carl")
    dana.click("form.composer button:has-text('Comment')")
    dana.wait_for_selector("#entries .markdown:has-text('Toner ordered')")
    assert dana.input_value("#id_text") == ""
    carl.wait_for_selector("#entries .markdown:has-text('Toner ordered')", timeout=30_000)
    assert carl.input_value("#id_text") == "I look at the toner"
    carl.wait_for_selector(".presence:has-text('Dana Desk')")
    dana.wait_for_selector(".presence:has-text('is writing')", timeout=30_000)
    shot(dana, "ticket-presence")
    carl.reload()
    assert carl.input_value("#id_text") == "I look at the toner"
    # Both edit the urgency: the second is told, and saves over it knowingly.
    for page in (dana, carl):
        page.click("#inline-urgency .edit-link")
        page.wait_for_selector("#inline-urgency select")
    dana.select_option("#inline-urgency select", "high")
    dana.click("#inline-urgency button[type=submit]")
    dana.wait_for_selector("#inline-urgency:has-text('high'):not(:has(form))")
    carl.select_option("#inline-urgency select", "low")
    carl.click("#inline-urgency button[type=submit]")
    carl.wait_for_selector("#inline-urgency .conflict:has-text('Dana Desk')")
    assert carl.input_value("#inline-urgency select") == "low"
    shot(carl, "ticket-conflict")
    carl.click("#inline-urgency button:has-text('Save mine over it')")
    carl.wait_for_selector("#inline-urgency:has-text('low'):not(:has(form))")
    assert carl.input_value("#id_text") == "I look at the toner"
    dana.wait_for_selector(".presence.is-changed", timeout=30_000)
    # A refused request is told by the browser itself; nothing else may be said.
    assert danas == []
    assert [text for text in carls if "409" not in text] == []


def test_somebody_is_mentioned_by_keyboard_and_the_text_is_looked_at_before(browser, live_server) -> None:
    tell_story(3)
    incident = Incident.objects.latest("pk")
    page, said = sign_in(browser, live_server.url, "desk")
    page.goto(f"{live_server.url}/incidents/{incident.number}/")
    page.focus("#id_text")
    page.keyboard.type("**Please** ask @cor")
    page.wait_for_selector("#mentions li:has-text('Cora Board')")
    shot(page, "ticket-mention")
    page.keyboard.press("Enter")
    assert page.input_value("#id_text") == "**Please** ask @cab "
    page.click("form.composer button:has-text('Preview')")
    page.wait_for_selector("#preview strong:has-text('Please')")
    page.click("form.composer button:has-text('Comment')")
    page.wait_for_selector(".watchers:has-text('Cora Board')")
    page.click("#watchers-title ~ .card-actions button:has-text('Follow')")
    page.wait_for_selector(".watchers:has-text('Dana Desk')")
    page.click(".timeline-only a:has-text('What changed')")
    page.wait_for_selector("#entries[data-only=changes]")
    assert page.locator("#entries .is-comment").count() == 0
    assert said == []


def test_a_draft_comes_back_for_whom_it_was_written_also_after_signing_in_again(browser, live_server) -> None:
    tell_story(3)
    incident = Incident.objects.latest("pk")
    address = f"{live_server.url}/incidents/{incident.number}/"
    page, _said = sign_in(browser, live_server.url, "desk")
    page.goto(address)
    page.check("[name=public][value='0']")
    page.fill("#id_text", "He always breaks it")
    page.reload()
    assert page.input_value("#id_text") == "He always breaks it"
    assert page.is_checked("[name=public][value='0']")
    page.check("[name=public][value='1']")
    page.reload()
    assert page.is_checked("[name=public][value='1']")
    # A draft that does not say for whom it is.
    page.evaluate(
        "localStorage.setItem(Object.keys(localStorage).find((key) => key.startsWith('draft:')), "
        "JSON.stringify({text: 'He always breaks it'}))"
    )
    page.reload()
    assert page.is_checked("[name=public][value='0']")
    # The session ends before it is sent: nothing is lost.
    cookies = page.context.cookies()
    page.context.clear_cookies(name="sessionid")
    page.click("form.composer button:has-text('Comment')")
    page.wait_for_url("**/accounts/login/**")
    page.context.add_cookies(cookies)
    page.goto(address)
    assert page.input_value("#id_text") == "He always breaks it"
    assert page.is_checked("[name=public][value='0']")
    page.click("form.composer button:has-text('Comment')")
    page.wait_for_selector("#entries .markdown:has-text('He always breaks it')")
    assert page.input_value("#id_text") == ""
    assert incident.entries.get(text="He always breaks it").is_public is False


def test_what_is_typed_into_a_form_stays_whatever_else_is_ordered_on_the_page(browser, live_server) -> None:
    tell_story(3)
    incident = Incident.objects.filter(state="on_hold").latest("pk")
    page, said = sign_in(browser, live_server.url, "desk")
    page.goto(f"{live_server.url}/incidents/{incident.number}/")
    page.click("main .actions a:has-text('Cancel')")
    page.fill("#verb-form textarea", "It was the toner")
    page.click("#inline-urgency .edit-link")
    page.select_option("#inline-urgency select", "high")
    page.click("#watchers-title ~ .card-actions button:has-text('Follow')")
    page.wait_for_selector(".watchers:has-text('Dana Desk')")
    assert page.input_value("#verb-form textarea") == "It was the toner"
    assert page.input_value("#inline-urgency select") == "high"
    page.fill("#id_text", "I found it")
    page.click("form.composer button:has-text('Comment')")
    page.wait_for_selector("#entries .markdown:has-text('I found it')")
    page.click("#inline-urgency button[type=submit]")
    page.wait_for_selector("#inline-urgency:has-text('high'):not(:has(form))")
    assert page.input_value("#verb-form textarea") == "It was the toner"
    # Another form in its place is asked for, and refused; the text goes only when it is given up.
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.click("main .actions a:has-text('Edit')")
    assert "Throw it away?" in asked[0]
    assert page.input_value("#verb-form textarea") == "It was the toner"
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("main .actions a:has-text('Edit')")
    page.wait_for_selector("#verb-form [name=title]")
    assert said == []


def test_an_entry_stands_once_in_the_timeline_whatever_was_chosen_meanwhile(browser, live_server) -> None:
    tell_story(3)
    incident = Incident.objects.filter(state="on_hold").latest("pk")
    page, said = sign_in(browser, live_server.url, "desk")
    address = f"{live_server.url}/incidents/{incident.number}/"
    page.goto(address)
    page.wait_for_selector("#entries li")
    write(incident, "First word")
    page.click(".timeline-only a:has-text('Comments')")
    page.wait_for_selector("#entries[data-only=comments] .markdown:has-text('First word')")
    write(incident, "Second word")
    page.wait_for_selector("#entries .markdown:has-text('Second word')", timeout=30_000)
    assert page.locator("#entries .markdown:has-text('First word')").count() == 1
    # Above an older part nothing new belongs: an answer to it carries no entry.
    newest = incident.entries.order_by("-pk").first()
    page.goto(f"{address}?before={newest.pk}")
    with page.expect_request(lambda request: "/live/" in request.url, timeout=30_000) as sent:
        pass
    assert "entries=none" in sent.value.url
    assert page.locator("#entries .markdown:has-text('Second word')").count() == 0
    assert said == []


def test_who_signs_out_leaves_no_draft_behind(browser, live_server) -> None:
    tell_story(3)
    incident = Incident.objects.latest("pk")
    page, _said = sign_in(browser, live_server.url, "desk")
    page.goto(f"{live_server.url}/incidents/{incident.number}/")
    page.check("[name=public][value='0']")
    page.fill("#id_text", "He always breaks it")
    page.click("[data-menu=person]")
    page.click("button:has-text('Sign out')")
    page.wait_for_url("**/accounts/login/**")
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('draft:'))") == []


@pytest.mark.parametrize(("scheme", "width"), LOOKS, ids=[f"{scheme}-{width}" for scheme, width in LOOKS])
def test_ticket_pages_fit_every_screen(browser, live_server, scheme: str, width: int) -> None:
    story = tell_story(4)
    page, said = sign_in(
        browser, live_server.url, "admin", color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    incident = next(one for one in story.incidents if one.state == "on_hold")
    for name, address in {
        "incident": f"/incidents/{incident.number}/",
        "problem": f"/problems/{story.problem.number}/",
        "change": f"/changes/{story.change.number}/",
    }.items():
        page.goto(live_server.url + address)
        if name == "incident":
            page.click("#inline-people .edit-link")
            page.wait_for_selector("#inline-people form")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} px too wide"
        shot(page, f"ticket-{name}-{scheme}-{width}")
    assert said == []


def test_files_are_chosen_pasted_taken_away_and_survive_a_refusal(browser, live_server, tmp_path, settings) -> None:
    settings.MEDIA_ROOT = tmp_path
    tell_story(3)
    incident = Incident.objects.filter(state="on_hold").latest("pk")
    page, said = sign_in(browser, live_server.url, "desk")
    page.goto(f"{live_server.url}/incidents/{incident.number}/")
    page.set_input_files("form.composer [name=files]", files=[_file("log.txt", b"it burns"), _file("secret.txt", b"x")])
    # A pasted screenshot comes beside what was chosen before.
    page.evaluate(
        """async () => {
            const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 200 });
            const brush = canvas.getContext("2d");
            brush.fillStyle = "teal";
            brush.fillRect(40, 40, 200, 100);
            const picture = await new Promise((done) => canvas.toBlob(done));
            const data = new DataTransfer();
            data.items.add(new File([picture], "screen.png", { type: "image/png" }));
            const paste = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
            document.getElementById("id_text").dispatchEvent(paste);
        }"""
    )
    page.wait_for_selector(".files-chosen li:nth-child(3)")
    shot(page, "ticket-files-chosen")
    page.click(".files-chosen button[aria-label='Do not send secret.txt']")
    # Refused: too large. What was typed and chosen is still there, and goes without what was too large.
    settings.ATTACHMENT_MAX_BYTES = 100
    page.click("form.composer button:has-text('Comment')")
    page.wait_for_selector("#verb-form .invalid-feedback:has-text('screen.png is larger')")
    assert page.locator("#verb-form [name=kept]").count() == 1
    assert page.locator(".files-chosen li").count() == 2
    shot(page, "ticket-files-refused")
    settings.ATTACHMENT_MAX_BYTES = 10_000
    page.click("form.composer button:has-text('Comment')")
    page.wait_for_selector("#entries .file.is-picture img")
    page.locator("#entries .file img").scroll_into_view_if_needed()
    shown = page.locator("#entries .file img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    assert shown == 320
    assert page.locator("#entries .file").all_inner_texts()[0].startswith("log.txt")
    assert page.locator("#entries :text('secret.txt')").count() == 0
    for theme, width in LOOKS:
        page.evaluate(f"document.documentElement.dataset.bsTheme = '{theme}'")
        page.set_viewport_size({"width": width, "height": 900})
        shot(page, f"ticket-files-{theme}-{width}")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#entries .file:has-text('log.txt') button")
    page.wait_for_selector("#entries .is-system:has-text('Removed the file log.txt')")
    assert page.locator("#entries .file").count() == 1
    # A refused request is told by the browser itself; nothing else may be said.
    assert [text for text in said if "400" not in text] == []


def _file(name: str, content: bytes) -> dict[str, object]:
    return {"name": name, "mimeType": "text/plain", "buffer": content}
