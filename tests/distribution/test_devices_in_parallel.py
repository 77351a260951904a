"""Many requests at once, each in its own thread with its own database connection."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from cmdb.models import InstalledVersion
from distribution import services
from distribution.models import LIVE, Deployment, DeploymentEvent
from tests.distribution.device_client import Device
from tests.distribution.fleet import make_batch, make_fleet, queue, state, stored_version
from tests.distribution.invariants import accepted_reports, check_deployments
from tests.factories import NOW, make_product, make_version

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Runs the calls in as many threads, released together; their results in order."""
    barrier = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def run(place: int, call: Callable[[], Any]) -> None:
        try:
            # Open before the start, so that the calls really meet.
            connection.ensure_connection()
            barrier.wait(timeout=30)
            results[place] = call()
        except BaseException as error:
            results[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(place, call)) for place, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def prepared(number: int, **batch: Any) -> tuple[list[Device], list[Deployment], Any]:
    product = make_product()
    make_version(product, "1.0")
    new = stored_version(product, "2.0")
    cis = make_fleet(number, product, "1.0")
    made = make_batch(**batch)
    return [Device(ci) for ci in cis], queue(made, cis, new), made


def test_fifty_identical_closes_make_one_step() -> None:
    (device,), (deployment,), _ = prepared(1)
    device.fetch(deployment)
    answers = at_once(*[lambda: device.report(deployment, "closed", "success").status_code] * 50)

    assert Counter(answers) == {200: 1, 410: 49}
    assert accepted_reports(deployment) == 1
    assert state(deployment) == "confirming"
    check_deployments()


def test_identical_progress_is_all_taken_and_all_but_one_marked() -> None:
    (device,), (deployment,), _ = prepared(1)
    device.fetch(deployment)
    answers = at_once(*[lambda: device.report(deployment, "proceeding", "none", "40 %").status_code] * 12)

    assert Counter(answers) == {200: 12}
    assert Counter(deployment.events.filter(kind="report").values_list("is_duplicate", flat=True)) == {
        False: 1,
        True: 11,
    }
    deployment.refresh_from_db()
    assert deployment.reports == 12
    check_deployments()


def test_of_two_batches_that_want_one_ci_one_gets_it() -> None:
    (device,), (first,), batch = prepared(1)
    other = make_batch("ROL-0000002")
    # Another version: what fails in one batch is not offered again by the other.
    newer = make_version(first.items.get().product, "3.0")
    for _ in range(5):
        (second,) = queue(other, [device.ci], newer)
        answers = at_once(
            *[lambda d=d: device.fetch(d).status_code for d in (first, second, first, second)]  # type: ignore[misc]
        )
        assert Deployment.objects.filter(ci=device.ci, state__in=LIVE).count() == 1
        assert Counter(answers) == {200: 2, 404: 2}
        winner, loser = (first, second) if state(first) == "offered" else (second, first)
        assert state(loser) == "queued"
        assert device.report(winner, "closed", "failure").status_code == 200
        check_deployments()
        winner_batch = winner.batch
        services.retry_failed(winner_batch, now=NOW)
        first = batch.deployments.filter(state="queued").get()
        other.deployments.filter(state="queued").exists()
        second = other.deployments.filter(state="queued").get()


@pytest.mark.parametrize("cap", [1, 7])
def test_the_cap_is_never_exceeded(cap: int) -> None:
    devices, deployments, batch = prepared(20, max_in_flight=cap)
    pairs = list(zip(devices, deployments, strict=True))
    answers = at_once(*[lambda p=p: p[0].fetch(p[1]).status_code for p in pairs])  # type: ignore[misc]

    assert Counter(answers) == {200: cap, 404: 20 - cap}
    assert services.counts([batch.pk])[batch.pk].live == cap
    check_deployments()


def test_no_offer_is_written_after_the_batch_was_closed() -> None:
    devices, deployments, batch = prepared(12)
    seen: list[int] = []

    def close() -> None:
        services.close_batch(batch)
        seen.append(DeploymentEvent.objects.filter(deployment__batch=batch).count())

    at_once(close, *[lambda p=p: p[0].fetch(p[1]).status_code for p in zip(devices, deployments, strict=True)])  # type: ignore[misc]
    assert [DeploymentEvent.objects.filter(deployment__batch=batch).count()] == seen
    check_deployments()


def test_cancel_against_close() -> None:
    devices, deployments, batch = prepared(8)
    for device, deployment in zip(devices, deployments, strict=True):
        device.fetch(deployment)
    pairs = list(zip(devices, deployments, strict=True))
    closes = [lambda p=p: p[0].report(p[1], "closed", "success").status_code for p in pairs]  # type: ignore[misc]
    answers = [lambda p=p: p[0].answer(p[1], "closed", "success").status_code for p in pairs]  # type: ignore[misc]

    def cancel() -> None:
        services.cancel_open([batch.pk], now=NOW, reason="abort")

    results = at_once(cancel, *closes, *answers)[1:]

    check_deployments()
    for place, deployment in enumerate(deployments):
        closed, answered = results[place], results[place + 8]
        if state(deployment) == "cancelled":
            assert (closed, answered) == (410, 200)
        else:
            assert state(deployment) == "confirming"
            assert (closed, answered) == (200, 405)
        assert accepted_reports(deployment) == 1


def test_the_attributes_against_the_final_report() -> None:
    devices, deployments, batch = prepared(8)
    pairs = list(zip(devices, deployments, strict=True))
    for device, deployment in pairs:
        device.fetch(deployment)
    closes = [lambda p=p: p[0].report(p[1], "closed", "success").status_code for p in pairs]  # type: ignore[misc]
    says = [lambda p=p: p[0].attributes(billing="2.0").status_code for p in pairs]  # type: ignore[misc]
    results = at_once(*closes, *says)

    assert Counter(results[8:]) == {200: 8}
    assert set(results[:8]) <= {200, 410}
    assert services.counts([batch.pk])[batch.pk].succeeded == 8
    assert InstalledVersion.objects.filter(valid_to=None, label="2.0", source="ROL-0000001").count() == 8
    check_deployments()


def test_the_same_attributes_ten_times_write_one_version() -> None:
    (device,), (deployment,), _ = prepared(1)
    device.fetch(deployment)
    answers = at_once(*[lambda: device.attributes(billing="2.0").status_code] * 10)
    assert Counter(answers) == {200: 10}
    assert InstalledVersion.objects.filter(ci=device.ci).count() == 2
    assert state(deployment) == "succeeded"
    check_deployments()


def test_queueing_and_retrying_twice_at_the_same_time() -> None:
    (device,), (deployment,), batch = prepared(1)
    device.fetch(deployment)
    device.report(deployment, "closed", "failure")
    made = at_once(*[lambda: services.retry_failed(batch, now=NOW)] * 4)
    assert sum(made) == 1
    assert batch.deployments.count() == 2
