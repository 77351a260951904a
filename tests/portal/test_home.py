"""The first page: each person finds what waits for him, and nothing of other people."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import Team
from changes.models import Change
from cmdb.models import ConfigurationItem, Relation
from incidents.models import Incident
from itsm_portal.home import panels_for
from releases.models import Release
from tests.factories import NOW, make_ci, make_user
from tests.portal.test_every_page import login
from tickets.models import EntryKind

pytestmark = pytest.mark.django_db


def report(requester, title, **values):
    now = timezone.now()
    return Incident.objects.create(
        title=title, requester=requester, created_by=requester, created_at=now, updated_at=now, **values
    )


def assessed(author, title, **values):
    return Change.objects.create(
        title=title, requester=author, created_by=author, last_editor=author, state="assessed", created_at=NOW,
        updated_at=NOW, **values,
    )  # fmt: skip


def page_of(user) -> str:
    return login(user).get("/").content.decode()


def rows_of(user, name: str) -> list:
    """What stands in one panel."""
    found = {panel.name: rows for panel, rows in panels_for(user, now=timezone.now())}
    return found[name]


def test_work_is_mine_and_that_of_my_teams_which_nobody_has_the_most_urgent_first() -> None:
    desk, colleague, uma = make_user("desk", "service desk"), make_user("colleague"), make_user("uma", "requester")
    ours, theirs = Team.objects.create(name="Desk"), Team.objects.create(name="Network")
    ours.members.add(desk)
    mine = report(uma, "Mine", assignee=desk, state="assigned", priority=3)
    teams = report(uma, "Ours", team=ours, state="assigned", priority=1)
    report(uma, "A colleague has it", team=ours, assignee=colleague, state="assigned", priority=1)
    report(uma, "Of the network", team=theirs, state="assigned", priority=1)
    report(uma, "Done", assignee=desk, state="closed", priority=1)
    assert rows_of(desk, "my_work") == [teams, mine]


def test_an_approval_is_asked_of_those_who_took_no_part() -> None:
    author, board = make_user("author", "change requester", "CAB member"), make_user("board", "CAB member")
    editor = make_user("editor", "change requester", "CAB member")
    change = assessed(author, "Decimals for money")
    # Somebody else edited it after him: he stays one of its editors.
    Change.objects.filter(pk=change.pk).update(last_editor=editor)
    Change.objects.filter(pk=change.pk).update(last_editor=author)
    assert rows_of(board, "approvals") == [change]
    assert rows_of(author, "approvals") == []
    assert rows_of(editor, "approvals") == []


def test_an_emergency_approver_is_asked_for_emergencies_only() -> None:
    author, eva = make_user("author", "change requester"), make_user("eva", "emergency approver")
    assessed(author, "Normal")
    urgent = assessed(author, "Urgent", change_type="emergency")
    assert rows_of(eva, "approvals") == [urgent]


def test_what_others_did_since_yesterday_is_told_of_my_tickets_only() -> None:
    desk, colleague, uma = make_user("desk", "service desk"), make_user("colleague"), make_user("uma", "requester")
    watched, foreign = report(uma, "Watched"), report(uma, "Foreign")
    assigned = report(uma, "Assigned", assignee=desk, state="assigned")
    watched.watchers.add(desk)
    now = timezone.now()
    for ticket in (watched, foreign):
        ticket.entries.create(kind=EntryKind.COMMENT, text="Found it.", author=colleague, created_at=now)
    assigned.entries.create(kind=EntryKind.COMMENT, text="By myself.", author=desk, created_at=now)
    earlier = now - timedelta(days=3)
    assigned.entries.create(kind=EntryKind.COMMENT, text="Long ago.", author=colleague, created_at=earlier)
    assert [entry.ticket for entry in rows_of(desk, "changed")] == [watched]


def test_a_requester_finds_first_what_waits_for_his_word_and_nothing_of_others() -> None:
    uma, otto = make_user("uma", "requester"), make_user("otto", "requester")
    own, other = make_ci("laptop-uma", owner=uma), make_ci("laptop-otto", owner=otto)
    fixed = report(uma, "The screen is dark", ci=own, state="resolved", resolved_at=NOW)
    later = report(uma, "The mouse is slow", ci=own)
    report(otto, "Secret of Otto", ci=other)
    author = make_user("author", "change requester")
    for ci, title in ((own, "New screen"), (other, "New secret")):
        values = {"planned_start": NOW, "planned_end": NOW + timedelta(hours=1)}
        change = assessed(author, title, **values)
        change.affected_cis.add(ci)
        Change.objects.filter(pk=change.pk).update(state="scheduled")
    assert rows_of(uma, "my_tickets") == [fixed, later]
    text = page_of(uma)
    assert "Does it work again?" in text
    assert "New screen" in text
    for hidden in ("Secret of Otto", "laptop-otto", "New secret", "My work"):
        assert hidden not in text


def test_changes_of_what_my_cis_stand_on_concern_me_but_i_read_only_what_i_may() -> None:
    uma, author = make_user("uma", "requester"), make_user("author", "change requester")
    laptop, mail, server, other = (make_ci(name) for name in ("laptop-uma", "mail", "srv-mail", "srv-other"))
    ConfigurationItem.objects.filter(pk=laptop.pk).update(owner=uma)
    Relation.objects.create(source=laptop, target=mail, kind="uses")
    Relation.objects.create(source=mail, target=server, kind="runs_on")
    Relation.objects.create(source=server, target=laptop)  # a circle
    ends = NOW + timedelta(hours=1)
    for ci, title in ((server, "New disks"), (other, "New fan"), (laptop, "New screen")):
        change = assessed(author, title, planned_start=NOW, planned_end=ends)
        change.affected_cis.add(ci)
        Change.objects.filter(pk=change.pk).update(state="scheduled")
    rows = rows_of(uma, "planned")
    assert [(row.start, row.end, row.cis) for row in rows] == [(NOW, ends, ["laptop-uma"])] * 2
    assert [row.change.title if row.change else None for row in rows] == [None, "New screen"]
    text = page_of(uma)
    assert "Something that your configuration items depend on is changed." in text
    for hidden in ("New disks", "New fan", "srv-mail"):
        assert hidden not in text


def test_a_release_is_in_preparation_until_it_has_started() -> None:
    manager, engineer = make_user("manager", "release manager"), make_user("engineer", "release engineer")
    common = {"requester": engineer, "created_by": engineer, "created_at": NOW, "updated_at": NOW}
    found = {state: Release.objects.create(title=state, state=state, **common) for state in Release.State.values}
    expected = [found[state] for state in ("planned", "built", "testing", "test_failed", "ready")]
    assert rows_of(manager, "releases") == rows_of(engineer, "releases") == expected


@pytest.mark.parametrize(
    ("role", "shown", "hidden"),
    [
        ("requester", {"my_tickets", "planned", "known_errors", "notices"}, {"my_work", "approvals", "schedule"}),
        ("service desk", {"my_work", "unassigned", "rollouts", "schedule", "changed"}, {"approvals", "known_errors"}),
        ("CAB member", {"approvals", "schedule"}, {"unassigned", "devices"}),
        ("change manager", {"my_work", "to_handle", "schedule"}, {"unassigned", "decisions"}),
        ("release manager", {"approvals", "my_work", "releases", "rollouts", "schedule"}, {"unassigned"}),
        ("release engineer", {"my_work", "releases", "rollouts"}, {"approvals", "devices"}),
        ("administrator", {"devices", "rollouts"}, {"my_work", "approvals", "known_errors"}),
        ("auditor", {"decisions", "rollouts", "schedule"}, {"my_work", "approvals", "my_tickets"}),
    ],
)
def test_a_panel_is_shown_to_whom_it_serves_and_says_so_when_it_is_empty(role: str, shown: set, hidden: set) -> None:
    user = make_user("somebody", role)
    names = {panel.name for panel, _rows in panels_for(user, now=timezone.now())}
    assert shown <= names
    assert not hidden & names
    assert "Good day" in page_of(user)
