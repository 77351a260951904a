"""The calendar: what stands in it for whom, in which view, and moving a change from there."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from changes.models import Change, Freeze
from cmdb.models import CIGroup, MaintenanceWindow, Relation
from itsm_portal.calendar.entries import KINDS, Wanted, entries_between
from tests.factories import NOW, make_ci, make_user
from tests.portal.story import Story, tell_story

pytestmark = pytest.mark.django_db
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def login(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def plan(story: Story, start: datetime = NOW + DAY) -> None:
    """Gives the story's change a time, a freeze and a window."""
    Change.objects.filter(pk=story.change.pk).update(planned_start=start, planned_end=start + 2 * HOUR)
    story.change.refresh_from_db()
    story.change.affected_cis.set(story.cis)
    Freeze.objects.create(
        name="Year end", reason="Books.", starts_at=start + DAY, ends_at=start + 2 * DAY, created_by=story.changer,
        created_at=NOW,
    )  # fmt: skip
    window = MaintenanceWindow.objects.create(name="Saturday", weekdays="6", start="22:00", minutes=60)
    type(story.cis[0]).objects.filter(pk=story.cis[0].pk).update(maintenance_window=window)


def found_for(user: Any, **wanted: Any) -> list[tuple[str, str, bool]]:
    entries = entries_between(user, NOW, NOW + 14 * DAY, now=NOW + HOUR, wanted=Wanted(**wanted))
    return [(entry.kind, entry.number or entry.title, entry.is_actual) for entry in entries]


def test_every_kind_stands_in_it_planned_and_actual() -> None:
    story = tell_story(3)
    plan(story)
    found = found_for(story.manager)
    rollout = story.rollout.number
    assert ("change", story.change.number, False) in found
    assert ("release", story.release.number, False) in found
    assert ("rollout", rollout, True) in found
    assert found.count(("wave", rollout, True)) == 2
    assert ("wave", rollout, False) in found  # the third has not begun
    assert [kind for kind, _name, _actual in found].count("freeze") == 1
    assert found.count(("window", "Saturday", False)) == 2


def test_what_runs_now_does_not_stand_in_the_days_to_come() -> None:
    story = tell_story(2)
    later = entries_between(story.manager, NOW + 2 * DAY, NOW + 3 * DAY, now=NOW + HOUR, wanted=Wanted())
    assert not [entry for entry in later if entry.is_actual]


def test_everybody_sees_only_what_he_may_see() -> None:
    story = tell_story(3)
    plan(story)
    assert {kind for kind, *_rest in found_for(story.outsider)} == {"freeze"}
    page = login(story.outsider).get(f"/calendar/?date={NOW:%Y-%m-%d}").content.decode()
    assert "Year end" in page
    assert story.change.number not in page
    client = login(story.outsider)
    for view in ("month", "week", "timeline", "day"):
        for rows in ("ci", "service", "group"):
            text = client.get(f"/calendar/?view={view}&rows={rows}&date={NOW + DAY:%Y-%m-%d}").content.decode()
            assert story.change.title not in text
            assert not [ci.name for ci in story.cis if ci.name in text]
    # Who sees the change does not see its CIs by that.
    Change.objects.filter(pk=story.change.pk).update(requester=story.outsider)
    day = f"{NOW + DAY:%Y-%m-%d}"
    assert story.change.number in client.get(f"/calendar/?view=day&date={day}").content.decode()
    text = client.get(f"/calendar/?view=timeline&rows=ci&date={day}").content.decode()
    assert not [ci.name for ci in story.cis if ci.name in text]


def test_filters_narrow_it() -> None:
    story = tell_story(3)
    plan(story)
    elsewhere = make_ci("elsewhere")
    assert {kind for kind, *_rest in found_for(story.manager, kinds=("change",))} == {"change"}
    assert {kind for kind, *_rest in found_for(story.manager, ci=elsewhere.pk)} == {"freeze"}
    assert ("change", story.change.number, False) in found_for(story.manager, ci=story.cis[0].pk)
    assert found_for(story.manager, states=("nothing",)) == []
    assert [name for _kind, name, _actual in found_for(story.manager, text="year END")] != []
    assert "change" not in {kind for kind, *_rest in found_for(story.manager, only_mine=True)}
    assert "change" in {kind for kind, *_rest in found_for(story.changer, only_mine=True)}
    Change.objects.filter(pk=story.change.pk).update(state="cancelled")
    assert "change" not in {kind for kind, *_rest in found_for(story.manager)}
    assert "change" in {kind for kind, *_rest in found_for(story.manager, with_cancelled=True)}


@pytest.mark.parametrize("view", ["month", "week", "day", "timeline"])
def test_a_view_shows_the_entries_in_the_zone_of_the_reader(view: str) -> None:
    story = tell_story(3)
    plan(story, NOW.replace(hour=23))
    type(story.manager).objects.filter(pk=story.manager.pk).update(time_zone="Asia/Tokyo")
    page = login(story.manager).get(f"/calendar/?view={view}&date={NOW + DAY:%Y-%m-%d}").content.decode()
    assert story.change.number in page
    assert "08:00" in page
    assert "Asia/Tokyo" in page


def test_nonsense_in_the_address_shows_the_usual_calendar() -> None:
    client = login(make_user("rita", "requester"))
    for query in (
        "view=nothing", "date=tomorrow", "date=0001-01-01", "date=9999-12-31", "kind=x", "ci=nothing", "page=-1",
        "page=99999", "view=timeline&rows=x", "state=x", "q=%00", "view=timeline&date=9999-12-31",
    ):  # fmt: skip
        assert client.get(f"/calendar/?{query}").status_code == 200, query


def test_the_time_line_has_rows_of_cis_services_and_groups() -> None:
    story = tell_story(3)
    plan(story)
    shop = make_ci("web-shop")
    Relation.objects.create(source=shop, target=story.cis[0])
    group = CIGroup.objects.create(name="Every server", filter={"ci_class": ["server"]})
    client = login(story.manager)
    address = f"/calendar/?view=timeline&date={NOW:%Y-%m-%d}&rows="
    cis = client.get(address + "ci").content.decode()
    assert all(f">{ci.name}</a>" in cis for ci in story.cis)
    services = client.get(address + "service").content.decode()
    assert ">web-shop</a>" in services
    assert f">{story.cis[1].name}</a>" not in services
    groups = client.get(address + "group").content.decode()
    assert f">{group.name}</a>" in groups
    assert groups.count(story.change.number) >= 1
    windows = client.get(address + "ci&kind=window&kind=change").content.decode()
    assert windows.count(">Saturday<") == 2


def test_a_thousand_entries_stay_readable_and_cost_no_more_queries() -> None:
    story = tell_story(2)
    plan(story)
    client = login(story.manager)
    addresses = [f"/calendar/?view={view}&date={NOW:%Y-%m-%d}" for view in ("month", "week", "day", "timeline")]
    addresses.append(f"/calendar/?view=timeline&rows=group&date={NOW:%Y-%m-%d}")
    addresses.append(f"/calendar/?view=timeline&rows=service&date={NOW:%Y-%m-%d}")

    def counted() -> list[int]:
        found = []
        for address in addresses:
            with CaptureQueriesContext(connection) as queries:
                assert client.get(address).status_code == 200
            found.append(len(queries))
        return found

    few = counted()
    common = {"requester": story.changer, "created_by": story.changer, "created_at": NOW, "updated_at": NOW}
    made = Change.objects.bulk_create(
        Change(
            title=f"Change {n}", planned_start=NOW + n * HOUR / 2, planned_end=NOW + n * HOUR / 2 + HOUR,
            state="scheduled", **common,
        )
        for n in range(1000)
    )  # fmt: skip
    links = Change.affected_cis.through
    links.objects.bulk_create(
        links(change_id=change.pk, configurationitem_id=story.cis[n % 2].pk) for n, change in enumerate(made)
    )
    CIGroup.objects.bulk_create(CIGroup(name=f"group {n}", filter={"name": [f"srv-{n}"]}) for n in range(9))
    assert counted() == few
    month = client.get(addresses[0]).content.decode()
    assert month.count('class="cal-entry') <= 6 * 7 * 4
    assert " more</a>" in month
    assert len(month) < 250_000


def test_only_who_may_move_a_change_can_take_it() -> None:
    story = tell_story(2)
    plan(story)
    Change.objects.filter(pk=story.change.pk).update(state="scheduled")
    address = f"/calendar/?date={NOW:%Y-%m-%d}"
    assert "data-move=" not in login(story.changer).get(address).content.decode()
    assert "data-move=" in login(story.cab).get(address).content.decode()


def test_the_form_shows_what_conflicts_before_it_moves_anything_and_leads_back() -> None:
    story = tell_story(2)
    plan(story)
    Change.objects.filter(pk=story.change.pk).update(state="scheduled")
    client, number = login(story.cab), story.change.number
    type(story.cab).objects.filter(pk=story.cab.pk).update(time_zone="Europe/Berlin")
    start = (NOW + 2 * DAY).strftime("%Y-%m-%dT%H:%M")  # by the clock of Berlin: in the freeze
    back = f"/calendar/?view=week&date={NOW:%Y-%m-%d}"
    form = f"/changes/{number}/reschedule/"
    shown = client.get(form, {"planned_start": start, "back": back}).content.decode()
    assert "Year end" in shown
    assert f'value="{start}"' in shown
    assert 'value="2026-11-04T11:00"' in shown  # the end moves with the start
    story.change.refresh_from_db()
    sent = {
        "planned_start": start, "planned_end": "2026-11-04T11:00", "expected_version": story.change.version,
        "back": back,
    }  # fmt: skip
    refused = client.post(form, sent)
    assert refused.status_code == 409
    assert "Year end" in refused.content.decode()
    assert Change.objects.get(pk=story.change.pk).planned_start == NOW + DAY
    digest = refused.context["panel"]["findings"].digest
    moved = client.post(form, {**sent, "seen_conflicts": digest})
    assert moved.status_code == 302
    assert moved["Location"] == back
    assert Change.objects.get(pk=story.change.pk).planned_start == NOW + 2 * DAY - HOUR
    page = client.get(f"/changes/{number}/").content.decode()
    assert 'id="conflicts"' in page
    assert "Year end" in page


def test_the_way_back_leads_nowhere_else() -> None:
    story = tell_story(2)
    plan(story)
    story.change.refresh_from_db()
    Change.objects.filter(pk=story.change.pk).update(state="scheduled")
    sent = {
        "planned_start": "2026-11-20T09:00", "planned_end": "2026-11-20T10:00", "back": "https://example.org/calendar/?",
        "expected_version": story.change.version,
    }  # fmt: skip
    answer = login(story.cab).post(f"/changes/{story.change.number}/reschedule/", sent)
    assert answer["Location"] == f"/changes/{story.change.number}/"


def test_kinds_are_those_of_the_readers() -> None:
    from itsm_portal.calendar import entries

    assert set(entries._READERS) == set(KINDS)
