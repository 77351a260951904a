"""`manage.py seed_portal`: much data that could have come about."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import User
from changes.models import Change, ChangeEntry
from cmdb.models import ConfigurationItem
from incidents.models import Incident, IncidentEntry
from incidents.services import report_incident
from problems.models import Problem, ProblemEntry
from releases.invariants import check_invariants
from releases.models import Release, ReleaseEntry, Rollout
from tests.factories import NOW, make_user

pytestmark = pytest.mark.django_db
slow = pytest.mark.slow


def seed(*more: str) -> None:
    call_command("seed_portal", "--tickets", "1000", "--cis", "60", "--rollouts", "5", *more, stdout=StringIO())


@slow
def test_it_writes_what_was_asked_for_and_breaks_no_rule() -> None:
    seed()
    # One change and one release more: those of the rollout that is under way.
    assert [model.objects.count() for model in (Incident, Problem, Change, Release)] == [800, 80, 101, 21]
    entries = sum(model.objects.count() for model in (IncidentEntry, ProblemEntry, ChangeEntry, ReleaseEntry))
    assert entries >= 2000
    assert ConfigurationItem.objects.count() == 60
    assert sorted(Rollout.objects.values_list("state", flat=True)) == ["completed"] * 4 + ["running"]
    assert check_invariants() == []


@slow
def test_the_same_seed_gives_the_same_titles_and_states() -> None:
    seed()
    first = list(Incident.objects.order_by("pk").values_list("title", "state", "priority"))
    seed("--rollouts", "0", "--add")
    assert list(Incident.objects.order_by("pk").values_list("title", "state", "priority"))[800:] == first


@slow
def test_new_tickets_go_on_behind_the_seeded_ones(client: Client) -> None:
    seed()
    client.force_login(User.objects.get(username="desk"))
    newest = Incident.objects.latest("pk").pk
    client.post("/incidents/new/", {"title": "It smokes", "impact": "low", "urgency": "low", "activity": "repair"})
    assert Incident.objects.get(title="It smokes").pk == newest + 1


def test_a_portal_with_tickets_is_left_alone() -> None:
    report_incident(actor=make_user("uma", "requester"), now=NOW, title="It smokes")
    with pytest.raises(CommandError, match="tickets already"):
        seed("--rollouts", "0")
