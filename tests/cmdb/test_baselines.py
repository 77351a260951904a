"""Baselines: what a CI was is kept as it was, and compared with what it is."""

import pytest
from django.db import ProgrammingError, transaction
from django.test import Client
from django.urls import reverse

from cmdb import baselines
from cmdb.baselines import Difference, Look
from cmdb.models import Baseline, ConfigurationItem, Relation
from cmdb.services import record_installed, record_removed
from tests.factories import NOW, make_ci, make_product, make_user
from tickets.exceptions import InvalidInput, PermissionRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def ci() -> ConfigurationItem:
    """A till with two products, one attribute and something that it needs."""
    found = make_ci("till-7", owner=make_user("uma", "requester"))
    Relation.objects.create(source=found, target=make_ci("server-1"), kind="runs_on")
    for slug, label in (("billing", "1.0"), ("printing", "4.2")):
        record_installed(found, product=make_product(slug), label=label, now=NOW, source="ROL-0000001")
    ConfigurationItem.objects.filter(pk=found.pk).update(attributes={"disk": "ssd"})
    return ConfigurationItem.objects.get(pk=found.pk)


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_what_has_changed_since_is_told_part_by_part(ci: ConfigurationItem) -> None:
    boss = make_user("boss", "administrator")
    kept = baselines.record_baseline(ci, actor=boss, now=NOW, name=" before the new disks ")
    assert Look(ci, boss).compare(kept).differences == []
    billing, printing = (ci.installed_versions.get(product__slug=slug).product for slug in ("billing", "printing"))
    record_installed(ci, product=billing, label="2.0", now=NOW, source="ROL-0000002")
    record_removed(ci, product=printing, now=NOW, source="ROL-0000002")
    record_installed(ci, product=make_product("scales"), label="1", now=NOW, source="ROL-0000002")
    needed = ci.depends.get().target
    Relation.objects.filter(source=ci).delete()
    ConfigurationItem.objects.filter(pk=ci.pk).update(attributes={"disk": "hdd"}, lifecycle="in_repair", owner=None)
    now = ConfigurationItem.objects.get(pk=ci.pk)
    assert Look(now, boss).compare(kept).differences == [
        Difference("versions", "billing", "1.0", "2.0"),
        Difference("versions", "printing", "4.2", None),
        Difference("versions", "scales", None, "1"),
        Difference("facts", "lifecycle", "in_operation", "in_repair"),
        Difference("facts", "owner", "uma", ""),
        Difference("depends_on", needed.number, "runs_on", None),
        Difference("attributes", "disk", "ssd", "hdd"),
    ]
    text = signed_in(boss).get(reverse("ci_baseline", args=[ci.number, kept.pk])).content.decode()
    for part in ("before the new disks", "4.2", "is gone", "was not there", "hdd"):
        assert part in text, part


def test_a_baseline_is_never_changed_has_its_own_name_and_does_not_pile_up(ci, monkeypatch) -> None:
    boss = make_user("boss", "administrator")
    kept = baselines.record_baseline(ci, actor=boss, now=NOW, name="one")
    with pytest.raises(ProgrammingError), transaction.atomic():
        Baseline.objects.filter(pk=kept.pk).update(name="another")
    with pytest.raises(InvalidInput, match="of that name"):
        baselines.record_baseline(ci, actor=boss, now=NOW, name="one")
    with pytest.raises(InvalidInput, match="Give the baseline a name"):
        baselines.record_baseline(ci, actor=boss, now=NOW, name="  ")
    monkeypatch.setattr(baselines, "MOST", 1)
    with pytest.raises(InvalidInput, match="1 baselines"):
        baselines.record_baseline(ci, actor=boss, now=NOW, name="two")
    with pytest.raises(PermissionRefused):
        baselines.record_baseline(ci, actor=make_user("otto", "auditor"), now=NOW, name="two")


def test_pages_record_show_and_remove_for_whom_they_may(ci: ConfigurationItem) -> None:
    boss, owner = signed_in(make_user("boss", "administrator")), signed_in(ci.owner)
    record, page = reverse("ci_baseline_record", args=[ci.number]), reverse("ci_detail", args=[ci.number])
    assert record in boss.get(page).content.decode()
    assert record not in owner.get(page).content.decode()
    assert owner.post(record, {"name": "mine"}).status_code == 403
    assert boss.post(record, {"name": "spring"}).status_code == 302
    assert boss.post(record, {"name": "spring"}).status_code == 400
    address = reverse("ci_baseline", args=[ci.number, Baseline.objects.get().pk])
    assert address in owner.get(page).content.decode()
    # Of other CIs the owner learns nothing.
    needed = ci.depends.get().target.number
    assert needed in boss.get(address).content.decode()
    assert needed not in owner.get(address).content.decode()
    assert signed_in(make_user("nora", "requester")).get(address).status_code == 404
    assert owner.post(address).status_code == 403
    assert boss.post(address).status_code == 302
    assert not Baseline.objects.exists()


def test_the_api_records_compares_and_removes(ci: ConfigurationItem) -> None:
    boss, root = signed_in(make_user("boss", "administrator")), f"/api/v1/cis/{ci.number}/"
    made = boss.post(root + "record_baseline/", {"name": "spring"}, content_type="application/json")
    assert made.status_code == 201, made.content
    assert [row["name"] for row in boss.get(root + "baselines/").json()["results"]] == ["spring"]
    record_installed(ci, product=make_product("scales"), label="1", now=NOW, source="ROL-0000002")
    (found,) = boss.get(root + "baselines/").json()["results"]
    assert found["state"]["versions"] == {"billing": "1.0", "printing": "4.2"}
    assert found["differences"] == [{"part": "versions", "name": "scales", "then": None, "now": "1"}]
    (less,) = signed_in(ci.owner).get(root + "baselines/").json()["results"]
    assert "depends_on" in found["state"]
    assert "depends_on" not in less["state"]
    gone = {"baseline": made.json()["id"]}
    assert boss.post(root + "remove_baseline/", gone, content_type="application/json").status_code == 200
    assert boss.post(root + "remove_baseline/", gone, content_type="application/json").status_code == 400
