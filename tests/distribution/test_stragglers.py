"""Every CI that does not have it stands in the list, with the first reason that applies; nobody else does."""

from collections.abc import Callable
from datetime import time, timedelta
from typing import Any

import pytest

from accounts.models import User
from cmdb.models import AgentProfile, ConfigurationItem, MaintenanceWindow
from cmdb.services import record_installed
from distribution import services
from distribution.models import Deployment
from distribution.steps import move_where
from distribution.stragglers import explain, stragglers
from software.models import Version
from tests.distribution.fleet import make_batch, make_fleet, queue, stored_version
from tests.factories import NOW, make_product, make_user

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(hours=2)


@pytest.fixture
def manager(db: None) -> User:
    return make_user("mona", "release manager")


@pytest.fixture
def new(db: None) -> Version:
    product = make_product()
    stored_version(product, "1.0")
    return stored_version(product, "2.0")


@pytest.fixture
def ci(new: Version) -> ConfigurationItem:
    (found,) = make_fleet(1, new.product, "1.0")
    seen(found)
    return found


@pytest.fixture
def deployment(ci: ConfigurationItem, new: Version) -> Deployment:
    return queue(make_batch("ROL-0000001", offer_deadline=600, progress_deadline=600), [ci], new)[0]


def seen(ci: ConfigurationItem, at: Any = LATER) -> None:
    change(ci, last_seen_at=at)


def change(ci: ConfigurationItem, **values: Any) -> None:
    ConfigurationItem.objects.filter(pk=ci.pk).update(**values)


def step(deployment: Deployment, *states: str, **values: Any) -> None:
    for to_state in states:
        move_where("d.id = %(id)s", {"id": deployment.pk}, to_state=to_state, kind="engine", now=NOW)
    Deployment.objects.filter(pk=deployment.pk).update(**values)


def why(deployment: Deployment, user: User, now: Any = LATER) -> tuple[str, str]:
    (row,) = explain(list(stragglers([deployment.batch_id], user)), now=now)
    assert row.deployment == deployment
    return row.code, row.text


def closed_window() -> MaintenanceWindow:
    """Open for one hour at night, long before and long after now."""
    return MaintenanceWindow.objects.create(name="night", weekdays="1234567", start=time(1), minutes=60, zone="UTC")


def with_profile(ci: ConfigurationItem, **values: Any) -> None:
    change(ci, agent_profile=AgentProfile.objects.create(name="special", **values))


def another(ci: ConfigurationItem, new: Version, *, weight: int = 500) -> Deployment:
    batch = make_batch("ROL-0000002", weight=weight)
    return queue(batch, [ci], stored_version(new.product, "3.0"))[0]


WAITING: dict[str, Callable[[ConfigurationItem, Deployment, Version], Any]] = {
    "next": lambda ci, d, new: None,
    "retired": lambda ci, d, new: change(ci, lifecycle="retired"),
    "not_ready": lambda ci, d, new: Version.objects.filter(pk=new.pk).update(state="withdrawn"),
    "no_file": lambda ci, d, new: with_profile(ci, takes="swu"),
    "no_connection": lambda ci, d, new: change(ci, channel="ansible"),
    "no_agent": lambda ci, d, new: change(ci, agent_id=None),
    "drift": lambda ci, d, new: record_installed(ci, product=new.product, label="1.5", now=LATER, is_drift=True),
    "other": lambda ci, d, new: step(another(ci, new), "offered"),
    "ahead": lambda ci, d, new: another(ci, new, weight=900),
    "closed": lambda ci, d, new: services.close_batch(d.batch),
    "never_seen": lambda ci, d, new: seen(ci, None),
    "silent": lambda ci, d, new: seen(ci, NOW - timedelta(days=3)),
    "window": lambda ci, d, new: (with_profile(ci, can_wait=False), change(ci, maintenance_window=closed_window())),
}


@pytest.mark.parametrize("code", WAITING)
def test_why_one_waits(ci: ConfigurationItem, deployment: Deployment, new: Version, manager: User, code: str) -> None:
    WAITING[code](ci, deployment, new)
    found, text = why(deployment, manager)
    assert found == code
    assert "{" not in text
    if code in ("other", "ahead"):
        assert "ROL-0000002" in text


@pytest.mark.parametrize(
    ("states", "values", "last_seen", "code"),
    [
        (["offered"], {}, LATER, "under_way"),
        (["offered", "installing"], {"overdue_at": LATER}, NOW, "silent"),
        (["offered", "installing"], {"overdue_at": LATER}, LATER, "stuck"),
        (["offered", "confirming"], {"closed_at": NOW}, LATER, "not_confirmed"),
        (["offered", "cancelling"], {}, LATER, "not_answered"),
        (["offered", "installing", "unknown"], {}, LATER, "unknown"),
        (["offered", "failed"], {"error_code": "disk_full", "message": "2 MB left"}, LATER, "failed"),
        (["offered", "failed"], {"error_code": "reverted", "message": "It runs 1.0"}, LATER, "reverted"),
        (["excluded"], {"reason": "olga: a demo"}, LATER, "excluded"),
        (["cancelled"], {"reason": "stop it"}, LATER, "cancelled"),
        (["superseded"], {"reason": "Superseded by ROL-7."}, LATER, "superseded"),
    ],
)
def test_why_one_is_not_done_or_did_not_get_it(
    ci: ConfigurationItem, deployment: Deployment, manager: User,
    states: list[str], values: dict[str, Any], last_seen: Any, code: str,
) -> None:  # fmt: skip
    step(deployment, *states, **values)
    seen(ci, last_seen)
    found, text = why(deployment, manager)
    assert found == code
    for said in (values.get("reason"), values.get("message")):
        assert said is None or said in text


def test_what_is_not_signed_waits_for_that(deployment: Deployment, manager: User, settings: Any) -> None:
    settings.REQUIRE_SIGNATURES = True
    assert why(deployment, manager)[0] == "not_signed"


def test_no_room_under_the_cap(new: Version, manager: User) -> None:
    one, two = make_fleet(2, new.product, "1.0")
    seen(two)
    first, second = queue(make_batch(max_in_flight=1), [one, two], new)
    step(first, "offered")
    rows = {row.deployment.pk: row.code for row in explain(list(stragglers([first.batch_id], manager)), now=LATER)}
    assert rows == {first.pk: "under_way", second.pk: "no_room"}


def test_what_failed_meanwhile_by_another_rollout(
    ci: ConfigurationItem, deployment: Deployment, new: Version, manager: User
) -> None:
    (other,) = queue(make_batch("ROL-0000002"), [ci], new)
    step(other, "offered", "failed", finished_at=LATER)
    assert why(deployment, manager)[0] == "failed_before"


def test_only_the_newest_attempt_of_those_that_do_not_have_it_and_only_of_opened_batches(
    new: Version, manager: User
) -> None:
    done, again, there, waiting = make_fleet(4, new.product, "1.0")
    record_installed(there, product=new.product, label="2.0", now=NOW)
    batch = make_batch()
    first = dict(zip(["done", "again", "there"], queue(batch, [done, again, there], new), strict=True))
    step(first["done"], "offered", "succeeded")
    step(first["again"], "offered", "failed")
    services.retry_failed(batch, now=NOW)
    shut = make_batch("ROL-0000002", is_open=False)
    queue(shut, [waiting], new)
    rows = list(stragglers([batch.pk, shut.pk], manager))
    assert [(row.ci_id, row.attempt, row.state) for row in rows] == [(again.pk, 2, "queued")]


def test_people_see_their_own_cis_only(ci: ConfigurationItem, deployment: Deployment) -> None:
    anna = make_user("anna", "CI owner")
    assert not stragglers([deployment.batch_id], anna).exists()
    change(ci, owner=anna)
    assert stragglers([deployment.batch_id], anna).count() == 1


def test_a_page_costs_two_statements_however_many_there_are(
    new: Version, manager: User, django_assert_num_queries: Any
) -> None:
    batch = make_batch()
    queue(batch, make_fleet(30, new.product, "1.0"), new)
    assert manager.has_perm("cmdb.see_all_cis")
    with django_assert_num_queries(2):
        assert len(explain(list(stragglers([batch.pk], manager)[:25]), now=LATER)) == 25
