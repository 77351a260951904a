"""The calendar in a real browser: a change is moved by mouse and by keys, and what conflicts is seen before."""

from datetime import timedelta
from typing import Any

import pytest

from changes.models import Change, Freeze
from tests.factories import PASSWORD
from tests.portal.story import Story, tell_story
from tickets.clock import database_now

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
DAY = timedelta(days=1)


@pytest.fixture
def story() -> Story:
    """A scheduled change on the Tuesday of next week, 9 to 11 UTC, and a freeze on the Thursday."""
    told = tell_story(2)
    today = database_now().replace(hour=0, minute=0, second=0, microsecond=0)
    monday = today + (7 - today.weekday()) * DAY
    start = monday + DAY + timedelta(hours=9)
    Change.objects.filter(pk=told.change.pk).update(
        state="scheduled", planned_start=start, planned_end=start + timedelta(hours=2)
    )
    told.change.refresh_from_db()
    Freeze.objects.create(
        name="Year end", reason="Books.", starts_at=monday + 3 * DAY, ends_at=monday + 4 * DAY, created_by=told.changer,
        created_at=today,
    )  # fmt: skip
    return told


def open_calendar(browser: Any, address: str, story: Story, view: str, **options: Any) -> tuple[Any, list[str]]:
    page = browser.new_context(viewport={"width": 1360, "height": 1400}, **options).new_page()
    page.set_default_timeout(30_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{address}/accounts/login/")
    page.fill("#id_login", "cab")
    page.fill("#id_password", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_selector("h1:has-text('Good day')")
    page.goto(f"{address}/calendar/?view={view}&kind=change&kind=freeze&date={story.change.planned_start:%Y-%m-%d}")
    return page, said


def drag(page: Any, source: Any, x: float, y: float) -> None:
    """Takes an entry with the mouse and lets it go somewhere else, in steps as a hand does."""
    box = source.bounding_box()
    page.mouse.move(box["x"] + 8, box["y"] + 8)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 12, steps=3)
    page.mouse.move(x, y, steps=8)
    page.mouse.up()
    page.wait_for_selector("#verb-form form")


def planned_start(story: Story) -> Any:
    return Change.objects.get(pk=story.change.pk).planned_start


def test_a_change_is_dragged_in_the_month_and_its_conflict_is_seen_first(browser, live_server, story) -> None:
    page, said = open_calendar(browser, live_server.url, story, "month")
    before = story.change.planned_start
    thursday = page.locator(f".cal-cell[data-date='{before + 2 * DAY:%Y-%m-%d}']").bounding_box()
    drag(page, page.locator(".cal-entry[data-move]").first, thursday["x"] + 40, thursday["y"] + 60)
    assert "Year end" in page.inner_text("#verb-panel")
    assert page.input_value("#verb-form [name=planned_start]") == f"{before + 2 * DAY:%Y-%m-%dT%H:%M}"
    assert planned_start(story) == before
    page.click("#verb-form button[type=submit]")
    page.wait_for_selector("#verb-form .alert")
    assert planned_start(story) == before
    page.check("#verb-form [name=seen_conflicts]")
    page.click("#verb-form button[type=submit]")
    page.wait_for_selector(".portal-toast")
    assert "/calendar/?view=month" in page.url
    assert planned_start(story) == before + 2 * DAY
    # The refusal is an answer with 409, which the browser names on its console.
    assert [text for text in said if "409" not in text] == []


def test_a_change_is_dragged_to_another_hour_of_the_week(browser, live_server, story) -> None:
    page, said = open_calendar(browser, live_server.url, story, "week")
    before = story.change.planned_start
    entry = page.locator(".cal-column .cal-entry[data-move]").first
    entry.scroll_into_view_if_needed()
    column = page.locator(f".cal-column[data-date='{before + DAY:%Y-%m-%d}']").bounding_box()
    box = entry.bounding_box()
    drag(page, entry, column["x"] + 30, box["y"] + 8 + 3 * column["height"] / 24)
    wanted = before + DAY + timedelta(hours=3)
    assert page.input_value("#verb-form [name=planned_start]") == f"{wanted:%Y-%m-%dT%H:%M}"
    assert "nothing stands against it" in page.inner_text("#verb-panel")
    page.click("#verb-form button[type=submit]")
    page.wait_for_selector(".portal-toast")
    assert planned_start(story) == wanted
    assert said == []


def test_a_click_opens_the_change_and_keys_move_it(browser, live_server, story) -> None:
    page, said = open_calendar(browser, live_server.url, story, "month")
    page.focus(".cal-entry[data-move]")
    page.keyboard.press("Alt+ArrowRight")
    page.wait_for_selector("#verb-form form")
    moved = story.change.planned_start + DAY
    assert page.input_value("#verb-form [name=planned_start]") == f"{moved:%Y-%m-%dT%H:%M}"
    page.keyboard.press("Escape")
    page.wait_for_selector("#verb-form form", state="detached")
    page.focus(".cal-entry[data-move]")
    page.keyboard.press("m")
    page.wait_for_selector("#verb-form form")
    page.click("#verb-form [data-cancel]")
    page.click(".cal-entry[data-move]")
    page.wait_for_url(f"**/changes/{story.change.number}/")
    assert said == []


def test_without_javascript_a_form_moves_it(browser, live_server, story) -> None:
    page, _said = open_calendar(browser, live_server.url, story, "day", java_script_enabled=False)
    page.click(f"a[aria-label='Move {story.change.number}']")
    freeze = story.change.planned_start + 2 * DAY
    page.fill("[name=planned_start]", f"{freeze:%Y-%m-%dT%H:%M}")
    page.fill("[name=planned_end]", f"{freeze + timedelta(hours=1):%Y-%m-%dT%H:%M}")
    page.click("#verb-form button[type=submit]")
    assert "Year end" in page.inner_text("#verb-panel")
    page.check("[name=seen_conflicts]")
    page.click("#verb-form button[type=submit]")
    page.wait_for_selector("#calendar")
    assert planned_start(story) == freeze


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280), ("light", 2560)])
def test_no_view_is_wider_than_its_page(browser, live_server, story, scheme: str, width: int) -> None:
    page, said = open_calendar(browser, live_server.url, story, "month", color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    for view, following in (("month", "Week"), ("week", "Time line"), ("timeline", "Day"), ("day", "")):
        page.wait_for_selector(f"#calendar.is-{view}")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, view
        page.wait_for_selector(f"#calendar [href='/changes/{story.change.number}/']")
        if following:
            page.click(f"#calendar nav a:text-is('{following}')")
    assert said == []
