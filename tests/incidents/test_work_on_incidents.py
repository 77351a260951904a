"""Reporting, handing over, waiting, answering: who may, what changes, who hears of it."""

import pytest

from accounts.models import Team
from incidents.models import Incident
from incidents.services import (
    assign_incident,
    cancel_incident,
    close_incident,
    comment_incident,
    declare_major,
    hold_incident,
    open_incident_for_portal,
    reopen_incident,
    report_incident,
    resolve_incident,
    start_incident,
)
from notifications.models import Outbox
from tests.factories import NOW, make_ci, make_user
from tickets.exceptions import InvalidInput, PermissionRefused, TransitionRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk():
    return make_user("desk", "service desk")


@pytest.fixture
def rita():
    return make_user("rita", "requester")


@pytest.fixture
def incident(rita):
    return report_incident(actor=rita, now=NOW, title="Printer on fire", impact="high", urgency="high")


def heard(user) -> list[str]:
    return [row.subject for row in Outbox.objects.filter(recipient=user).order_by("pk")]


def test_a_report_has_a_priority_and_a_first_entry(incident, rita):
    assert (incident.state, incident.priority, incident.requester) == ("new", 1, rita)
    assert [e.text for e in incident.entries.all()] == ["Created."]
    assert heard(rita) == [], "nobody is told what he did himself"


def test_only_staff_report_for_somebody_else_who_is_then_told(desk, rita):
    tom = make_user("tom", "requester")
    with pytest.raises(PermissionRefused):
        report_incident(actor=tom, now=NOW, title="Printer on fire", requester=rita)
    report_incident(actor=desk, now=NOW, title="Printer on fire", requester=rita)
    assert heard(rita)[0].endswith("reported: Printer on fire")


def test_the_portal_opens_incidents_without_an_author(rita):
    values = {"impact": "high", "urgency": "low", "ci": make_ci(), "description": "3 of 10 failed"}
    incident = open_incident_for_portal(now=NOW, title="Rollout stopped", requester=rita, **values)
    assert (incident.created_by, incident.priority) == (None, 3)
    assert len(heard(rita)) == 1


@pytest.mark.parametrize("title", ["ab", "", "x" * 201, "two\nlines", "nul\0byte"])
def test_titles_that_no_list_can_show_are_refused(rita, title):
    with pytest.raises(InvalidInput) as refusal:
        report_incident(actor=rita, now=NOW, title=title)
    assert refusal.value.field == "title"


def test_the_main_path_tells_each_side_what_the_other_did(incident, desk, rita):
    assign_incident(incident, actor=make_user("boss", "service desk"), now=NOW, assignee=desk)
    start_incident(incident, actor=desk, now=NOW)
    resolve_incident(incident, actor=desk, now=NOW, resolution="Extinguished")
    reopen_incident(incident, actor=rita, now=NOW, reason="It burns again")
    resolve_incident(incident, actor=desk, now=NOW, resolution="Replaced")
    close_incident(incident, actor=rita, now=NOW)
    number = incident.number
    assert heard(desk) == [f"[{number}] assigned to you: Printer on fire", f"[{number}] reopened: Printer on fire"]
    assert heard(rita) == [f"[{number}] resolved: Printer on fire"] * 2
    text = Outbox.objects.filter(recipient=rita).first().text
    assert "Extinguished" in text
    assert "Reopen it" in text


def test_watchers_hear_what_the_requester_hears(incident, desk):
    wanda = make_user("wanda", "auditor")
    incident.watchers.add(wanda, desk)
    assign_incident(incident, actor=desk, now=NOW, assignee=desk)
    resolve_incident(incident, actor=desk, now=NOW, resolution="Extinguished")
    assert len(heard(wanda)) == 1
    assert heard(desk) == []


def test_an_answer_of_the_caller_ends_the_wait_for_him(incident, desk, rita):
    assign_incident(incident, actor=desk, now=NOW, assignee=desk)
    hold_incident(incident, actor=desk, now=NOW, reason="caller", note="Which printer?")
    assert heard(rita)[-1].endswith("waits for your answer: Printer on fire")
    comment_incident(incident, actor=desk, now=NOW, text="I am still waiting")
    assert incident.state == "on_hold", "only the caller's own answer counts"
    comment_incident(incident, actor=rita, now=NOW, text="The red one")
    incident.refresh_from_db()
    assert (incident.state, incident.hold_reason) == ("in_progress", "")
    assert incident.entries.last().author == rita
    assert heard(desk)[-1].endswith("comment: Printer on fire")


def test_an_answer_does_not_end_another_wait(incident, desk, rita):
    assign_incident(incident, actor=desk, now=NOW, assignee=desk)
    hold_incident(incident, actor=desk, now=NOW, reason="release")
    comment_incident(incident, actor=rita, now=NOW, text="Any news?")
    assert incident.state == "on_hold"


@pytest.mark.parametrize(
    ("who", "public", "allowed"),
    [
        ("requester", True, True), ("requester", False, False), ("owner", True, True), ("owner", False, False),
        ("watcher", True, True), ("desk", False, True), ("auditor", True, False), ("stranger", True, False),
    ],
)  # fmt: skip
def test_who_comments_and_who_writes_notes(who, public, allowed):
    cast = {
        "requester": make_user("rita", "requester"),
        "owner": make_user("otto", "CI owner"),
        "watcher": make_user("wanda", "auditor"),
        "desk": make_user("desk", "service desk"),
        "auditor": make_user("audrey", "auditor"),
        "stranger": make_user("sam", "requester"),
    }
    ci = make_ci(owner=cast["owner"])
    incident = report_incident(actor=cast["requester"], now=NOW, title="Printer on fire", ci=ci)
    incident.watchers.add(cast["watcher"])
    if allowed:
        entry = comment_incident(incident, actor=cast[who], now=NOW, text="Smoke!", public=public)
        assert entry.is_public is public
        assert bool(heard(cast["requester"])) is (public and who != "requester")
    else:
        with pytest.raises(PermissionRefused):
            comment_incident(incident, actor=cast[who], now=NOW, text="Smoke!", public=public)


def test_nobody_comments_on_a_closed_incident_but_notes_are_possible(incident, desk, rita):
    assign_incident(incident, actor=desk, now=NOW, assignee=desk)
    resolve_incident(incident, actor=desk, now=NOW, resolution="Extinguished")
    close_incident(incident, actor=desk, now=NOW)
    with pytest.raises(TransitionRefused, match="new incident"):
        comment_incident(incident, actor=rita, now=NOW, text="Again!")
    comment_incident(incident, actor=desk, now=NOW, text="See INC-2", public=False)


def test_handing_over_to_a_team_takes_it_from_the_person(incident, desk):
    team = Team.objects.create(name="Printers")
    assign_incident(incident, actor=desk, now=NOW, assignee=desk)
    assign_incident(incident, actor=desk, now=NOW, team=team)
    incident.refresh_from_db()
    assert (incident.state, incident.assignee, incident.team) == ("assigned", None, team)


def test_only_people_who_work_on_incidents_get_them(incident, desk, rita):
    for values in ({"assignee": rita}, {}):
        with pytest.raises(InvalidInput):
            assign_incident(incident, actor=desk, now=NOW, **values)
    assert incident.state == "new"


def test_reasons_are_asked_for(incident, desk):
    assign_incident(incident, actor=desk, now=NOW, assignee=desk)
    for call in (
        lambda: hold_incident(incident, actor=desk, now=NOW, reason="lunch"),
        lambda: resolve_incident(incident, actor=desk, now=NOW, resolution=" "),
        lambda: cancel_incident(incident, actor=desk, now=NOW, reason=""),
        lambda: comment_incident(incident, actor=desk, now=NOW, text="\n"),
    ):
        with pytest.raises(InvalidInput):
            call()
    assert incident.state == "assigned"


def test_the_requester_reopens_and_closes_only_his_own(incident, desk, rita):
    sam = make_user("sam", "requester")
    assign_incident(incident, actor=desk, now=NOW, assignee=desk)
    resolve_incident(incident, actor=desk, now=NOW, resolution="Extinguished")
    for call in (
        lambda: close_incident(incident, actor=sam, now=NOW),
        lambda: reopen_incident(incident, actor=sam, now=NOW, reason="x"),
    ):
        with pytest.raises(PermissionRefused):
            call()
    reopen_incident(incident, actor=rita, now=NOW, reason="It burns")
    assert incident.state == "in_progress"


def test_a_major_incident_is_declared_once(incident, desk, rita):
    with pytest.raises(PermissionRefused):
        declare_major(incident, actor=rita, now=NOW)
    declare_major(incident, actor=desk, now=NOW)
    declare_major(incident, actor=desk, now=NOW)
    assert Incident.objects.get().is_major
    assert heard(rita) == [f"[{incident.number}] declared a major incident: Printer on fire"]
