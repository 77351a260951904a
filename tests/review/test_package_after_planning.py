"""What planning asked for cannot be edited away afterwards."""

import pytest

from releases import services
from tests.releases.world import World, deployments
from tickets.exceptions import ConditionRefused


def test_a_planned_release_keeps_an_rfc_and_a_version(world: World) -> None:
    world.add_cis(1)
    release = world.built()
    for emptied in ({"changes": [], "left_out_reason": "later"}, {"versions": []}):
        with pytest.raises(ConditionRefused):
            services.edit_release(release, actor=world.erik, now=world.now, **emptied)
    assert release.changes.count() == release.items.count() == 1


def test_an_rfc_that_is_taken_out_after_planning_needs_a_reason(world: World) -> None:
    world.add_cis(1)
    kept, dropped = world.change(), world.change()
    release = world.built(changes=[kept, dropped])
    with pytest.raises(ConditionRefused) as refused:
        services.edit_release(release, actor=world.erik, now=world.now, changes=[kept])
    assert refused.value.detail == {"changes": [dropped.number]}
    edit = {"actor": world.erik, "now": world.now}
    services.edit_release(release, changes=[kept], left_out_reason="needs new hardware", **edit)
    assert list(release.left_out.values_list("change", "reason")) == [(dropped.pk, "needs new hardware")]
    services.edit_release(release, changes=[kept, dropped], **edit)
    assert not release.left_out.exists()


def test_an_rfc_that_an_aborted_rollout_has_installed_stays_in_its_release(world: World) -> None:
    first, _second = world.add_cis(2)
    change = world.change()
    rollout = world.started(changes=[change])
    world.tick()
    world.work(first)
    services.abort_rollout(rollout, actor=world.sven, now=world.now, reason="enough")
    world.tick()
    assert deployments(rollout)["srv-1"] == "succeeded"
    with pytest.raises(ConditionRefused, match=change.number):
        services.edit_release(rollout.release, actor=world.erik, now=world.now, changes=[world.change()])
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="back")
    world.pass_time(3)
    change.refresh_from_db()
    assert change.state == "authorised"
