"""What a device says of itself is mostly taken in one statement: with the same result as the long way, at any time."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from cmdb.models import AttributeChange, ConfigurationItem, Drift, InstalledVersion
from cmdb.services import find_agent, record_installed
from distribution import attributes, attributes_at_once, health, services
from distribution import device as devices
from distribution.models import Deployment, DeploymentEvent
from software.models import Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import make_batch, queue, state, stored_version
from tests.distribution.invariants import check_deployments
from tests.distribution.test_lost_races import answered_behind
from tests.factories import NOW, make_product
from tickets.clock import database_now

KEYS = st.sampled_from(["version.billing", "version.ledger", "version.nothing", "os"])
VALUES = st.sampled_from(["1.0", "2.0", "5.0", "9.9", "", None])
RESULTS = st.sampled_from(["success", "failure"])
MESSAGES = st.tuples(
    st.just("attributes"),
    st.dictionaries(
        st.sampled_from(["version.billing", "version.ledger", "version.nothing", "os"]), VALUES, max_size=3
    ),
    st.sampled_from(["merge", "merge", "replace", "remove"]),
)
STEPS = st.lists(
    st.one_of(
        MESSAGES,
        MESSAGES,
        st.tuples(st.just("fetch")),
        st.tuples(
            st.just("report"), st.sampled_from(["proceeding", "closed"]), st.sampled_from(["success", "failure"])
        ),
        st.tuples(st.sampled_from(["overdue", "cancel"])),
    ),
    max_size=8,
)


def play(device: Device, deployment: Deployment, steps: list[tuple[Any, ...]]) -> list[int]:
    """Carries out the steps; what the portal answered."""
    answers = []
    for kind, *arguments in steps:
        if kind == "attributes":
            answers.append(device.attributes(*arguments).status_code)
        elif kind == "fetch":
            answers.append(device.fetch(deployment).status_code)
        elif kind == "report":
            answers.append(device.report(deployment, *arguments).status_code)
        elif kind == "cancel":
            services.cancel_open([deployment.batch_id], now=NOW, reason="stop")
        else:
            Deployment.objects.filter(finished_at=None).update(overdue_at=NOW)
    return answers


def all_that_is_kept(first_event: int, first_version: int, first_change: int) -> dict[str, list[Any]]:
    """What the database says of the CI, without ids and times."""
    ci = ConfigurationItem.objects.get(name="ci-1")
    return {
        "ci": [ci.attributes, ci.attributes_wanted, ci.attributes_at is not None],
        "deployments": [
            (row.state, row.error_code, row.message, row.finished_at is None)
            for row in Deployment.objects.order_by("id")
        ],
        "events": list(
            DeploymentEvent.objects.filter(pk__gt=first_event)
            .order_by("id")
            .values_list("deployment", "kind", "from_state", "to_state", "details")
        ),
        "installed": [
            (row.product_id, row.version_id, row.label, row.source, row.is_drift, row.valid_to is None, row.changes)
            for row in InstalledVersion.objects.filter(pk__gt=first_version).order_by("id")
        ],
        "replaced": [row.replaced and row.replaced.label for row in InstalledVersion.objects.order_by("id")],
        "current": sorted(InstalledVersion.objects.filter(valid_to=None).values_list("product", "label")),
        "drifts": list(Drift.objects.order_by("id").values_list("product", "expected", "reported", "end")),
        "changes": sorted(
            AttributeChange.objects.filter(pk__gt=first_change).values_list("key", "value"), key=lambda row: str(row)
        ),
    }


def newest(model: Any) -> int:
    row = model.objects.order_by("-pk").first()
    return row.pk if row is not None else 0


@pytest.mark.django_db
@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_messages_have_the_same_result_as_the_long_way(
    device: Device, deployment: Deployment, steps: list[tuple[Any, ...]]
) -> None:
    if not Version.objects.filter(product__slug="ledger").exists():
        ledger = stored_version(make_product("ledger"), "5.0")
        record_installed(device.ci, product=ledger.product, label="5.0", now=NOW)
    results = []
    for is_short in (True, False):
        firsts = newest(DeploymentEvent), newest(InstalledVersion), newest(AttributeChange)
        point = transaction.savepoint()
        with pytest.MonkeyPatch.context() as patch:
            if not is_short:
                patch.setattr(attributes, "taken_at_once", lambda *_, **__: None)
            answers = play(device, deployment, steps)
        check_deployments()
        results.append((answers, all_that_is_kept(*firsts)))
        transaction.savepoint_rollback(point)
    assert results[0] == results[1]


def asking(device: Device) -> ConfigurationItem:
    """The CI as a request with its attributes has it."""
    ci = find_agent(device.ci.agent_id, devices.beside_attributes())
    assert ci is not None
    return ci


@pytest.mark.django_db
def test_the_usual_messages_take_the_short_way(device: Device, deployment: Deployment) -> None:
    def taken(data: dict[str, str | None], mode: str = "merge") -> list[int] | None:
        return attributes_at_once.taken_at_once(asking(device), data=data, mode=mode, now=NOW)

    assert taken({"os": "linux", "version.billing": "1.0"}) == []
    device.fetch(deployment)
    assert taken({"os": "linux"}) == []
    device.report(deployment, "closed", "success")
    assert taken({"version.billing": "2.0"}) == [deployment.pk]
    assert state(deployment) == "succeeded"
    assert taken({"os": "linux", "version.billing": "2.0"}, "replace") == []
    assert taken({"version.billing": "1.0"}) is None, "a drift, or a device that fell back"
    assert taken({"version.billing": None}) is None
    assert ConfigurationItem.objects.get().attributes == {"os": "linux", "version.billing": "2.0"}


@pytest.mark.django_db
def test_health_is_taken_the_long_way_only_while_it_is_asked_for(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    device.attributes({"version.billing": "2.0"}, mode="merge")
    deployment.refresh_from_db()
    check = health.ask(deployment, now=NOW, due_at=database_now() + timedelta(hours=1))
    assert check is not None
    said = {"version.billing": "2.0", "health.request": str(check.pk), "health.billing": "pass"}
    assert attributes_at_once.taken_at_once(asking(device), data=said, mode="merge", now=NOW) is None
    device.attributes(said, mode="merge")
    check.refresh_from_db()
    assert check.outcome == "pass"
    assert attributes_at_once.taken_at_once(asking(device), data=said, mode="merge", now=NOW) == []


@pytest.mark.django_db
def test_what_was_not_read_with_the_ci_is_not_decided(device: Device) -> None:
    ci = find_agent(device.ci.agent_id)
    assert ci is not None
    assert attributes_at_once.taken_at_once(ci, data={"os": "linux"}, mode="merge", now=NOW) is None


@pytest.mark.django_db
def test_attributes_that_came_in_between_are_not_lost(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    device.report(deployment, "closed", "success")
    for data in ({"version.billing": "2.0"}, {"os": "linux"}):
        ci = asking(device)
        device.attributes({f"colour.{len(data)}.{min(data)}": "blue"}, mode="merge")
        devices.record_attributes(ci, data=data, now=NOW)
    assert state(deployment) == "succeeded"
    assert set(ConfigurationItem.objects.get().attributes) == {
        "version.billing", "os", "colour.1.version.billing", "colour.1.os",
    }  # fmt: skip
    check_deployments()


@pytest.mark.django_db
def test_a_deployment_that_ended_in_between_is_not_ended_again(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    device.report(deployment, "closed", "success")
    ci = asking(device)
    device.attributes({"version.billing": "2.0"}, mode="merge")
    assert devices.record_attributes(ci, data={"version.billing": "2.0"}, now=NOW) == []
    assert InstalledVersion.objects.filter(label="2.0").count() == 1
    check_deployments()


@pytest.mark.django_db(transaction=True)
def test_what_runs_is_recorded_once_when_it_changes_while_the_proof_is_written(
    device: Device, deployment: Deployment, new: Version
) -> None:
    device.fetch(deployment)
    device.report(deployment, "closed", "success")
    answer = answered_behind(
        lambda: record_installed(device.ci, product=new.product, label="1.5", now=NOW, is_drift=True),
        lambda: device.attributes({"version.billing": "2.0"}, mode="merge"),
    )
    assert answer.status_code == 200
    assert state(deployment) == "succeeded"
    rows = InstalledVersion.objects.filter(ci=device.ci).order_by("id")
    assert [(row.label, row.valid_to is None) for row in rows] == [("1.0", False), ("1.5", False), ("2.0", True)]
    assert not device.ci.drifts.filter(ended_at=None).exists()
    check_deployments()


@pytest.mark.django_db
def test_of_two_products_both_have_to_be_proven(device: Device, ci: ConfigurationItem, new: Version) -> None:
    ledger = make_product("ledger")
    record_installed(ci, product=ledger, label="4.0", now=NOW)
    (deployment,) = queue(make_batch(), [ci], new, stored_version(ledger, "5.0"))
    device.fetch(deployment)
    device.report(deployment, "closed", "success")
    device.attributes({"version.billing": "2.0"}, mode="merge")
    assert state(deployment) == "confirming"
    device.attributes({"version.billing": "2.0", "version.ledger": "5.0"}, mode="merge")
    assert state(deployment) == "succeeded"
    check_deployments()
