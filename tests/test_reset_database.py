"""What a test committed is gone afterwards, and what was there at first is there again."""

import pytest
from django.contrib.auth.models import Group, Permission

from accounts.models import User
from cmdb.models import AgentProfile
from incidents.models import Incident
from tests.factories import NOW, make_user
from tests.reset_database import reset_database
from tickets.services import create_ticket


def rights_of_roles() -> dict[str, set[int]]:
    return {role.name: set(role.permissions.values_list("pk", flat=True)) for role in Group.objects.all()}


@pytest.mark.django_db(transaction=True)
def test_the_database_is_as_at_first_after_a_test_that_committed() -> None:
    roles, profiles, rights = rights_of_roles(), list(AgentProfile.objects.values()), Permission.objects.count()
    assert all((roles, profiles, rights))
    anna = make_user("anna", "requester")
    incident = create_ticket(Incident, actor=anna, now=NOW, title="It stopped")
    assert incident.history.exists(), "append-only"
    Group.objects.get(name="requester").permissions.clear()
    Group.objects.exclude(name="requester").delete()
    AgentProfile.objects.all().delete()

    reset_database()

    assert (rights_of_roles(), list(AgentProfile.objects.values())) == (roles, profiles)
    assert Permission.objects.count() == rights
    assert not User.objects.exists()
    assert not Incident.objects.exists()
    assert not Incident.history.rel.related_model.objects.exists()
    assert create_ticket(Incident, actor=make_user("anna"), now=NOW, title="Again").pk > incident.pk
