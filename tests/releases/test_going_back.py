"""Rollbacks: of everything, of a wave, of a CI; refused where they would do harm, honest where they did not work."""

from datetime import timedelta

import pytest

from cmdb.models import AgentProfile
from distribution.models import Deployment
from notifications.models import Outbox
from releases import services
from releases.live import stragglers_of
from releases.models import Release, Rollout, RolloutException
from releases.services.previews import preview_rollout
from software.models import Version
from software.services import withdraw_version
from tests.distribution.fleet import stored_version
from tests.factories import make_ci, make_product, make_user
from tests.releases.world import BIG_BANG, Device, World, deployments, state, waves
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused, TransitionRefused

pytestmark = pytest.mark.django_db


def completed(world: World, *versions: Version, number: int = 2, **values: object) -> Rollout:
    """A rollout to so many CIs that has completed."""
    if not world.devices:
        world.add_cis(number)
    values.setdefault("policy", BIG_BANG)
    rollout = world.started(*versions, **values)
    world.tick()
    world.now += timedelta(seconds=1)
    world.work()
    world.tick()
    world.tick(10)
    assert state(rollout) == "completed"
    return rollout


def test_everything_goes_back_after_completion(world: World) -> None:
    change = world.change()
    rollout = completed(world, changes=[change])
    with pytest.raises(InvalidInput):
        services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="")
    with pytest.raises(PermissionRefused):
        services.roll_back_rollout(rollout, actor=world.olga, now=world.now, reason="broken")
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="Invoices are empty")
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="twice")
    assert rollout.events.filter(kind="rollback_ordered").count() == 1
    world.tick()
    world.work()
    world.tick()
    assert (state(rollout), state(rollout.release), state(change)) == ("rolled_back", "rolled_back", "authorised")
    assert set(world.runs().values()) == {"1.0"}
    assert not rollout.exceptions.exists()
    rollout.refresh_from_db()
    assert rollout.settled_at == world.now


def test_what_is_under_way_is_cancelled_first_and_only_what_was_changed_goes_back(world: World) -> None:
    one, two, three, _ = world.add_cis(4)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.work(one)
    world.mood("hangs", two)
    world.work(two)
    world.mood("offline", three)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="stop it all")
    world.tick()
    assert deployments(rollout)["srv-3"] == "cancelled"
    assert state(rollout) == "rolling_back", "the second CI has not confirmed the cancel"
    world.mood("ok", two)
    world.work(one, two)
    world.tick()
    assert state(rollout) == "rolled_back"
    assert deployments(rollout, "rollback") == {"srv-1": "succeeded"}
    assert set(world.runs().values()) == {"1.0"}


def test_one_ci_goes_back_and_the_rollout_stays_completed(world: World) -> None:
    rollout = completed(world)
    one = world.devices[0].ci
    bare = world.add_ci("other")
    with pytest.raises(ConditionRefused, match="did not get"):
        services.roll_back_ci(rollout, ci=bare, actor=world.sven, now=world.now, reason="broken here")
    undo = services.roll_back_ci(rollout, ci=one, actor=world.sven, now=world.now, reason="broken here")
    assert services.roll_back_ci(rollout, ci=one, actor=world.sven, now=world.now, reason="again") == undo
    world.work()
    world.tick()
    assert (state(rollout), state(rollout.release)) == ("completed", "completed")
    assert (world.runs()["srv-1"], world.runs()["srv-2"]) == ("1.0", "2.0")
    assert services.roll_back_ci(rollout, ci=one, actor=world.sven, now=world.now, reason="again") == undo
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="all of it")
    world.tick()
    world.work()
    world.tick()
    assert state(rollout) == "rolled_back"
    assert sorted(Deployment.objects.filter(batch__purpose="rollback").values_list("ci__name", "state")) == [
        ("srv-1", "succeeded"),
        ("srv-2", "succeeded"),
    ]


def test_a_ci_on_its_way_back_is_not_sent_back_again_by_the_rollback_of_everything(world: World) -> None:
    rollout = completed(world)
    one, two = (agent.ci for agent in world.devices)
    world.mood("offline", one)
    services.roll_back_ci(rollout, ci=one, actor=world.sven, now=world.now, reason="broken here")
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="everywhere")
    world.tick()
    world.work()
    world.tick()
    assert (state(rollout), world.runs()[two.name]) == ("rolling_back", "1.0")
    world.mood("ok", one)
    world.work()
    world.tick()
    assert (state(rollout), world.runs()[one.name]) == ("rolled_back", "1.0")
    assert Deployment.objects.filter(batch__purpose="rollback").count() == 2


def test_a_part_goes_back_only_while_paused_or_completed(world: World) -> None:
    one, *_ = world.add_cis(2)
    rollout = world.started()
    world.tick()
    world.work()
    wave = rollout.waves.get(number=1)
    for call in (
        lambda: services.roll_back_ci(rollout, ci=one, actor=world.sven, now=world.now, reason="here"),
        lambda: services.roll_back_wave(wave, actor=world.sven, now=world.now, reason="here"),
    ):
        with pytest.raises(TransitionRefused, match="pause it first"):
            call()
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look")
    with pytest.raises(PermissionRefused):
        services.roll_back_ci(rollout, ci=one, actor=world.olga, now=world.now, reason="here")
    services.roll_back_ci(rollout, ci=one, actor=world.sven, now=world.now, reason="here")
    world.work()
    world.tick()
    assert (state(rollout), world.runs()["srv-1"]) == ("paused", "1.0")


def test_a_wave_goes_back_once(world: World) -> None:
    world.add_cis(3)
    rollout = world.started()
    world.tick()
    world.pass_time(2)
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look")
    first = rollout.waves.get(kind="forward", number=1)
    undo = services.roll_back_wave(first, actor=world.sven, now=world.now, reason="these")
    assert services.roll_back_wave(first, actor=world.sven, now=world.now, reason="these") == undo
    second = rollout.waves.get(kind="forward", number=2)
    if state(second) == "waiting":
        with pytest.raises(TransitionRefused, match="nothing to take back"):
            services.roll_back_wave(second, actor=world.sven, now=world.now, reason="these")
    world.tick()
    world.work()
    world.tick()
    assert (waves(rollout)[0], world.runs()["srv-1"], state(rollout)) == ("rolled_back", "1.0", "paused")
    assert services.roll_back_wave(first, actor=world.sven, now=world.now, reason="these") == undo


@pytest.mark.slow
def test_a_later_rollout_forbids_the_way_back_until_it_has_gone_back_itself(world: World) -> None:
    first = completed(world)
    one, two = (agent.ci for agent in world.devices)
    second = world.started(world.newer, policy=BIG_BANG, targets={"cis": [one.pk]})
    world.tick()
    world.devices[0].step(world.now)
    for call in (
        lambda: services.roll_back_rollout(first, actor=world.sven, now=world.now, reason="back"),
        lambda: services.roll_back_ci(first, ci=one, actor=world.sven, now=world.now, reason="back"),
        lambda: services.roll_back_wave(first.waves.get(), actor=world.sven, now=world.now, reason="back"),
    ):
        with pytest.raises(ConditionRefused) as refused:
            call()
        assert refused.value.code == "overtaken"
        assert second.number in str(refused.value)
    services.roll_back_ci(first, ci=two, actor=world.sven, now=world.now, reason="only this one")
    world.pass_time(3)
    assert world.runs() == {"srv-1": "3.0", "srv-2": "1.0"}
    services.roll_back_rollout(second, actor=world.sven, now=world.now, reason="worse")
    world.pass_time(2)
    assert world.runs()["srv-1"] == "2.0"
    services.roll_back_rollout(first, actor=world.sven, now=world.now, reason="that, too")
    world.pass_time(2)
    assert set(world.runs().values()) == {"1.0"}


def test_an_automatic_rollback_leaves_cis_with_a_later_version_and_lists_them(world: World) -> None:
    one, two, three = world.add_cis(3)
    world.mood("offline", two, three)
    first = world.started(policy={**BIG_BANG, "on_error": "rollback_all"})
    world.tick()
    world.work()
    world.started(world.newer, policy=BIG_BANG, targets={"cis": [one.pk]})
    world.tick()
    world.work()
    assert world.runs()["srv-1"] == "3.0"
    world.mood("fails", two, three)
    world.work()
    world.tick()
    assert state(first) == "rolled_back_with_exceptions"
    assert first.exceptions.get().ci == one
    assert world.runs()["srv-1"] == "3.0"


def test_cis_that_do_not_come_back_are_listed_and_their_owners_told(world: World) -> None:
    anna = make_user("anna", "CI owner")
    one, two, three = (world.add_ci(f"srv-{n}", owner=anna) for n in (1, 2, 3))
    rollout = completed(world)
    world.mood("fails", two)
    world.mood("offline", three)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.tick()
    world.work()
    world.tick(99)
    assert state(rollout) == "rolling_back"
    world.tick(1)
    assert (state(rollout), state(rollout.release)) == ("rolled_back_with_exceptions", "partially_rolled_back")
    listed = dict(rollout.exceptions.values_list("ci__name", "reason"))
    assert listed == {"srv-2": "it does not start", "srv-3": "It did not answer."}
    texts = {row.thread: row.text for row in Outbox.objects.filter(recipient=anna, event__endswith="rolled_back")}
    assert "was rolled back" in texts[one.number]
    for ci in (two, three):
        assert f"{ci.name} could not be taken back" in texts[ci.number]
    world.mood("ok", three)
    world.work()
    world.tick()
    rollout.refresh_from_db()
    assert (world.runs()["srv-3"], rollout.settled_at) == ("1.0", world.now), "it still comes back when it can"


@pytest.mark.slow
def test_a_ci_that_a_second_try_brought_back_is_no_exception_any_more(world: World) -> None:
    rollout = completed(world)
    one = world.devices[0].ci
    world.mood("fails", one)
    services.roll_back_ci(rollout, ci=one, actor=world.sven, now=world.now, reason="broken")
    world.work()
    world.tick()
    assert rollout.exceptions.get().ci == one
    world.mood("ok", one)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="all")
    world.tick()
    world.work()
    world.tick()
    assert (state(rollout), rollout.exceptions.count()) == ("rolled_back", 0)


def test_a_fresh_install_is_removed_again(world: World) -> None:
    world.add_cis(1)
    bare = make_ci("bare", agent_id="bare")
    world.devices.append(Device(bare, {}))
    rollout = completed(world, targets={"fresh": {str(bare.pk): [world.billing.pk]}})
    assert world.runs() == {"srv-1": "2.0", "bare": "2.0"}
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.tick()
    world.work()
    world.tick()
    assert (state(rollout), world.runs(), world.devices[1].runs) == ("rolled_back", {"srv-1": "1.0"}, {})


def test_both_products_of_a_package_go_back_together(world: World) -> None:
    shop = make_product("shop")
    stored_version(shop, "1.0")
    shop_new = stored_version(shop, "1.1")
    world.add_ci("both", billing="1.0", shop="1.0")
    rollout = completed(world, world.new, shop_new)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.tick()
    world.work()
    world.tick()
    assert world.devices[0].runs == {"billing": "1.0", "shop": "1.0"}
    assert state(rollout) == "rolled_back"


def test_without_a_way_back_it_starts_only_with_an_exception_by_a_second_person(world: World) -> None:
    (one,) = world.add_cis(1)
    fixed = AgentProfile.objects.create(name="fixed", can_remove=False)
    bare = make_ci("bare", agent_id="bare", agent_profile=fixed)
    world.devices.append(Device(bare, {}))
    Version.objects.filter(pk=world.old.pk).update(state="withdrawn")
    release = world.approved(policy=BIG_BANG, targets={"fresh": {str(bare.pk): [world.billing.pk]}})
    with pytest.raises(ConditionRefused, match="srv-1, bare") as refused:
        services.start_rollout(release, actor=world.sven, now=world.now)
    assert refused.value.code == "no_way_back"
    kind = RolloutException.Kind.NO_WAY_BACK
    with pytest.raises(PermissionRefused):
        services.record_exception(release, kind=kind, ci=one, actor=world.erik, now=world.now, reason="tested")
    for ci in (one, bare):
        services.record_exception(release, kind=kind, ci=ci, actor=world.mona, now=world.now, reason="to be replaced")
    rollout = services.start_rollout(release, actor=world.sven, now=world.now)
    world.tick()
    world.now += timedelta(seconds=1)
    world.pass_time(3)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.tick()
    world.work()
    world.tick(100)
    world.tick()
    assert state(rollout) == "rolled_back_with_exceptions"
    kinds = dict(rollout.exceptions.values_list("ci__name", "kind"))
    assert kinds == {"bare": "no_way_back", "srv-1": "rollback_failed"}


def test_a_closed_release_and_its_closed_rfc_are_not_moved_by_the_rollback(world: World) -> None:
    change = world.change()
    rollout = completed(world, changes=[change])
    type(change).objects.filter(pk=change.pk).update(state="closed", close_code="successful")
    services.close_release(Release.objects.get(), actor=world.erik, now=world.now)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.tick()
    world.work()
    world.tick()
    assert (state(rollout), state(rollout.release), state(change)) == ("rolled_back", "closed", "closed")
    assert change.entries.filter(text__contains="post-implementation review").count() == 1
    assert rollout.release.entries.filter(text__contains="rolled back").exists()


def test_a_device_that_closed_and_never_confirmed_is_awaited_then_listed(world: World) -> None:
    (one,) = world.add_cis(1)
    rollout = world.started(policy={**BIG_BANG, "overdue_counts_as": "skipped"})
    world.tick()
    for _ in range(3):
        world.devices[0].step(world.now)
    world.devices[0]._report(Deployment.objects.get().pk, "closed", world.now, "success")
    world.mood("offline", one)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.tick()
    assert (deployments(rollout), deployments(rollout, "rollback")) == ({"srv-1": "confirming"}, {"srv-1": "queued"})
    world.tick(100)
    world.tick(100)
    assert state(rollout) == "rolled_back_with_exceptions"
    world.devices[0].runs["billing"] = "2.0"
    world.mood("ok", one)
    world.work()
    world.tick()
    assert (world.runs(), world.devices[0].runs) == ({"srv-1": "1.0"}, {"billing": "1.0"})


def test_only_what_got_it_is_listed_as_not_back(world: World) -> None:
    one, two, _three = world.add_cis(3)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.mood("hangs", two)
    world.work(one, two)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="prices are wrong")
    world.tick()
    rollout.refresh_from_db()
    listed = {d.ci.name: str(d.state) for d in stragglers_of(rollout, world.mona)}
    assert listed == {one.name: "queued", two.name: "cancelling"}, "the third one never got it"
    world.mood("ok", two)
    for _ in range(4):
        world.work()
        world.tick(1)
    assert state(rollout) == "rolled_back"
    rollout.refresh_from_db()
    assert not stragglers_of(rollout, world.mona).exists()


def test_a_version_of_before_that_was_withdrawn_meanwhile_is_no_way_back_and_said_so(world: World) -> None:
    world.add_cis(2)
    rollout = world.started(policy=BIG_BANG)
    world.pass_time(4)
    rollout.refresh_from_db()
    preview = preview_rollout(rollout, "roll_back", actor=world.mona, now=world.now)
    assert preview.choices[0].warnings == []
    withdraw_version(world.old, actor=world.erik, now=world.now)
    preview = preview_rollout(rollout, "roll_back", actor=world.mona, now=world.now)
    assert "2 of them" in preview.choices[0].warnings[0]
    services.roll_back_rollout(rollout, actor=world.mona, now=world.now, reason="prices are wrong")
    world.tick()
    world.work()
    world.tick(200)
    world.tick(1)
    assert state(rollout) == "rolled_back_with_exceptions"
    assert set(rollout.exceptions.values_list("reason", flat=True)) == {
        "The version of before is no longer ready in the media library."
    }
