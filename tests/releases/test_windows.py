"""Freezes and planned times bind the engine: what is under way finishes, nothing new is offered, and it goes on."""

from datetime import timedelta

import pytest
from django.test import Client

from changes.freezes import declare_freeze
from changes.models import Change, Freeze
from changes.services import edit_change, reschedule_change
from releases import services
from releases.models import Release, Rollout
from releases.plan_findings import findings
from releases.windows import STAMP
from tests.factories import make_user
from tests.releases.world import BIG_BANG, POLICY, World, deployments, state, waves
from tickets.exceptions import InvalidInput, PermissionRefused, SeparationOfDuties, TransitionRefused

pytestmark = pytest.mark.django_db


def freeze(world: World, after: float, seconds: float, **values: object) -> Freeze:
    """A freeze that begins so many seconds from now."""
    cora = make_user("cora", "change manager")
    begin = world.now + timedelta(seconds=after)
    return declare_freeze(
        actor=cora, now=world.now, name="Year end", reason="The books are closed.",
        starts_at=begin, ends_at=begin + timedelta(seconds=seconds), **values,
    )  # fmt: skip


def paused_by(rollout: Rollout) -> tuple[str, str]:
    rollout.refresh_from_db()
    return rollout.state, rollout.pause_kind


def test_a_rollout_that_runs_into_a_freeze_lets_in_flight_cis_finish_and_goes_on_by_itself(world: World) -> None:
    one, _two = world.add_cis(2)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.devices[0].step(world.now)
    freeze(world, 0, 100)
    world.tick(1)
    assert paused_by(rollout) == ("paused", "freeze")
    assert "The freeze “Year end” (FRZ-" in rollout.pause_reason
    world.work()
    assert deployments(rollout) == {"srv-1": "succeeded", "srv-2": "queued"}
    world.tick(50)
    assert paused_by(rollout) == ("paused", "freeze")
    world.tick(49)
    assert state(rollout) == "running", "the freeze is over"
    resumed = rollout.events.get(kind="resumed")
    assert (resumed.actor, resumed.text) == (None, "Nothing stands against it any more.")
    world.pass_time(3)
    assert (state(rollout), world.runs()["srv-2"], one.name) == ("completed", "2.0", "srv-1")


def test_no_wave_opens_in_a_freeze_and_one_that_only_soaks_is_left_alone(world: World) -> None:
    world.add_cis(3)
    rollout = world.started()
    world.tick()
    world.work()
    world.tick()
    freeze(world, 1, 60)
    world.tick(5)
    assert (state(rollout), waves(rollout)) == ("running", ["soaking", "waiting"])
    world.tick(5)
    assert (paused_by(rollout), waves(rollout)) == (("paused", "freeze"), ["passed", "waiting"])
    world.tick(60)
    assert waves(rollout) == ["passed", "deploying"]


def test_a_pause_names_what_stands_against_it_now(world: World, writes) -> None:
    world.add_cis(2)
    change = world.change(planned_end=world.now + timedelta(seconds=100))
    rollout = world.started(changes=[change])
    year_end = freeze(world, 0, 50)
    world.tick(1)
    assert paused_by(rollout) == ("paused", "freeze")
    longer = year_end.ends_at + timedelta(seconds=100)
    Freeze.objects.filter(pk=year_end.pk).update(ends_at=longer)
    world.tick(60)
    assert paused_by(rollout) == ("paused", "freeze")
    assert longer.strftime(STAMP) in rollout.pause_reason, "it lasts longer now"
    world.tick(50)
    assert paused_by(rollout) == ("paused", "window"), "both stand against it"
    world.tick(50)
    assert (paused_by(rollout), "Year end" in rollout.pause_reason) == (("paused", "window"), False)
    with writes(allowed=0):
        world.tick(1)
    assert rollout.events.filter(kind="paused").count() == 1


def test_a_quiet_tick_in_a_freeze_writes_nothing(world: World, writes) -> None:
    world.add_cis(2)
    world.started()
    freeze(world, 0, 100)
    world.tick()
    with writes(allowed=0):
        world.tick(1)


def test_an_emergency_is_free_of_a_freeze_unless_it_says_otherwise(world: World) -> None:
    world.add_cis(1)
    freeze(world, 0, 1000)
    rollout = world.started(policy=BIG_BANG, release_type=Release.Type.EMERGENCY)
    world.tick()
    assert waves(rollout) == ["deploying"]
    Freeze.objects.update(binds_emergencies=True)
    world.tick()
    assert paused_by(rollout) == ("paused", "freeze")


def test_a_rollback_does_not_wait_for_the_end_of_a_freeze(world: World) -> None:
    world.add_cis(1)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.work()
    freeze(world, 0, 1000)
    services.roll_back_rollout(rollout, actor=world.mona, now=world.now, reason="it hurts")
    world.pass_time(2)
    assert (state(rollout), world.runs()) == ("rolled_back", {"srv-1": "1.0"})


def test_a_second_person_overrides_exactly_what_stands_against_it_now(world: World) -> None:
    world.add_cis(3)
    rollout = world.started()
    first = freeze(world, 0, 1000)
    world.tick()
    assert paused_by(rollout) == ("paused", "freeze")
    for actor, error in ((world.olga, PermissionRefused), (world.sven, SeparationOfDuties)):
        with pytest.raises(error):
            services.override_window(rollout, actor=actor, now=world.now, reason="the plant agreed")
    with pytest.raises(InvalidInput):
        services.override_window(rollout, actor=world.mona, now=world.now, reason=" ")
    services.override_window(rollout, actor=world.mona, now=world.now, reason="the plant agreed")
    event = rollout.events.get(kind="window_overridden")
    assert (event.actor, "the plant agreed" in event.text, "Year end" in event.text) == (world.mona, True, True)
    world.tick()
    assert waves(rollout) == ["deploying", "waiting"]
    services.override_window(rollout, actor=world.mona, now=world.now, reason="again")
    assert rollout.events.filter(kind="window_overridden").count() == 1, "ordered again, it is there already"
    Freeze.objects.filter(pk=first.pk).update(ends_at=first.ends_at + timedelta(days=1))
    world.tick()
    assert paused_by(rollout) == ("paused", "freeze"), "the freeze was made longer since"


def test_resuming_in_a_freeze_is_an_override_and_needs_its_right(world: World) -> None:
    world.add_cis(1)
    rollout = world.started(policy=BIG_BANG)
    freeze(world, 0, 1000)
    world.tick()
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="the plant agreed")
    assert rollout.events.filter(kind="window_overridden", actor=world.mona).exists()
    world.pass_time(3)
    assert state(rollout) == "completed"


def test_a_pause_by_a_person_outlasts_the_freeze(world: World) -> None:
    world.add_cis(2)
    rollout = world.started()
    world.tick()
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look")
    freeze(world, 0, 10)
    world.tick(20)
    assert paused_by(rollout) == ("paused", "manual")


def test_a_planned_end_that_is_moved_lets_it_go_on_and_the_planned_start_can_be_overridden(world: World) -> None:
    world.add_cis(2)
    change = world.change(planned_end=world.now + timedelta(seconds=50))
    rollout = world.started(changes=[change])
    world.tick(60)
    assert paused_by(rollout) == ("paused", "window")
    Change.objects.filter(pk=change.pk).update(planned_end=world.now + timedelta(days=1))
    world.tick()
    assert state(rollout) == "running"
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="next")
    world.tick()
    early = world.started(changes=[world.change(planned_start=world.now + timedelta(hours=5))])
    world.tick()
    assert waves(early)[0] == "waiting"
    services.override_window(early, actor=world.mona, now=world.now, reason="the plant stands still already")
    world.tick()
    assert waves(early)[0] == "deploying"


def test_the_plan_tells_freezes_in_its_planned_time(world: World) -> None:
    world.add_cis(1)
    release = world.draft(policy=POLICY, changes=[world.change(planned_end=world.now + timedelta(hours=1))])
    year_end = freeze(world, 600, 600)
    assert [(f.level, f.code) for f in findings(release, now=world.now)] == [("warning", "freeze")]
    Freeze.objects.filter(pk=year_end.pk).update(starts_at=world.now, ends_at=world.now + timedelta(hours=2))
    assert [f.code for f in findings(release, now=world.now)] == ["always_frozen", "freeze"]


@pytest.mark.parametrize("mode", ["freeze", "let_run"])
def test_a_pause_during_a_freeze_outlasts_it(world: World, mode: str) -> None:
    world.add_cis(2)
    rollout = world.started()
    world.tick()
    freeze(world, 0, 10)
    world.tick()
    assert paused_by(rollout) == ("paused", "freeze")
    for _ in range(2):
        services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look", mode=mode)
    assert [event.text for event in rollout.events.filter(kind="paused", actor=world.olga)] == ["a look"]
    world.tick(20)
    assert paused_by(rollout) == ("paused", "manual"), "it would have gone on by itself"
    services.resume_rollout(rollout, actor=world.sven, now=world.now)
    world.pass_time()
    assert state(rollout) == "completed"


def test_the_page_of_a_rollout_that_would_go_on_by_itself_offers_to_keep_it_paused(world: World) -> None:
    world.add_cis(2)
    rollout = world.started()
    freeze(world, 0, 10)
    world.tick()
    client = Client()
    client.force_login(world.olga)
    assert "Pause until resumed" in client.get(f"/rollouts/{rollout.number}/").content.decode()
    answer = client.post(f"/rollouts/{rollout.number}/pause_for_good/", {"reason": "a look"})
    assert answer.status_code == 302
    assert paused_by(rollout) == ("paused", "manual")
    assert "pause_for_good" not in client.get(f"/rollouts/{rollout.number}/").content.decode()


def test_the_change_manager_moves_the_planned_end_of_what_is_being_rolled_out(world: World) -> None:
    world.add_cis(2)
    change = world.change(planned_end=world.now + timedelta(seconds=50))
    rollout = world.started(changes=[change])
    world.tick(60)
    assert paused_by(rollout) == ("paused", "window")
    planned = {"planned_start": change.planned_start, "planned_end": world.now + timedelta(days=1)}
    with pytest.raises(PermissionRefused):
        reschedule_change(change, actor=world.rita, now=world.now, **planned)
    manager = make_user("cleo", "change manager")
    with pytest.raises(TransitionRefused):
        edit_change(change, actor=manager, now=world.now, title="Something else")
    reschedule_change(change, actor=manager, now=world.now, **planned)
    world.pass_time()
    assert state(rollout) == "completed"
