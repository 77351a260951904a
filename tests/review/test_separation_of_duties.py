"""Ways around the second person that somebody with two roles, or in a hurry, would try."""

from datetime import timedelta

import pytest

from changes.approvals import check_may_decide
from changes.models import Change
from changes.services import edit_change
from releases import services
from tests.factories import make_user
from tests.releases.world import BIG_BANG, World
from tickets.exceptions import ConditionRefused, InvalidInput, SeparationOfDuties, TransitionRefused


def test_an_editor_approves_nothing_though_somebody_else_edited_after_him(world: World) -> None:
    world.add_cis(2)
    both = make_user("bob", "release engineer", "release manager")
    release = world.ready()
    services.edit_release(release, actor=both, now=world.now, policy=BIG_BANG)
    services.edit_release(release, actor=world.erik, now=world.now, title="Billing, retouched")
    for verb in (services.approve_release, services.reject_release):
        with pytest.raises(SeparationOfDuties):
            verb(release, actor=both, now=world.now, comment="mine")
    services.approve_release(release, actor=world.mona, now=world.now)


def test_an_earlier_editor_of_an_rfc_does_not_decide_on_it(world: World) -> None:
    change = world.change(state="draft")
    board = make_user("cora", "CAB member", "change requester")
    edit_change(change, actor=board, now=world.now, description="mine")
    edit_change(change, actor=world.rita, now=world.now, title="Billing 2.0, retouched")
    with pytest.raises(SeparationOfDuties):
        check_may_decide(Change.objects.get(pk=change.pk), board)
    check_may_decide(Change.objects.get(pk=change.pk), make_user("carl", "CAB member"))


def test_what_changed_since_it_was_read_is_not_approved(world: World) -> None:
    world.add_cis(2)
    release = world.ready()
    seen = services.release_hash(release)
    services.edit_release(release, actor=world.erik, now=world.now, policy=BIG_BANG)
    with pytest.raises(TransitionRefused) as refused:
        services.approve_release(release, actor=world.mona, now=world.now, seen_hash=seen)
    assert refused.value.code == "edit_conflict"
    services.approve_release(release, actor=world.mona, now=world.now, seen_hash=services.release_hash(release))


def test_who_may_not_resume_does_not_abort_and_start_anew_either(world: World) -> None:
    cis = world.add_cis(3)
    rollout = world.started(policy={**BIG_BANG, "on_error": "pause"})
    world.mood("fails", *cis)
    world.tick()
    world.work()
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "breach")
    with pytest.raises(SeparationOfDuties):
        services.resume_rollout(rollout, actor=world.sven, now=world.now, reason="go on")
    services.abort_rollout(rollout, actor=world.sven, now=world.now, reason="again")
    world.tick()
    release = rollout.release
    release.refresh_from_db()
    assert release.state == "ready"
    with pytest.raises(ConditionRefused) as refused:
        services.start_rollout(release, actor=world.sven, now=world.now)
    assert refused.value.code == "breached_since_approval"
    world.tick(1)
    # What failed on a CI is not brought to it again unless the plan says so; that is a new content to approve.
    again = {"again": [ci.pk for ci in cis]}
    services.edit_release(release, actor=world.erik, now=world.now, targets=again)
    services.approve_release(release, actor=world.mona, now=world.now)
    services.start_rollout(release, actor=world.sven, now=world.now)


def test_the_starter_does_not_accept_the_overrun_by_a_pause_of_his_own(world: World) -> None:
    world.add_cis(3)
    rollout = world.started(changes=[world.change(planned_end=world.now + timedelta(seconds=50))])
    world.tick()
    services.pause_rollout(rollout, actor=world.sven, now=world.now, reason="a look")
    world.tick(60)
    services.resume_rollout(rollout, actor=world.sven, now=world.now)
    world.tick(1)
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "window")
    with pytest.raises(SeparationOfDuties):
        services.resume_rollout(rollout, actor=world.sven, now=world.now, reason="go on")
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="the plant agreed")
    world.pass_time()
    rollout.refresh_from_db()
    assert rollout.state == "completed"


def test_an_exception_names_its_ci_and_never_stands_for_a_skipped_test(world: World) -> None:
    (one,) = world.add_cis(1)
    release = world.built()
    for values in (
        {"kind": "test_skipped", "ci": one},
        {"kind": "rollback_failed", "ci": one},
        {"kind": "no_way_back"},
    ):
        with pytest.raises(InvalidInput):
            services.record_exception(release, actor=world.mona, now=world.now, reason="fine", **values)
    assert not release.exceptions.exists()


def test_a_program_is_no_second_person(world: World) -> None:
    cis = world.add_cis(3)
    robot = make_user("robot", "deployment pipeline", "release manager", is_service_account=True)
    rollout = world.started(policy={**BIG_BANG, "on_error": "pause"})
    world.tick()
    world.mood("fails", *cis)
    world.work()
    world.tick()
    rollout.refresh_from_db()
    order = {"actor": robot, "now": world.now, "reason": "go on"}
    for mode in ("accept", "retry", "skip"):
        with pytest.raises(SeparationOfDuties):
            services.resume_rollout(rollout, mode=mode, **order)
    for decision in ("ignore", "exclude"):
        with pytest.raises(SeparationOfDuties):
            services.decide_failure(rollout, ci=cis[0], decision=decision, **order)
    services.pause_rollout(rollout, **order)
    services.abort_rollout(rollout, **order)  # to stop needs nobody else


def test_the_starter_does_not_make_failures_disappear_by_excluding_what_they_became(world: World) -> None:
    failed, silent, waits = world.add_cis(3)
    rollout = world.started(policy={**BIG_BANG, "error_threshold": 90, "success_threshold": 100})
    world.tick()
    world.mood("fails", failed)
    world.mood("offline", silent, waits)
    world.work()
    world.tick(101)
    services.pause_rollout(rollout, actor=world.sven, now=world.now, reason="a look")
    services.retry_failed_cis(rollout, actor=world.sven, now=world.now)
    order = {"now": world.now, "reason": "never mind"}
    for ci in (failed, silent):
        with pytest.raises(SeparationOfDuties):
            services.exclude_ci(rollout, ci=ci, actor=world.sven, **order)
        services.exclude_ci(rollout, ci=ci, actor=world.olga, **order)
