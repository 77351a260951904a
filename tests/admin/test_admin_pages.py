"""The admin: setup data is edited there, records are only read there, and the door is the portal's own."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.admin_classes import ReadOnlyAdmin
from accounts.models import Team, User
from cmdb.models import CIClass, ConfigurationItem
from incidents.models import Incident
from notifications.models import Outbox
from notifications.services import notify
from releases.models import TestPolicy
from software.models import Product
from tests.api.world import make_objects
from tests.factories import NOW, PASSWORD, make_user

pytestmark = pytest.mark.django_db
READ_ONLY = [model for model, page in admin.site._registry.items() if isinstance(page, ReadOnlyAdmin)]
SETUP = [model for model in admin.site._registry if model not in READ_ONLY]
SETUP_NAMES = {
    "accounts.user", "auth.group", "accounts.team", "tickets.priorityrule", "cmdb.ciclass", "cmdb.agentprofile",
    "cmdb.cigroup", "cmdb.credential", "cmdb.relation", "cmdb.maintenancewindow", "cmdb.trustedauthority",
    "cmdb.configurationitem", "test_environments.copysource", "software.product", "releases.testpolicy",
    "incidents.driftrule", "test_environments.neutralisingrecipe",
}  # fmt: skip


def page(model: Any, kind: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{kind}", args=args)


@pytest.fixture
def root() -> Client:
    client = Client()
    client.force_login(make_user("root", is_superuser=True, is_staff=True))
    return client


@pytest.fixture
def administrator() -> Client:
    client = Client()
    client.force_login(make_user("adam", "administrator", is_staff=True))
    return client


@pytest.fixture
def things() -> None:
    owner = make_user("owner")
    make_objects("own", owner, make_user("author"), links=2)
    Team.objects.create(name="Desk").members.add(owner)
    TestPolicy.objects.get_or_create(release_type="minor", defaults={"soak_seconds": 5})


def test_what_is_set_up_here_is_exactly_this():
    assert {model._meta.label_lower for model in SETUP} == SETUP_NAMES


def test_every_record_of_the_portal_is_there_to_read():
    names = {model.__name__ for model in READ_ONLY}
    assert {"Incident", "Problem", "Change", "Release", "Rollout", "Wave", "Deployment", "DeploymentEvent"} <= names
    assert {"InstalledVersion", "Outbox", "IncidentHistory", "RolloutHistory", "TestRun", "AgentToken"} <= names


def test_every_list_and_every_object_opens(root, things):
    for model in admin.site._registry:
        assert root.get(page(model, "changelist")).status_code == 200, model
        first = model._base_manager.first()
        if first is not None:
            assert root.get(page(model, "change", first.pk)).status_code == 200, model


def test_nobody_changes_a_record_here(root, things):
    for model in READ_ONLY:
        assert root.get(page(model, "add")).status_code == 403, model
        first = model._base_manager.first()
        if first is not None:
            assert root.get(page(model, "delete", first.pk)).status_code == 403, model
            assert root.post(page(model, "change", first.pk), {}).status_code == 403, model
            bulk = {"action": "delete_selected", "_selected_action": [first.pk], "post": "yes"}
            root.post(page(model, "changelist"), bulk)
            assert model._base_manager.filter(pk=first.pk).exists(), model


def test_an_administrator_opens_every_page_of_what_he_sets_up(administrator, things):
    for model in SETUP:
        assert administrator.get(page(model, "changelist")).status_code == 200, model
        if model is not Group:  # roles are the code's: `setup_roles`
            assert administrator.get(page(model, "add")).status_code == 200, model
        first = model._base_manager.first()
        if first is not None:
            assert administrator.get(page(model, "change", first.pk)).status_code == 200, model


def test_an_administrator_sets_up_a_product_and_a_ci(administrator):
    administrator.post(page(Product, "add"), {"name": "Billing", "slug": "billing", "description": ""})
    product = Product.objects.get(slug="billing")
    administrator.post(page(Product, "change", product.pk), {"name": "Billing 2", "slug": "other", "description": ""})
    product.refresh_from_db()
    assert (product.name, product.slug) == ("Billing 2", "billing")
    server = CIClass.objects.create(name="Server", slug="server")
    values = {"name": "srv-1", "ci_class": server.pk, "lifecycle": "in_operation", "agent_id": ""}
    administrator.post(page(ConfigurationItem, "add"), values)
    ci = ConfigurationItem.objects.get()
    assert ci.agent_id is None
    assert (timezone.now() - ci.created_at).total_seconds() < 60
    assert administrator.post(page(ConfigurationItem, "delete", ci.pk), {"post": "yes"}).status_code == 403


def test_an_administrator_makes_a_user_with_a_role_but_no_superuser(administrator):
    values = {"username": "nina", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    administrator.post(page(User, "add"), values)
    nina = User.objects.get(username="nina")
    assert nina.check_password(PASSWORD)
    role = Group.objects.get(name="requester")
    values = {
        "username": "nina", "language": "en", "time_zone": "UTC", "theme": "auto", "is_active": "on",
        "is_superuser": "on", "groups": [role.pk],
    }  # fmt: skip
    answer = administrator.post(page(User, "change", nina.pk), values)
    assert answer.status_code == 302, answer.context["errors"]
    nina.refresh_from_db()
    assert not nina.is_superuser
    assert list(nina.groups.all()) == [role]


def test_an_administrator_does_not_touch_a_superuser(administrator):
    boss = make_user("boss", is_superuser=True, is_staff=True, password=PASSWORD)
    password = reverse("admin:auth_user_password_change", args=[boss.pk])
    assert administrator.post(page(User, "change", boss.pk), {"username": "mine"}).status_code == 403
    assert administrator.post(password, {"password1": "x" * 20, "password2": "x" * 20}).status_code == 403
    boss.refresh_from_db()
    assert boss.username == "boss"
    assert boss.check_password(PASSWORD)


def test_people_are_not_deleted(root):
    anna = make_user("anna")
    assert root.post(page(User, "delete", anna.pk), {"post": "yes"}).status_code == 403


def test_a_role_without_the_door_does_not_come_in(client):
    client.force_login(make_user("anna", "requester"))
    assert client.get(reverse("admin:index")).status_code == 302
    client.force_login(make_user("staff", "service desk", is_staff=True))
    assert client.get(page(Incident, "changelist")).status_code == 403


def test_the_door_is_the_portals_login(client):
    answer = client.get(reverse("admin:index"), follow=False)
    assert answer.status_code == 302
    login = client.get(answer["Location"])
    assert login.status_code == 302
    assert login["Location"].startswith(reverse("account_login"))


def test_dead_letters_are_sent_again_and_nothing_else_changes(administrator):
    anna = make_user("anna")
    for event in ("one", "two"):
        notify(event=event, recipient=anna, thread="INC-0000001", subject="News", text="It stopped.", now=NOW)
    dead, sent = Outbox.objects.order_by("id")
    Outbox.objects.filter(pk=dead.pk).update(state="dead", attempts=8)
    Outbox.objects.filter(pk=sent.pk).update(state="sent")
    values = {"action": "send_again", "_selected_action": [dead.pk, sent.pk]}
    answer = administrator.post(page(Outbox, "changelist"), values, follow=True)
    assert "1 mail waits for the next tick." in answer.content.decode()
    dead.refresh_from_db()
    sent.refresh_from_db()
    assert (dead.state, dead.attempts, sent.state) == ("pending", 0, "sent")


def test_the_history_names_the_person_and_the_request(root, as_staff_of_history):
    text = root.get(reverse("admin:accounts_teamhistory_changelist")).content.decode()
    assert "adam" in text
    assert "/admin/accounts/team/add/" in text


@pytest.fixture
def as_staff_of_history(administrator) -> None:
    administrator.post(page(Team, "add"), {"name": "Desk", "email": ""})


def test_its_policy_lets_in_nothing_from_elsewhere(root):
    policy = root.get(reverse("admin:index"))["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
