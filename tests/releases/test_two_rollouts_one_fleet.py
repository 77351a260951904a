"""Two rollouts want the same thousand CIs at the same moment; and a database that goes away in mid transaction."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection

from cmdb.models import ConfigurationItem, InstalledVersion
from distribution import device, services
from distribution.models import LIVE, Deployment
from releases import executor
from releases.invariants import check_invariants
from releases.models import Rollout
from tests.distribution.test_devices_in_parallel import at_once
from tests.factories import make_ci
from tests.releases.world import BIG_BANG, POLICY, World, state
from tickets.clock import database_now

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
FLEET = 1000
THREADS = 8


@pytest.fixture
def world(transactional_db: None, media: Any) -> Iterator[World]:
    world = World()
    world.now = database_now()
    yield world
    assert check_invariants() == []


def add_fleet(world: World) -> list[ConfigurationItem]:
    first = make_ci("srv-0")
    said = {"attributes": {"version.billing": "1.0"}, "attributes_at": world.now, "attributes_wanted": False}
    cis = ConfigurationItem.objects.bulk_create(
        ConfigurationItem(name=f"srv-{n}", agent_id=f"srv-{n}", ci_class=first.ci_class, created_at=world.now, **said)
        for n in range(1, FLEET + 1)
    )
    InstalledVersion.objects.bulk_create(
        InstalledVersion(ci=ci, product=world.billing, version=world.old, label="1.0", valid_from=world.now)
        for ci in cis
    )
    return cis


@pytest.mark.timeout(300)
def test_of_two_rollouts_each_ci_is_claimed_by_one(world: World) -> None:
    cis = add_fleet(world)
    rollouts = [world.started(version, policy=BIG_BANG) for version in (world.new, world.newer)]
    executor.advance_rollouts(now=database_now(), budget_seconds=60)
    assert Deployment.objects.filter(state="queued").count() == 2 * FLEET
    waiting: dict[int, list[Deployment]] = {}
    for deployment in Deployment.objects.filter(state="queued").select_related("batch").order_by("pk"):
        waiting.setdefault(deployment.ci_id, []).append(deployment)
    claimed: Counter[int] = Counter()

    def claim(place: int) -> None:
        """Half of the threads ask for the first rollout's deployments first, half for the second one's."""
        for ci in cis[place // 2 :: THREADS // 2]:
            for deployment in waiting[ci.pk][:: 1 if place % 2 else -1]:
                if device.offer(
                    Deployment.objects.select_related("batch").get(pk=deployment.pk), ci, now=database_now()
                ):
                    claimed[ci.pk] += 1

    at_once(*[lambda place=place: claim(place) for place in range(THREADS)])  # type: ignore[misc]
    live = Counter(Deployment.objects.filter(state__in=LIVE).values_list("ci", flat=True))
    assert live == claimed == Counter({ci.pk: 1 for ci in cis})
    assert check_invariants() == []
    services.cancel_open(Rollout.objects.values_list("waves__batch", flat=True), now=database_now(), reason="enough")
    assert {state(rollout) for rollout in rollouts} == {"running"}


class Cuts:
    """An execute wrapper: the server ends the connection in front of the n-th statement, as when it is restarted."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if self.left == 0:
            pid = connection.connection.info.backend_pid
            with psycopg.connect(
                connection.connection.info.dsn, password=connection.settings_dict["PASSWORD"]
            ) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        self.left -= 1
        return execute(sql, params, many, context)


@pytest.mark.timeout(300)
def test_a_database_that_restarts_in_a_transaction_loses_a_step_and_nothing_else(world: World) -> None:
    world.add_cis(3)
    rollout = world.started(policy={**POLICY, "waves": [{"count": 1}, {"rest": True}]})
    cut = 0
    for number in (6, 14, 23, 31, 44, 57):
        world.now += timedelta(seconds=11)
        try:
            with connection.execute_wrapper(Cuts(number)):
                executor.advance_rollouts(now=world.now, budget_seconds=60)
        except OperationalError:
            cut += 1
            connection.close()
        assert check_invariants() == []
        executor.advance_rollouts(now=world.now, budget_seconds=60)
        world.work()
    assert cut > 1
    for _ in range(6):
        world.now += timedelta(seconds=11)
        executor.advance_rollouts(now=world.now, budget_seconds=60)
        world.work()
    assert state(rollout) == "completed"
    assert set(world.runs().values()) == {"2.0"}


def test_no_tick_for_an_hour_and_then_five(world: World) -> None:
    """Deadlines that passed meanwhile are seen at once, by the first of them only."""
    (quick, slow) = world.add_cis(2)
    rollout = world.started(policy={**BIG_BANG, "error_threshold": 0})
    executor.run_ticks(now=world.now)
    world.work(quick)
    world.mood("hangs", slow)
    world.work(slow)
    world.now += timedelta(hours=1)
    for _ in range(5):
        executor.run_ticks(now=world.now)
    assert state(rollout) == "paused"
    rollout.refresh_from_db()
    assert rollout.pause_kind == "breach"
    assert rollout.events.filter(kind="wave_failed").count() == 1
    assert Deployment.objects.filter(overdue_at__isnull=False).count() == 1
