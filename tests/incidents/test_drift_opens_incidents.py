"""What a CI reports against what was expected: the drift, its history, and the incident that a rule asks for."""

import threading
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from cmdb.drift import accept_drift
from cmdb.models import AttributeChange, ConfigurationItem, Drift, InstalledVersion
from cmdb.services import record_installed, record_removed
from distribution.device import record_attributes
from incidents.drift import advance_drift_incidents
from incidents.models import DriftIncident, DriftRule, Incident
from software.models import Product
from tests.factories import NOW, make_ci, make_product, make_user, make_version
from tickets.exceptions import PermissionRefused, TransitionRefused
from tickets.text import render_markdown


def says(ci: ConfigurationItem, label: str | None, mode: str = "merge") -> None:
    """The agent's report about billing."""
    record_attributes(ci, data={"version.billing": label}, mode=mode, now=NOW)


def installs(ci: ConfigurationItem, product: Product, label: str) -> None:
    """A deployment brought it."""
    record_installed(ci, product=product, label=label, now=NOW, source="ROL-0000001")


def drifts(ci: ConfigurationItem) -> list[tuple[str, str, str]]:
    return list(ci.drifts.order_by("pk").values_list("expected", "reported", "end"))


@pytest.fixture
def billing(db: None) -> Product:
    product = make_product()
    for label in ("1.0", "2.0", "3.0"):
        make_version(product, label)
    return product


@pytest.fixture
def ci(billing: Product) -> ConfigurationItem:
    made = make_ci("srv-1", agent_id="srv-1")
    says(made, "1.0")
    return made


def rule(**values: Any) -> DriftRule:
    values.setdefault("requester", make_user(f"req-{values.get('name', 'Rule')}"))
    return DriftRule.objects.create(**{"name": "Rule", **values})


def test_the_first_look_contradicts_nothing(ci) -> None:
    assert drifts(ci) == []


def test_a_drift_keeps_what_was_expected_until_it_is_back(ci) -> None:
    for label in ("2.0", "3.0"):
        says(ci, label)
    assert drifts(ci) == [("1.0", "3.0", "")]
    assert ConfigurationItem.objects.drifted().get() == ci
    says(ci, "1.0")
    assert drifts(ci) == [("1.0", "1.0", "returned")]
    assert not ConfigurationItem.objects.drifted().exists()
    assert not InstalledVersion.objects.get(ci=ci, valid_to=None).is_drift


def test_what_vanishes_by_itself_is_drift_and_comes_back(ci) -> None:
    says(ci, None)
    assert drifts(ci) == [("1.0", "", "")]
    says(ci, "2.0")
    assert drifts(ci) == [("1.0", "2.0", "")]
    says(ci, "1.0")
    assert drifts(ci) == [("1.0", "1.0", "returned")]


def test_a_deployment_ends_it_and_an_ordered_removal_is_none(ci, billing) -> None:
    says(ci, "2.0")
    installs(ci, billing, "3.0")
    assert drifts(ci) == [("1.0", "3.0", "deployed")]
    record_removed(ci, product=billing, now=NOW, source="ROL-0000002")
    assert len(drifts(ci)) == 1


def test_a_person_accepts_what_is_there(ci, billing) -> None:
    says(ci, "2.0")
    admin = make_user("adam", "administrator")
    with pytest.raises(PermissionRefused):
        accept_drift(ci, actor=make_user("otto", "release engineer"), now=NOW, product=billing)
    accept_drift(ci, actor=admin, now=NOW, product=billing)
    assert drifts(ci) == [("1.0", "2.0", "accepted")]
    with pytest.raises(TransitionRefused):
        accept_drift(ci, actor=admin, now=NOW, product=billing)
    says(ci, "3.0")
    assert drifts(ci)[1] == ("2.0", "3.0", "")


def test_pages_list_and_api_show_it(ci) -> None:
    make_ci("srv-2", agent_id="srv-2")
    says(ci, "2.0")
    client = Client()
    client.force_login(make_user("adam", "administrator"))
    page = client.get(f"/cis/{ci.number}/").content.decode()
    assert "1.0 was expected, 2.0 was reported" in page
    listed = client.get("/cis/?scope=drift").content.decode()
    assert "srv-1" in listed
    assert "srv-2" not in listed
    found = client.get("/api/v1/cis/?drift=true").json()["results"]
    assert [(one["name"], one["has_drift"]) for one in found] == [("srv-1", True)]
    assert client.get("/api/v1/cis/?drift=false").json()["count"] == 1
    (drift,) = client.get(f"/api/v1/cis/{ci.number}/drifts/").json()["results"]
    assert (drift["product"], drift["expected"], drift["reported"]) == ("billing", "1.0", "2.0")
    changes = client.get(f"/api/v1/cis/{ci.number}/attributes/?key=version.billing").json()["results"]
    assert [one["value"] for one in changes] == ["2.0", "1.0"]
    client.post(f"/cis/{ci.number}/accept-drift/", {"product": "billing"})
    assert client.get("/api/v1/cis/?drift=true").json()["count"] == 0


def test_attributes_keep_their_changes_and_no_more(ci) -> None:
    record_attributes(ci, data={"a": "1", "b": "2"}, mode="merge", now=NOW)
    record_attributes(ci, data={"a": "1", "b": "3"}, mode="merge", now=NOW)
    record_attributes(ci, data={"a": None}, mode="merge", now=NOW)
    found = list(AttributeChange.objects.exclude(key__startswith="version").order_by("id").values_list("key", "value"))
    assert found == [("a", "1"), ("b", "2"), ("b", "3"), ("a", None)]
    for number in range(30):
        record_attributes(ci, data={"flaps": str(number)}, mode="merge", now=NOW)
    kept = AttributeChange.objects.filter(ci=ci, key="flaps").order_by("id").values_list("value", flat=True)
    assert list(kept) == [str(number) for number in range(10, 30)]
    assert AttributeChange.objects.filter(key="b").count() == 2


def test_without_a_rule_nothing_is_opened(ci) -> None:
    says(ci, "2.0")
    rule(is_active=False)
    assert advance_drift_incidents(now=NOW) == 0


def test_a_rule_opens_one_incident_and_notes_the_end(ci, billing) -> None:
    owner = make_user("owner")
    ConfigurationItem.objects.update(owner=owner)
    rule(product=billing, impact="high", urgency="high")
    says(ci, "2.0")
    assert [advance_drift_incidents(now=NOW) for _ in range(2)] == [1, 0]
    incident = Incident.objects.get()
    assert (incident.ci, incident.priority, incident.requester, incident.created_by) == (ci, 1, owner, None)
    says(ci, "3.0")
    assert advance_drift_incidents(now=NOW) == 0
    says(ci, "1.0")
    assert [advance_drift_incidents(now=NOW) for _ in range(2)] == [1, 0]
    assert "The drift is over" in incident.entries.latest("id").text
    says(ci, "2.0")
    assert advance_drift_incidents(now=NOW) == 1  # joins the incident that is still open
    assert Incident.objects.count() == 1
    assert DriftIncident.objects.filter(incident=incident).count() == 2
    Incident.objects.update(state="closed")
    says(ci, "1.0")
    says(ci, "3.0")
    advance_drift_incidents(now=NOW)
    assert Incident.objects.count() == 2


def test_what_a_device_says_is_no_markdown(ci) -> None:
    rule()
    says(ci, "[Fix it](https://evil.example) `x`")
    advance_drift_incidents(now=NOW)
    incident = Incident.objects.get()
    assert "https://evil.example" in incident.description
    assert "href" not in render_markdown(incident.description)
    says(ci, "1.0")
    advance_drift_incidents(now=NOW)
    assert "href" not in render_markdown(incident.entries.latest("id").text)


def test_the_closest_rule_decides(ci, billing) -> None:
    rule(name="all", impact="low", urgency="low")
    rule(name="class", ci_class=ci.ci_class, impact="medium", urgency="medium")
    rule(name="product", product=billing, impact="high", urgency="high")
    rule(name="other", product=make_product("other"), impact="high", urgency="high")
    says(ci, "2.0")
    advance_drift_incidents(now=NOW)
    assert Incident.objects.get().priority == 1


def test_copies_for_tests_open_nothing(ci) -> None:
    ConfigurationItem.objects.update(copy_of=make_ci("source"))
    rule()
    says(ci, "2.0")
    assert advance_drift_incidents(now=NOW) == 0


def test_one_tick_does_a_bounded_part(billing) -> None:
    rule()
    for number in range(5):
        one = make_ci(f"srv-{number}", agent_id=f"srv-{number}")
        says(one, "1.0")
        says(one, "2.0")
    assert [advance_drift_incidents(now=NOW, limit=2) for _ in range(4)] == [2, 2, 1, 0]


class AnyReports(TestCase):
    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.sampled_from(["1.0", "2.0", None, "+1.0", "+2.0"]), max_size=8))
    def test_drift_is_what_runs_against_what_was_brought_last(self, reports: list[str | None]) -> None:
        product, one = make_product(), make_ci("srv-1", agent_id="srv-1")
        expected: str | None = None
        runs: str | None = None
        for said in reports:
            if said is not None and said.startswith("+"):
                installs(one, product, said[1:])
                # Only what is not there already is brought.
                expected = said[1:] if runs != said[1:] else expected
                runs = said[1:]
            else:
                # Through the same door as the device's reports, without a deployment that explains it.
                if said is None:
                    record_removed(one, product=product, now=NOW)
                else:
                    record_installed(one, product=product, label=said, now=NOW, is_drift=True)
                expected = said if expected is None and runs is None else expected
                runs = said
            is_open = Drift.objects.filter(ci=one, ended_at=None).first()
            assert (is_open is not None) == (runs != expected), (reports, said)
            if is_open is not None:
                assert (is_open.expected or None, is_open.reported or None) == (expected, runs)


@pytest.mark.django_db(transaction=True)
def test_several_ticks_at_once_open_one_incident_for_each_drift() -> None:
    product = make_product()
    rule()
    for number in range(12):
        one = make_ci(f"srv-{number}", agent_id=f"srv-{number}")
        record_installed(one, product=product, label="1.0", now=NOW)
        record_installed(one, product=product, label="2.0", now=NOW, is_drift=True)
    start = threading.Barrier(4)
    errors: list[Exception] = []

    def tick() -> None:
        try:
            start.wait(timeout=60)
            advance_drift_incidents(now=NOW)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=tick) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=90)
    assert errors == []
    advance_drift_incidents(now=NOW)
    assert Incident.objects.count() == DriftIncident.objects.count() == 12
    assert Incident.objects.values("ci").distinct().count() == 12
