"""Roles: what each may do, and that the list keeps up with the models."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command

from accounts import roles
from tests.factories import make_user

pytestmark = pytest.mark.django_db

READS = ("see_", "view_")


def test_setting_up_twice_changes_nothing(capsys):
    call_command("setup_roles")
    call_command("setup_roles")
    assert capsys.readouterr().out.endswith(f"{len(roles.ROLES)} roles, 0 changed.\n")


def test_a_role_that_somebody_edited_is_corrected():
    call_command("setup_roles")
    desk = Group.objects.get(name="service desk")
    desk.permissions.set(Permission.objects.filter(codename="approve_change"))
    assert roles.setup_roles() == 1
    assert {f"{p.content_type.app_label}.{p.codename}" for p in desk.permissions.all()} == roles.rights_of(
        "service desk"
    )


def test_a_right_that_no_model_declares_is_named(monkeypatch):
    monkeypatch.setitem(roles.ROLES, "requester", frozenset({"incidents.juggle"}))
    with pytest.raises(CommandError, match=r"incidents\.juggle"):
        call_command("setup_roles")


def test_every_right_of_the_domain_belongs_to_a_role():
    declared = {
        f"{model._meta.app_label}.{codename}" for model in roles._models() for codename, _ in model._meta.permissions
    }
    assert declared == set().union(*roles.ROLES.values())


def test_rights_of_several_roles_add_up():
    user = make_user("olga", "operator", "CAB member")
    assert user.has_perm("releases.pause_rollout")
    assert user.has_perm("changes.approve_change")
    assert not user.has_perm("releases.start_rollout")


def test_an_auditor_sees_everything_and_changes_nothing():
    auditor = make_user("audrey", "auditor")
    declared = {f"{m._meta.app_label}.{c}" for m in roles._models() for c, _ in m._meta.permissions}
    sees = {right for right in declared if right.split(".")[1].startswith(READS)}
    assert sees <= auditor.get_all_permissions()
    assert all(right.split(".")[1].startswith(READS) for right in auditor.get_all_permissions())


@pytest.mark.parametrize("role", ["service account", "requester", "CI owner", "administrator", "operator"])
def test_who_never_approves(role):
    assert not {right for right in roles.rights_of(role) if ".approve" in right}
