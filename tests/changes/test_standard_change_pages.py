"""The pages of standard changes: written by one, approved by another, with a word on what voids it."""

import pytest
from django.test import Client

from changes import standard
from changes.models import StandardTemplate
from cmdb.groups import create_group
from tests.factories import NOW, make_ci, make_product, make_user

pytestmark = pytest.mark.django_db


def client_of(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_one_writes_it_another_approves_it() -> None:
    product, ci = make_product(), make_ci("srv-1")
    group = create_group(actor=None, now=NOW, name="Canaries", static_members=[ci])
    writer, board = make_user("max", "change manager"), make_user("cab", "CAB member")
    typed = {
        "name": "Billing", "products": [product.pk], "groups": [group.pk], "users": [writer.pk], "most_cis": 5,
        "soak_seconds": 60, "implementation_plan": "Deploy.", "backout_plan": "Back.", "is_active": "on",
    }  # fmt: skip
    answer = client_of(writer).post("/changes/standard/new/", typed)
    template = StandardTemplate.objects.get()
    page = answer["Location"]
    assert page == f"/changes/standard/{template.number}/"
    assert "waits for the CAB" in client_of(writer).get(page).content.decode()
    assert client_of(writer).post(f"{page}approve/", {"seen_hash": ""}).status_code == 403
    form = client_of(board).get(f"{page}approve/")
    seen = form.context["form"].initial["seen_hash"]
    standard.edit_template(template, actor=writer, now=NOW, most_cis=6)
    assert client_of(board).post(f"{page}approve/", {"seen_hash": seen}).status_code == 409
    assert client_of(board).post(f"{page}approve/", {"seen_hash": ""}).status_code == 400
    now_seen = standard.template_hash(template)
    assert client_of(board).post(f"{page}approve/", {"seen_hash": now_seen}).status_code == 302
    assert standard.valid_template_approval(template) is not None
    client_of(writer).post(f"{page}edit/", {**typed, "most_cis": 7})
    assert standard.valid_template_approval(StandardTemplate.objects.get()) is None
    assert "Void: the content has changed since." in client_of(writer).get(page).content.decode()
    assert "Billing" in client_of(writer).get("/changes/standard/").content.decode()


def test_whom_it_does_not_name_does_not_see_it() -> None:
    make_user("max", "change manager")
    template = standard.write_template(
        actor=make_user("mia", "change manager"), now=NOW, name="Billing", implementation_plan="x", backout_plan="y"
    )
    anna = client_of(make_user("anna", "requester"))
    assert anna.get(f"/changes/standard/{template.number}/").status_code == 404
    assert anna.get("/changes/standard/new/").status_code == 403
