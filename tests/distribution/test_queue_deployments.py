"""What the engine writes into a batch: forward, back, again; and how it counts."""

from datetime import timedelta

import pytest

from cmdb.models import AgentProfile
from cmdb.services import record_installed, record_removed
from distribution import services
from distribution.models import Deployment, DeploymentItem
from distribution.steps import move_where
from tests.distribution.fleet import history, make_batch, make_fleet, queue, two_versions
from tests.factories import NOW, make_ci, make_product, make_version

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(minutes=5)


def end(deployment: Deployment, state: str) -> None:
    """Takes a deployment straight to an end, as its device would over HTTP."""
    for to_state in ("offered", "installing", state):
        move_where("d.id = %(id)s", {"id": deployment.pk}, to_state=to_state, kind="engine", now=NOW)
    Deployment.objects.filter(pk=deployment.pk).update(offered_at=NOW)


def test_a_ci_gets_one_deployment_with_the_items_whose_product_it_has() -> None:
    billing, old, new = two_versions()
    shop, shop_old, shop_new = two_versions("shop")
    both, one = make_fleet(2, billing, "1.0")
    record_installed(both, product=shop, label="1.0", now=NOW)
    none = make_ci("none")
    batch = make_batch()
    package = [(billing.pk, new.pk, 1), (shop.pk, shop_new.pk, 2)]
    ids = [both.pk, one.pk, none.pk, one.pk]

    assert services.queue_deployments(batch, ci_ids=ids, package=package, now=NOW) == 2

    items = DeploymentItem.objects.filter(deployment__ci=both).values_list(
        "product", "from_version", "to_version", "position"
    )
    assert list(items) == [(billing.pk, old.pk, new.pk, 1), (shop.pk, shop_old.pk, shop_new.pk, 2)]
    assert DeploymentItem.objects.filter(deployment__ci=one).count() == 1
    assert not Deployment.objects.filter(ci=none).exists()
    assert history(one.deployments.get()) == [("created", "", "queued")]


def test_a_fresh_install_comes_from_nothing() -> None:
    billing, _, new = two_versions()
    ci = make_ci("bare")
    batch = make_batch()
    package = [(billing.pk, new.pk, 1)]

    assert services.queue_deployments(batch, ci_ids=[ci.pk], package=package, fresh={ci.pk: {billing.pk}}, now=NOW)

    item = DeploymentItem.objects.get(deployment__ci=ci)
    assert (item.from_version, item.to_version) == (None, new)


def test_queueing_twice_writes_once() -> None:
    billing, _, new = two_versions()
    cis = make_fleet(3, billing, "1.0")
    batch = make_batch()
    package = [(billing.pk, new.pk, 1)]
    ids = [ci.pk for ci in cis]

    assert services.queue_deployments(batch, ci_ids=ids[:2], package=package, now=NOW) == 2
    assert services.queue_deployments(batch, ci_ids=ids, package=package, now=LATER) == 1
    assert services.queue_deployments(batch, ci_ids=ids, package=package, now=LATER) == 0
    assert services.counts([batch.pk])[batch.pk].total == 3


def test_a_ci_that_is_there_already_is_skipped_at_once() -> None:
    billing, _, new = two_versions()
    (ci,) = make_fleet(1, billing, "2.0")

    (deployment,) = queue(make_batch(), [ci], new)

    assert (deployment.state, deployment.finished_at) == ("skipped", NOW)
    assert history(deployment) == [("created", "", "queued"), ("engine", "queued", "skipped")]


def test_rollback_goes_back_where_something_was_changed_or_may_have_been() -> None:
    billing, old, new = two_versions()
    done, failed, failed_but_runs_it, closed, waiting, there = cis = make_fleet(6, billing, "1.0")
    record_installed(there, product=billing, label="2.0", now=NOW)
    forward = make_batch()
    deployments = dict(zip([ci.pk for ci in cis], queue(forward, cis, new), strict=True))
    end(deployments[done.pk], "succeeded")
    record_installed(done, product=billing, label="2.0", now=LATER)
    end(deployments[failed.pk], "failed")
    end(deployments[failed_but_runs_it.pk], "failed")
    record_installed(failed_but_runs_it, product=billing, label="2.0", now=LATER)
    end(deployments[closed.pk], "confirming")
    back = make_batch(purpose="rollback", weight=900)

    assert services.queue_rollback(back, forward_batch_ids=[forward.pk], now=LATER) == 3
    assert services.queue_rollback(back, forward_batch_ids=[forward.pk], now=LATER) == 0

    assert {d.ci_id for d in back.deployments.all()} == {done.pk, failed_but_runs_it.pk, closed.pk}
    items = DeploymentItem.objects.filter(deployment__batch=back)
    assert {(i.from_version_id, i.to_version_id) for i in items} == {(new.pk, old.pk)}
    assert {d.state for d in back.deployments.all()} == {"queued"}
    assert {d.weight for d in back.deployments.all()} == {900}
    assert deployments[waiting.pk].pk not in [d.pk for d in back.deployments.all()]


def test_rollback_of_one_ci_only() -> None:
    billing, _, new = two_versions()
    cis = make_fleet(2, billing, "1.0")
    forward = make_batch()
    for deployment in queue(forward, cis, new):
        end(deployment, "succeeded")
    for ci in cis:
        record_installed(ci, product=billing, label="2.0", now=LATER)
    back = make_batch(purpose="rollback")

    assert services.queue_rollback(back, forward_batch_ids=[forward.pk], ci_ids=[cis[1].pk], now=LATER) == 1
    assert services.queue_rollback(back, forward_batch_ids=[forward.pk], now=LATER) == 1


def test_rollback_of_a_fresh_install_removes_the_product() -> None:
    billing, _, new = two_versions()
    can, cannot = make_ci("can"), make_ci("cannot")
    cannot.agent_profile = AgentProfile.objects.create(name="fixed", can_remove=False)
    cannot.save()
    forward = make_batch()
    services.queue_deployments(
        forward,
        ci_ids=[can.pk, cannot.pk],
        package=[(billing.pk, new.pk, 1)],
        fresh={can.pk: {billing.pk}, cannot.pk: {billing.pk}},
        now=NOW,
    )
    for deployment in forward.deployments.all():
        end(deployment, "succeeded")
    for ci in (can, cannot):
        record_installed(ci, product=billing, label="2.0", now=LATER)
    back = make_batch(purpose="rollback")

    assert services.queue_rollback(back, forward_batch_ids=[forward.pk], now=LATER) == 1

    item = DeploymentItem.objects.get(deployment__batch=back)
    assert (item.deployment.ci_id, item.from_version_id, item.to_version_id) == (can.pk, new.pk, None)


def test_a_ci_that_ran_an_unknown_version_before_has_no_way_back() -> None:
    billing, _, new = two_versions()
    (ci,) = make_fleet(1, billing, "built by hand")
    forward = make_batch()
    (deployment,) = queue(forward, [ci], new)
    end(deployment, "succeeded")
    record_installed(ci, product=billing, label="2.0", now=LATER)
    back = make_batch(purpose="rollback")

    assert services.queue_rollback(back, forward_batch_ids=[forward.pk], now=LATER) == 0


def test_a_ci_that_is_back_already_is_skipped() -> None:
    billing, _, new = two_versions()
    (ci,) = make_fleet(1, billing, "1.0")
    forward = make_batch()
    (deployment,) = queue(forward, [ci], new)
    end(deployment, "succeeded")
    back = make_batch(purpose="rollback")

    assert services.queue_rollback(back, forward_batch_ids=[forward.pk], now=LATER) == 1
    assert back.deployments.get().state == "skipped"


def test_retry_writes_the_next_attempt_of_what_failed_and_only_once() -> None:
    billing, old, new = two_versions()
    failed, done = cis = make_fleet(2, billing, "1.0")
    batch = make_batch()
    first, second = queue(batch, cis, new)
    end(first, "failed")
    end(second, "succeeded")

    assert services.retry_failed(batch, now=LATER) == 1
    assert services.retry_failed(batch, now=LATER) == 0

    again = batch.deployments.get(ci=failed, attempt=2)
    assert again.state == "queued"
    assert [(i.from_version_id, i.to_version_id) for i in again.items.all()] == [(old.pk, new.pk)]
    numbers = services.counts([batch.pk])[batch.pk]
    assert (numbers.total, numbers.queued, numbers.failed, numbers.succeeded) == (2, 1, 0, 1)
    end(again, "failed")
    assert services.retry_failed(batch, now=LATER, ci_ids=[done.pk]) == 0
    assert services.retry_failed(batch, now=LATER, ci_ids=[failed.pk]) == 1


def test_retry_of_a_removal() -> None:
    billing, _, new = two_versions()
    (ci,) = make_fleet(1, billing, "2.0")
    back = make_batch(purpose="rollback")
    deployment = Deployment.objects.create(batch=back, ci=ci, created_at=NOW, moved_at=NOW)
    DeploymentItem.objects.create(deployment=deployment, product=billing, from_version=new)
    end(deployment, "failed")

    assert services.retry_failed(back, now=LATER) == 1
    assert back.deployments.get(attempt=2).state == "queued"

    end(back.deployments.get(attempt=2), "failed")
    record_removed(ci, product=billing, now=LATER)
    assert services.retry_failed(back, now=LATER) == 1
    assert back.deployments.get(attempt=3).state == "skipped"


def test_counts_add_up() -> None:
    billing, _, new = two_versions()
    cis = make_fleet(4, billing, "1.0")
    batch, empty = make_batch(), make_batch("ROL-0000002")
    deployments = queue(batch, cis, new)
    end(deployments[0], "succeeded")
    end(deployments[1], "confirming")
    Deployment.objects.filter(pk__in=[deployments[1].pk, deployments[0].pk]).update(overdue_at=NOW)

    found = services.counts([batch.pk, empty.pk])

    numbers = found[batch.pk]
    assert (numbers.total, numbers.queued, numbers.confirming, numbers.succeeded) == (4, 2, 1, 1)
    assert (numbers.open, numbers.live, numbers.terminal, numbers.overdue) == (3, 1, 1, 1)
    assert found[empty.pk].total == 0
    assert (numbers + found[empty.pk]) == numbers


def test_the_number_of_queries_does_not_grow_with_the_fleet(django_assert_num_queries) -> None:
    billing, _, new = two_versions()
    cis = make_fleet(30, billing, "1.0")
    package = [(billing.pk, new.pk, 1)]
    batch = make_batch()
    with django_assert_num_queries(1):
        assert services.queue_deployments(batch, ci_ids=[ci.pk for ci in cis], package=package, now=NOW) == 30
    with django_assert_num_queries(1):
        services.counts([batch.pk])
    with django_assert_num_queries(1):
        services.mark_overdue([batch.pk], now=LATER)
    with django_assert_num_queries(8):  # a savepoint; the order, who is next, three steps, how far it is
        services.cancel_open([batch.pk], now=LATER, reason="abort")


def test_a_product_that_is_not_in_the_package_is_left_alone() -> None:
    billing, _, new = two_versions()
    other = make_product("other")
    make_version(other, "9")
    (ci,) = make_fleet(1, billing, "1.0")
    record_installed(ci, product=other, label="9", now=NOW)

    (deployment,) = queue(make_batch(), [ci], new)

    assert [item.product for item in deployment.items.all()] == [billing]
