"""Who comes in which wave: each target in exactly one, the first that takes it, and the plan says it beforehand."""

from itertools import chain
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from cmdb.groups import create_group, edit_group
from cmdb.models import CIClass, Relation
from distribution.models import Deployment
from releases import services
from releases.executor import advance_rollouts
from releases.models import Release, Rollout
from releases.wave_plan import planned_waves
from tests.factories import make_ci
from tests.releases.world import POLICY, World, state
from tickets.exceptions import ConditionRefused, InvalidInput

pytestmark = pytest.mark.django_db
REST = {"rest": True}


def waves_of(*rules: dict[str, Any]) -> dict[str, Any]:
    return {**POLICY, "waves": [*rules, REST]}


def planned(release: Release) -> list[list[str]]:
    return [list(wave.cis.order_by("pk").values_list("name", flat=True)) for wave in planned_waves(release)]


def frozen(rollout: Rollout) -> list[list[str]]:
    found = rollout.waves.filter(kind="forward").order_by("number").values_list("batch", flat=True)
    return [
        list(Deployment.objects.filter(batch=batch).order_by("ci_id").values_list("ci__name", flat=True))
        for batch in found
    ]


def fleet(world: World) -> dict[str, Any]:
    """Six servers, two of them of the class desktop, two below the service Shop, two in the group Pilot."""
    cis = world.add_cis(6)
    desktop = CIClass.objects.create(name="Desktop", slug="desktop-x")
    for ci in cis[1:3]:
        ci.ci_class = desktop
        ci.save()
    shop, app = make_ci("Shop"), make_ci("app")
    for source, target in ((shop, app), (app, cis[3]), (app, cis[4]), (cis[4], shop)):
        Relation.objects.create(source=source, target=target)
    pilot = create_group(actor=None, now=world.now, name="Pilot", static_members=[cis[4], cis[5]])
    return {"cis": cis, "shop": shop, "pilot": pilot}


def test_waves_by_class_service_group_and_name_take_who_fits_and_the_first_wins(world: World, monkeypatch) -> None:
    things = fleet(world)
    policy = waves_of(
        {"cis": [things["cis"][2].pk]},
        {"ci_class": "desktop-x"},
        {"service": things["shop"].pk},
        {"group": things["pilot"].pk},
    )
    monkeypatch.setattr("distribution.steps.CHUNK", 1)
    rollout = world.started(policy=policy)
    expected = [["srv-3"], ["srv-2"], ["srv-4", "srv-5"], ["srv-6"], ["srv-1"]]
    assert planned(rollout.release) == expected
    assert [wave.named for wave in planned_waves(rollout.release)] == [1, 2, 2, 2, None]
    world.tick()
    assert frozen(rollout) == expected
    rollout.refresh_from_db()
    assert (rollout.state, rollout.target_count) == ("running", 6)
    assert list(rollout.waves.order_by("number").values_list("size", flat=True)) == [1, 1, 2, 1, 1]


@pytest.mark.parametrize(
    "rules",
    [
        [{"count": 2}, {"ci_class": "desktop-x"}, {"percent": 34}],
        [{"ci_class": "desktop-x"}, {"count": 1}, {"count": 2}],
        [{"percent": 50}, {"count": 1}, {"ci_class": "desktop-x"}],
        [{"count": 4}, {"count": 4}, {"count": 4}],
    ],
)
def test_numbers_and_filters_in_any_order_are_frozen_as_planned(world: World, rules: list[dict[str, Any]]) -> None:
    fleet(world)
    rollout = world.started(policy=waves_of(*rules))
    expected = [names for names in planned(rollout.release) if names]
    assert sorted(chain(*expected)) == [f"srv-{n}" for n in range(1, 7)]
    world.tick()
    assert frozen(rollout) == expected
    world.pass_time(12)
    assert state(rollout) == "completed"


QUOTA = st.builds(lambda n: {"count": n}, st.integers(1, 9)) | st.builds(lambda n: {"percent": n}, st.integers(1, 30))


def test_the_waves_take_every_target_once_whatever_their_numbers(world: World) -> None:
    world.add_cis(7)
    release = world.draft(policy=POLICY)

    @settings(max_examples=30, deadline=None)
    @given(st.lists(QUOTA, max_size=3))
    def holds(rules: list[dict[str, Any]]) -> None:
        release.policy = waves_of(*rules)
        taken = list(chain.from_iterable(planned(release)))
        assert sorted(taken) == sorted(agent.ci.name for agent in world.devices)
        assert [wave.size for wave in planned_waves(release)] == [len(names) for names in planned(release)]

    holds()


def test_who_leaves_a_class_while_it_is_frozen_is_neither_lost_nor_there_twice(world: World, monkeypatch) -> None:
    first, second = fleet(world)["cis"][:2]
    monkeypatch.setattr("distribution.steps.CHUNK", 1)
    monkeypatch.setattr("releases.executor.time.monotonic", iter(range(0, 10**6, 100)).__next__)
    rollout = world.started(policy=waves_of({"ci_class": "desktop-x"}))
    advance_rollouts(now=world.now)
    assert frozen(rollout) == [["srv-2"], []]
    first.ci_class, second.ci_class = second.ci_class, first.ci_class
    first.save()
    second.save()
    monkeypatch.undo()
    world.tick()
    names = frozen(rollout)
    assert sorted(chain(*names)) == [f"srv-{n}" for n in range(1, 7)]
    assert "srv-2" in names[0]


def test_a_ci_that_comes_after_the_plan_goes_with_the_last_wave(world: World) -> None:
    things = fleet(world)
    rollout = world.started(policy=waves_of({"cis": [ci.pk for ci in things["cis"]]}))
    world.add_ci("srv-7")
    world.tick()
    assert frozen(rollout) == [[f"srv-{n}" for n in range(1, 8)]]


def test_a_group_of_a_wave_that_is_defined_anew_asks_for_a_new_plan_and_approval(world: World) -> None:
    things = fleet(world)
    release = world.approved(policy=waves_of({"group": things["pilot"].pk}))
    edit_group(things["pilot"], actor=None, now=world.now, static_members=[things["cis"][0]])
    with pytest.raises(ConditionRefused) as refused:
        services.start_rollout(release, actor=world.sven, now=world.now)
    assert refused.value.code == "groups_changed"
    services.edit_release(release, actor=world.erik, now=world.now, policy=release.policy)
    with pytest.raises(ConditionRefused, match="not approved"):
        services.start_rollout(release, actor=world.sven, now=world.now)


@pytest.mark.parametrize("rule", [{"cis": [4711]}, {"ci_class": "none"}, {"service": 4711}, {"group": 4711}])
def test_a_wave_of_what_is_not_there_is_refused(world: World, rule: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        world.draft(policy=waves_of(rule))
    assert refused.value.field == "policy"


def test_freezing_asks_as_many_statements_for_many_cis_as_for_few(world: World) -> None:
    counted = []
    for number in (2, 12):
        for n in range(number):
            world.add_ci(f"ci-{number}-{n}")
        rollout = world.started(policy=waves_of({"count": 1}, {"ci_class": "server"}))
        with CaptureQueriesContext(
            connection,
        ) as queries:
            advance_rollouts(now=world.now, budget_seconds=30)
        assert state(rollout) == "running"
        counted.append(len(queries))
        services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="next")
        world.tick()
    assert counted[0] == counted[1]
