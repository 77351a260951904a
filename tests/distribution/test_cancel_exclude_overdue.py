"""What ends or marks deployments from the portal's side."""

from datetime import datetime, timedelta

import pytest

from cmdb.models import ConfigurationItem
from distribution import services
from distribution.models import Deployment
from distribution.steps import LEGAL_STEPS, move_where, record_step
from tests.distribution.fleet import history, make_batch, make_fleet, queue, two_versions
from tests.factories import NOW
from tickets.exceptions import TransitionRefused

pytestmark = pytest.mark.django_db


def at(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


def step(deployment: Deployment, *states: str, now: datetime = NOW) -> None:
    for state in states:
        assert move_where("d.id = %(id)s", {"id": deployment.pk}, to_state=state, kind="engine", now=now)
    deployment.refresh_from_db()


def test_cancel_ends_what_waits_and_asks_what_is_under_way() -> None:
    _, _, new = two_versions()
    cis = make_fleet(6, new.product, "1.0")
    batch = make_batch()
    waiting, offered, downloading, installing, confirming, done = queue(batch, cis, new)
    step(offered, "offered")
    step(downloading, "offered", "downloading")
    step(installing, "offered", "installing")
    step(confirming, "offered", "confirming")
    step(done, "offered", "succeeded")

    assert services.cancel_open([batch.pk], now=at(1), reason="ROL-0000001 aborted") == (1, 3)
    assert services.cancel_open([batch.pk], now=at(2), reason="ROL-0000001 aborted") == (0, 0)

    states = {d.pk: (d.state, d.state_before_cancel) for d in batch.deployments.all()}
    assert states[waiting.pk] == ("cancelled", "")
    assert states[offered.pk] == ("cancelling", "offered")
    assert states[downloading.pk] == ("cancelling", "downloading")
    assert states[installing.pk] == ("cancelling", "installing")
    assert states[confirming.pk] == ("confirming", "")
    assert states[done.pk] == ("succeeded", "")
    waiting.refresh_from_db()
    assert (waiting.reason, waiting.finished_at) == ("ROL-0000001 aborted", at(1))
    assert history(waiting) == [("created", "", "queued"), ("engine", "queued", "cancelled")]


def test_a_ci_is_excluded_before_its_device_begins_and_not_later() -> None:
    _, _, new = two_versions()
    cis = make_fleet(3, new.product, "1.0")
    waiting, offered, installing = queue(make_batch(), cis, new)
    step(offered, "offered")
    step(installing, "offered", "installing")

    assert services.exclude_deployment(waiting, now=at(1), reason="in use until Friday")
    assert services.exclude_deployment(offered, now=at(1), reason="in use until Friday")
    assert not services.exclude_deployment(waiting, now=at(2), reason="again")
    with pytest.raises(TransitionRefused, match="before its device begins"):
        services.exclude_deployment(installing, now=at(1), reason="too late")

    assert (waiting.state, waiting.reason) == ("excluded", "in use until Friday")
    assert history(offered)[-1] == ("engine", "offered", "excluded")


def test_opening_and_closing_may_be_repeated() -> None:
    batch = make_batch(is_open=False)
    assert services.open_batch(batch, now=at(1))
    assert not services.open_batch(batch, now=at(2))
    batch.refresh_from_db()
    assert (batch.is_open, batch.opened_at) == (True, at(1))
    assert services.close_batch(batch)
    assert not services.close_batch(batch)


def test_deadlines_mark_once_and_leave_the_deployment_open() -> None:
    _, _, new = two_versions()
    cis = make_fleet(4, new.product, "1.0")
    batch = make_batch(offer_deadline=10, progress_deadline=20, confirm_deadline=30)
    waiting, offered, confirming, done = queue(batch, cis, new)
    step(offered, "offered", now=at(5))
    step(confirming, "offered", "confirming", now=at(5))
    step(done, "offered", "succeeded", now=at(5))

    assert services.mark_overdue([batch.pk], now=at(9)) == 0
    assert services.mark_overdue([batch.pk], now=at(10)) == 1
    assert services.mark_overdue([batch.pk], now=at(24)) == 0
    assert services.mark_overdue([batch.pk], now=at(25)) == 1
    assert services.mark_overdue([batch.pk], now=at(35)) == 1
    assert services.mark_overdue([batch.pk], now=at(9999)) == 0

    waiting.refresh_from_db()
    assert (waiting.state, waiting.overdue_at) == ("queued", at(10))
    assert history(waiting)[-1] == ("engine", "queued", "queued")
    assert services.counts([batch.pk])[batch.pk].overdue == 3


def test_a_device_that_goes_on_reporting_the_same_is_overdue_all_the_same() -> None:
    _, _, new = two_versions()
    batch = make_batch(progress_deadline=20)
    (deployment,) = queue(batch, make_fleet(1, new.product, "1.0"), new)
    step(deployment, "offered", "installing")
    Deployment.objects.filter(pk=deployment.pk).update(reported_at=at(19), reports=40)

    assert services.mark_overdue([batch.pk], now=at(20)) == 1


def test_the_offer_deadline_counts_only_while_the_batch_is_open() -> None:
    _, _, new = two_versions()
    batch = make_batch(offer_deadline=10)
    queue(batch, make_fleet(1, new.product, "1.0"), new)

    services.close_batch(batch)
    assert services.mark_overdue([batch.pk], now=at(60)) == 0
    services.open_batch(batch, now=at(60))
    assert services.mark_overdue([batch.pk], now=at(69)) == 0
    assert services.mark_overdue([batch.pk], now=at(70)) == 1


def test_waiting_behind_another_deployment_of_the_ci_is_not_overdue_until_that_one_is() -> None:
    _, _, new = two_versions()
    (ci,) = make_fleet(1, new.product, "1.0")
    first, second = make_batch(progress_deadline=50), make_batch("ROL-0000002", offer_deadline=10)
    (live,) = queue(first, [ci], new)
    step(live, "offered")
    queue(second, [ci], new)

    assert services.mark_overdue([second.pk], now=at(40)) == 0
    assert services.mark_overdue([first.pk], now=at(50)) == 1
    assert services.mark_overdue([second.pk], now=at(50)) == 1


def test_waiting_for_room_under_the_cap_is_overdue_only_when_the_ci_is_silent_or_nothing_moves() -> None:
    _, _, new = two_versions()
    asks, silent, busy = make_fleet(3, new.product, "1.0")
    batch = make_batch(offer_deadline=60, max_in_flight=1)
    waits, lost, working = queue(batch, [asks, silent, busy], new)
    step(working, "offered", now=at(50))
    ConfigurationItem.objects.filter(pk=asks.pk).update(last_seen_at=at(95))

    assert services.mark_overdue([batch.pk], now=at(100)) == 1
    lost.refresh_from_db()
    assert lost.overdue_at
    ConfigurationItem.objects.filter(pk=asks.pk).update(last_seen_at=at(115))
    assert services.mark_overdue([batch.pk], now=at(120)) == 1, "nothing in the batch moved for a minute"
    waits.refresh_from_db()
    assert waits.overdue_at


def test_only_legal_steps_are_written() -> None:
    _, _, new = two_versions()
    (deployment,) = queue(make_batch(), make_fleet(1, new.product, "1.0"), new)
    states = set(LEGAL_STEPS) | {s for targets in LEGAL_STEPS.values() for s in targets}

    for to_state in states - LEGAL_STEPS["queued"] - {"queued"}:
        assert not move_where("d.id = %(id)s", {"id": deployment.pk}, to_state=to_state, kind="engine", now=NOW)
        with pytest.raises(ValueError, match="cannot go"):
            record_step(deployment.pk, from_state="queued", to_state=to_state, kind="engine", now=NOW)

    assert not record_step(deployment.pk, from_state="offered", to_state="offered", kind="engine", now=NOW)
    assert history(deployment) == [("created", "", "queued")]
