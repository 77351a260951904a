"""The completion of a rollout and its inverse, seen by one incident."""

import pytest
from django.db import IntegrityError, transaction

from incidents.models import Incident
from incidents.services import (
    assign_incident,
    auto_close_incidents,
    close_incident,
    hold_incident,
    note_on_incident,
    reopen_incident,
    report_incident,
    resolve_incident,
    resolve_incident_by_fix,
    resume_incident,
    withdraw_fix_from_incident,
)
from notifications.models import Outbox
from tests.factories import NOW, make_user

pytestmark = pytest.mark.django_db

EVENT = "rollout:17:completed"


@pytest.fixture
def desk():
    return make_user("desk", "service desk")


@pytest.fixture
def rita():
    return make_user("rita", "requester")


@pytest.fixture
def incident(desk, rita):
    incident = report_incident(actor=rita, now=NOW, title="Invoices are wrong")
    assign_incident(incident, actor=desk, now=NOW, assignee=desk)
    return incident


def fix(incident, event=EVENT):
    return resolve_incident_by_fix(incident, now=NOW, event=event, text="billing 2.1 runs on srv-1")


def withdraw(incident, event=EVENT):
    return withdraw_fix_from_incident(incident, now=NOW, event=event, text="rolled back")


@pytest.mark.parametrize("reason", ["problem", "change", "release"])
def test_the_fix_resolves_and_its_withdrawal_puts_back_what_it_waited_for(incident, desk, rita, reason):
    hold_incident(incident, actor=desk, now=NOW, reason=reason)
    assert fix(incident)
    assert not fix(incident)
    incident.refresh_from_db()
    assert (incident.state, incident.hold_reason, incident.resolved_at) == ("resolved", "", NOW)
    assert withdraw(incident)
    assert not withdraw(incident)
    incident.refresh_from_db()
    assert (incident.state, incident.hold_reason, incident.resolved_at) == ("on_hold", reason, None)
    assert (incident.resolved_by_event, incident.hold_reason_before, incident.resolution) == ("", "", "")
    assert not Outbox.objects.filter(recipient=rita).exists(), "the rollout tells people, it knows the versions"
    assert fix(incident, "rollout:18:completed"), "the next release fixes it again"


@pytest.mark.parametrize("reason", ["caller", "vendor"])
def test_what_waits_for_something_else_is_left_alone(incident, desk, reason):
    hold_incident(incident, actor=desk, now=NOW, reason=reason)
    entries = incident.entries.count()
    assert not fix(incident)
    assert (incident.state, incident.entries.count()) == ("on_hold", entries)


def test_what_a_person_resolved_is_not_withdrawn(incident, desk):
    hold_incident(incident, actor=desk, now=NOW, reason="release")
    resolve_incident(incident, actor=desk, now=NOW, resolution="Restarted it")
    assert not withdraw(incident)
    assert incident.state == "resolved"


def test_a_withdrawal_concerns_only_its_own_event(incident, desk):
    hold_incident(incident, actor=desk, now=NOW, reason="release")
    assert fix(incident)
    assert not withdraw(incident, "rollout:16:completed")
    assert incident.state == "resolved"


def test_an_incident_reopened_after_the_fix_is_neither_withdrawn_nor_fixed_by_the_same_event_again(
    incident, desk, rita
):
    hold_incident(incident, actor=desk, now=NOW, reason="release")
    assert fix(incident)
    reopen_incident(incident, actor=rita, now=NOW, reason="Still wrong")
    assert not withdraw(incident)
    hold_incident(incident, actor=desk, now=NOW, reason="release")
    assert not fix(incident)
    assert incident.state == "on_hold"


def test_a_closed_incident_is_not_moved_by_the_withdrawal_and_can_get_a_note_once(incident, desk, rita):
    hold_incident(incident, actor=desk, now=NOW, reason="release")
    assert fix(incident)
    close_incident(incident, actor=rita, now=NOW)
    assert not withdraw(incident)
    assert incident.state == "closed"
    assert note_on_incident(incident, now=NOW, key=f"{EVENT}:withdrawn", text="rolled back")
    assert not note_on_incident(incident, now=NOW, key=f"{EVENT}:withdrawn", text="rolled back")
    assert incident.entries.filter(kind="system").count() == 1


def test_a_stale_copy_of_the_incident_does_not_mislead_the_fix(incident, desk):
    hold_incident(incident, actor=desk, now=NOW, reason="release")
    stale = Incident.objects.get(pk=incident.pk)
    resume_incident(incident, actor=desk, now=NOW)
    assert not fix(stale)
    assert stale.state == "in_progress"


def test_on_hold_and_its_reason_go_together_in_the_database(incident):
    for values in ({"state": "on_hold", "hold_reason": ""}, {"state": "assigned", "hold_reason": "vendor"}):
        with pytest.raises(IntegrityError, match="incident_hold_has_reason"), transaction.atomic():
            Incident.objects.filter(pk=incident.pk).update(**values)


def test_resolved_incidents_are_closed_after_ten_days_and_only_then(incident, desk, rita):
    resolve_incident(incident, actor=desk, now=NOW, resolution="Restarted it")
    assert auto_close_incidents(now=NOW.replace(day=12, hour=8)) == 0
    assert auto_close_incidents(now=NOW.replace(day=12), limit=0) == 0
    assert auto_close_incidents(now=NOW.replace(day=12)) == 1
    assert auto_close_incidents(now=NOW.replace(day=12)) == 0
    incident.refresh_from_db()
    assert incident.state == "closed"
