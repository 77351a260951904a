"""An administrator changes a cell of the priority matrix."""

from datetime import datetime

import pytest

from incidents.services import assign_incident, report_incident, resolve_incident
from tests.factories import make_user
from tickets.models import Priority, PriorityRule
from tickets.services import reprioritise

pytestmark = pytest.mark.django_db


def test_open_tickets_of_the_cell_get_the_new_priority_and_finished_ones_keep_theirs(now: datetime) -> None:
    desk = make_user("desk", "service desk")
    opened, resolved, other = (
        report_incident(actor=desk, now=now, title="Receipts come late", impact="medium", urgency=urgency)
        for urgency in ("high", "high", "low")
    )
    assign_incident(resolved, actor=desk, now=now, assignee=desk)
    resolve_incident(resolved, actor=desk, now=now, resolution="Restarted.")
    rule = PriorityRule.objects.create(impact="medium", urgency="high", priority=Priority.CRITICAL)

    assert reprioritise(rule, now=now) == 1
    assert reprioritise(rule, now=now) == 0

    for incident, priority in ((opened, Priority.CRITICAL), (resolved, Priority.HIGH), (other, Priority.LOW)):
        incident.refresh_from_db()
        assert incident.priority == priority
