"""A rollout from its start to its end, in waves, with devices that behave and some that do not."""

from datetime import timedelta

import pytest

from cmdb.models import ConfigurationItem
from distribution import device
from distribution.models import Deployment, DeploymentItem
from releases import services
from releases.models import FailureDecision, Release, Rollout
from tests.distribution.fleet import stored_version
from tests.factories import make_ci, make_product, make_user
from tests.releases.world import BIG_BANG, POLICY, World, deployments, state, waves
from tickets.exceptions import PermissionRefused, TransitionRefused

pytestmark = pytest.mark.django_db


def test_big_bang_goes_to_everybody_at_once_and_completes_after_the_soak(world: World) -> None:
    world.add_cis(3)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    assert (waves(rollout), set(deployments(rollout).values())) == (["deploying"], {"queued"})
    world.work()
    world.tick()
    assert waves(rollout) == ["soaking"]
    world.tick(9)
    assert state(rollout) == "running"
    world.tick(1)
    assert (state(rollout), state(rollout.release)) == ("completed", "completed")
    assert set(world.runs().values()) == {"2.0"}


def test_phased_rollout_offers_a_wave_only_after_the_one_before_has_passed(world: World) -> None:
    world.add_cis(8)
    policy = {**POLICY, "waves": [{"count": 1}, {"percent": 25}, {"rest": True}]}
    rollout = world.started(policy=policy)
    world.tick()
    assert list(rollout.waves.values_list("size", flat=True)) == [1, 2, 5]
    offered = []
    for _ in range(3):
        world.work()
        offered.append(Deployment.objects.filter(offered_at__isnull=False).count())
        world.tick()
        world.tick(10)
    assert offered == [1, 3, 8]
    assert state(rollout) == "completed"
    verdicts = rollout.waves.order_by("number").values_list("verdicts__kind", "verdicts__outcome")
    assert set(verdicts) == {("success", "passed"), ("pass", "passed")}


def test_many_targets_are_frozen_in_chunks_and_the_list_is_hashed(world: World, monkeypatch) -> None:
    # Names in another order than the ids, which is the order of freezing.
    for n in range(7):
        world.add_ci(f"srv-{9 - n}")
    monkeypatch.setattr("distribution.steps.CHUNK", 2)
    rollout = world.started(policy={**POLICY, "waves": [{"count": 3}, {"rest": True}]})
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.state, rollout.target_count) == ("running", 7)
    assert list(rollout.waves.values_list("size", flat=True)) == [3, 4]


def test_the_cap_on_installations_at_a_time_is_kept(world: World) -> None:
    world.add_cis(5)
    rollout = world.started(policy={**BIG_BANG, "max_in_flight": 2})
    world.tick()
    for _ in range(3):
        for agent in world.devices:
            agent.step(world.now)
        assert list(deployments(rollout).values()).count("queued") == 3
        world.tick(1)
    world.pass_time()
    assert state(rollout) == "completed"


def test_only_proven_success_counts(world: World) -> None:
    (ci,) = world.add_cis(1)
    world.mood("reverts", ci)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.work()
    deployment = Deployment.objects.get()
    assert (deployment.state, deployment.error_code) == ("failed", "reverted")
    world.tick()
    assert (state(rollout), world.runs()) == ("paused", {"srv-1": "1.0"})


def test_attributes_prove_success_when_the_final_report_never_came(world: World) -> None:
    (ci,) = world.add_cis(1)
    world.mood("mute", ci)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.work()
    world.tick()
    world.tick(10)
    assert (deployments(rollout), state(rollout)) == ({"srv-1": "succeeded"}, "completed")


def test_a_manual_gate_stops_between_waves_and_not_after_the_last(world: World) -> None:
    world.add_cis(3)
    rollout = world.started(policy={**POLICY, "manual_gate": True})
    world.tick()
    world.pass_time(3)
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "gate")
    assert list(deployments(rollout).values()).count("queued") == 2
    services.resume_rollout(rollout, actor=world.sven, now=world.now)
    world.pass_time(3)
    assert state(rollout) == "completed"


def test_no_wave_starts_before_the_planned_start_of_the_latest_rfc(world: World) -> None:
    world.add_cis(2)
    later = world.now + timedelta(hours=2)
    changes = [world.change(), world.change(planned_start=later)]
    rollout = world.started(changes=changes)
    world.tick()
    world.work()
    rollout.refresh_from_db()
    assert (rollout.state, waves(rollout)[0]) == ("running", "waiting")
    assert "planned start" in rollout.waits_for
    assert world.tick(3600) == 0
    world.tick(3600)
    assert waves(rollout)[0] == "deploying"


def test_past_the_planned_end_it_pauses_and_resuming_accepts_the_overrun_once(world: World) -> None:
    world.add_cis(3)
    rollout = world.started(changes=[world.change(planned_end=world.now + timedelta(seconds=50))])
    world.tick()
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look")
    services.resume_rollout(rollout, actor=world.sven, now=world.now)
    world.tick(50)
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "window"), "a resume before the end accepts nothing"
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="the plant agreed")
    world.pass_time()
    assert state(rollout) == "completed"


@pytest.mark.slow
def test_after_the_planned_end_no_further_wave_starts_without_a_person(world: World) -> None:
    world.add_cis(3)
    rollout = world.started(changes=[world.change(planned_end=world.now + timedelta(seconds=5))])
    world.tick()
    world.work()
    world.tick(1)
    world.tick(10)
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind, waves(rollout)) == ("paused", "window", ["passed", "waiting"])
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="the plant agreed")
    world.pass_time()
    assert state(rollout) == "completed"


def test_an_emergency_is_exempt_from_the_planned_time(world: World) -> None:
    world.add_cis(1)
    change = world.change(planned_start=world.now + timedelta(hours=1), planned_end=world.now + timedelta(hours=2))
    rollout = world.started(changes=[change], policy=BIG_BANG, release_type=Release.Type.EMERGENCY)
    world.tick()
    world.pass_time(3)
    assert state(rollout) == "completed"


def test_a_new_incident_on_a_ci_of_the_wave_begins_the_soak_anew(world: World) -> None:
    (ci, *_) = world.add_cis(2)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.work()
    world.tick(1)
    world.now += timedelta(seconds=8)
    world.incident(ci, state="new")
    world.tick(2)
    assert waves(rollout) == ["soaking"]
    world.tick(7)
    assert waves(rollout) == ["soaking"]
    world.tick(1)
    assert state(rollout) == "completed"


def test_an_excluded_ci_is_counted_shown_and_left_alone(world: World) -> None:
    _, two, _ = world.add_cis(3)
    anna = make_user("anna", "CI owner")
    two.owner = anna
    two.save()
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    with pytest.raises(PermissionRefused):
        services.exclude_ci(rollout, ci=two, actor=world.rita, now=world.now, reason="no")
    services.exclude_ci(rollout, ci=two, actor=anna, now=world.now, reason="In use until Friday")
    world.pass_time(3)
    assert (state(rollout), deployments(rollout)["srv-2"], world.runs()["srv-2"]) == ("completed", "excluded", "1.0")
    verdict = rollout.waves.get().verdicts.get(kind="pass")
    assert (verdict.numbers["size"], verdict.numbers["confirmed"], verdict.numbers["excluded"]) == (3, 2, 1)


def test_a_ci_whose_device_has_begun_is_not_excluded(world: World) -> None:
    (ci,) = world.add_cis(1)
    world.mood("hangs", ci)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.work()
    with pytest.raises(TransitionRefused, match="before its device begins"):
        services.exclude_ci(rollout, ci=ci, actor=world.olga, now=world.now, reason="too late")


def test_a_ci_retired_in_mid_wave_does_not_hold_the_rollout_up_for_ever(world: World) -> None:
    _, two = world.add_cis(2)
    rollout = world.started(policy={**BIG_BANG, "overdue_counts_as": "skipped"})
    world.tick()
    ConfigurationItem.objects.filter(pk=two.pk).update(lifecycle="retired")
    world.pass_time(3)
    assert (state(rollout), deployments(rollout)["srv-2"]) == ("running", "queued")
    world.tick(100)
    world.tick(10)
    assert (state(rollout), world.runs()) == ("completed", {"srv-1": "2.0", "srv-2": "1.0"})


def test_a_package_of_two_products_gives_each_ci_what_applies_to_it(world: World) -> None:
    shop = make_product("shop")
    stored_version(shop, "1.0")
    shop_new = stored_version(shop, "1.1")
    stored_version(shop, "1.2")
    both = world.add_ci("both", billing="1.0", shop="1.0")
    world.add_ci("only-billing")
    world.add_ci("only-shop", shop="1.0")
    world.add_ci("newer-shop", billing="1.0", shop="1.2")
    assert world.newer
    world.add_ci("neither", billing="3.0", shop="1.2")
    rollout = world.started(world.new, shop_new, policy=BIG_BANG)
    world.tick()
    items = DeploymentItem.objects.filter(deployment__batch__wave__rollout=rollout)
    assert sorted(items.values_list("deployment__ci__name", "product__slug")) == [
        ("both", "billing"),
        ("both", "shop"),
        ("newer-shop", "billing"),
        ("only-billing", "billing"),
        ("only-shop", "shop"),
    ]
    world.pass_time(3)
    assert state(rollout) == "completed"
    assert {a.ci.name: a.runs for a in world.devices}["both"] == {"billing": "2.0", "shop": "1.1"}
    assert {a.ci.name: a.runs for a in world.devices}["newer-shop"] == {"billing": "2.0", "shop": "1.2"}
    assert Deployment.objects.filter(ci=both).count() == 1


def test_targets_are_production_cis_in_operation_that_the_package_applies_to(world: World) -> None:
    one, two, three, four = world.add_cis(4)
    assert world.newer
    world.add_ci("newer", billing="3.0")
    ConfigurationItem.objects.filter(pk=two.pk).update(lifecycle="in_repair")
    ConfigurationItem.objects.filter(pk=three.pk).update(copy_of=one)
    ConfigurationItem.objects.filter(pk=four.pk).update(agent_id=None)
    world.add_ci("already", billing="2.0")
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    assert deployments(rollout) == {"srv-1": "queued", "already": "skipped"}
    world.pass_time(3)
    assert state(rollout) == "completed"


def test_the_selector_narrows_excludes_and_adds(world: World) -> None:
    one, two, three = world.add_cis(3)
    bare = make_ci("bare", agent_id="bare")
    wrong = make_product("wrong")
    targets = {
        "cis": [one.pk, two.pk],
        "exclude": [two.pk],
        "fresh": {str(bare.pk): [world.billing.pk], str(three.pk): [wrong.pk]},
    }
    rollout = world.started(policy=BIG_BANG, targets=targets)
    world.tick()
    assert deployments(rollout) == {"srv-1": "queued", "bare": "queued"}


def test_two_rollouts_that_want_one_ci_take_turns(world: World) -> None:
    world.add_cis(1)
    first = world.started(policy=BIG_BANG)
    second = world.started(world.newer, policy=BIG_BANG)
    world.tick()
    agent = world.devices[0]
    agent.step(world.now)
    assert (deployments(first), deployments(second)) == ({"srv-1": "offered"}, {"srv-1": "queued"})
    other = Deployment.objects.select_related("batch").get(batch__wave__rollout=second)
    assert not device.offer(other, other.ci, now=world.now)
    world.pass_time(4)
    assert (state(first), state(second), world.runs()) == ("completed", "completed", {"srv-1": "3.0"})


def test_retry_is_a_new_attempt_of_the_failed_ones_only(world: World) -> None:
    one, _ = world.add_cis(2)
    world.mood("fails", one)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.work()
    with pytest.raises(TransitionRefused, match="Pause"):
        services.retry_failed_cis(rollout, actor=world.mona, now=world.now)
    world.tick()
    assert state(rollout) == "paused"
    world.mood("ok", one)
    assert services.retry_failed_cis(rollout, actor=world.mona, now=world.now) == 1
    assert services.retry_failed_cis(rollout, actor=world.mona, now=world.now) == 0, "it was ordered already"
    world.work()
    assert deployments(rollout)["srv-1"] == "queued", "offered only when it is resumed"
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="the disk was full")
    world.pass_time(3)
    assert state(rollout) == "completed"
    assert list(Deployment.objects.filter(ci=one).order_by("attempt").values_list("attempt", "state")) == [
        (1, "failed"),
        (2, "succeeded"),
    ]
    assert not FailureDecision.objects.exists()


def test_a_quiet_tick_writes_nothing(world: World, writes) -> None:
    one, two = world.add_cis(2)
    world.mood("offline", two)
    incident = world.incident(one)
    rollouts = [world.started(changes=[world.change(world.problem(incident))])]
    for _ in range(12):
        world.work()
        world.tick()
        with writes(allowed=0):
            world.tick()
        world.now += timedelta(seconds=11)
    world.tick(100)
    with writes(allowed=0):
        world.tick()
    assert Rollout.objects.filter(pk=rollouts[0].pk, state="paused").exists()
