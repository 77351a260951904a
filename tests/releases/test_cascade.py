"""What the tickets behind a release learn when its rollout completes or is taken back: the table of coupled states."""

from datetime import timedelta

import pytest

from accounts.models import User
from cmdb.models import ConfigurationItem, Relation
from incidents import services as incident_services
from notifications.models import Outbox
from problems.models import Problem
from releases import services
from releases.services import cascade
from tests.factories import make_ci, make_user
from tests.releases.tickets_told import notices, roll_back, roll_out
from tests.releases.world import BIG_BANG, POLICY, World, state

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(db: None) -> User:
    return make_user("desk", "service desk")


def test_the_table_forward_and_back(world: World) -> None:
    ci, *_ = world.add_cis(2)
    incident = world.incident(ci, reason="problem")
    problem = world.problem(incident)
    change = world.change(problem)
    rollout = world.started(changes=[change], policy=BIG_BANG)
    assert [state(t) for t in (rollout.release, change, problem, incident)] == [
        "deploying",
        "implementing",
        "fix_in_progress",
        "on_hold",
    ]
    world.tick()
    world.now += timedelta(seconds=1)
    world.work()
    world.tick()
    world.tick(10)
    assert [state(t) for t in (rollout.release, change, problem, incident)] == [
        "completed",
        "implemented",
        "resolved",
        "resolved",
    ]
    roll_back(world, rollout)
    assert [state(t) for t in (rollout.release, change, problem, incident)] == [
        "rolled_back",
        "authorised",
        "fix_in_progress",
        "on_hold",
    ]
    incident.refresh_from_db()
    assert incident.hold_reason == "problem"
    again = roll_out(world, change)
    assert [state(t) for t in (again, change, problem, incident)] == [
        "completed",
        "implemented",
        "resolved",
        "resolved",
    ]


# state and hold reason before → state after the completion → state after the rollback
IN_EVERY_STATE = {
    ("new", ""): ("new", "new"),
    ("assigned", ""): ("assigned", "assigned"),
    ("in_progress", ""): ("in_progress", "in_progress"),
    ("on_hold", "caller"): ("on_hold", "on_hold"),
    ("on_hold", "vendor"): ("on_hold", "on_hold"),
    ("on_hold", "problem"): ("resolved", "on_hold"),
    ("on_hold", "change"): ("resolved", "on_hold"),
    ("on_hold", "release"): ("resolved", "on_hold"),
    ("resolved", ""): ("resolved", "resolved"),
    ("closed", ""): ("closed", "closed"),
    ("cancelled", ""): ("cancelled", "cancelled"),
}


def test_incidents_in_every_state(world: World) -> None:
    (ci,) = world.add_cis(1)
    incidents = {before: world.incident(ci, state=before[0], reason=before[1]) for before in IN_EVERY_STATE}
    rollout = roll_out(world, world.change(incidents=incidents.values()))
    completed, withdrawn = cascade.completion_event(rollout), cascade.rollback_event(rollout)
    for before, (after, _) in IN_EVERY_STATE.items():
        incident = incidents[before]
        assert state(incident) == after, before
        assert incident.entries.count() == (1 if after == "cancelled" else 2), before
        assert notices(incident.number) == ([] if after in {"closed", "cancelled"} else [completed]), before
    roll_back(world, rollout)
    for before, (_, back) in IN_EVERY_STATE.items():
        incident = incidents[before]
        incident.refresh_from_db()
        assert (incident.state, incident.hold_reason) == (back, before[1])
        assert incident.entries.count() == (1 if back == "cancelled" else 3), before
        assert notices(incident.number) == ([] if back in {"closed", "cancelled"} else [completed, withdrawn]), before


@pytest.mark.slow
def test_what_people_did_since_the_completion_stands(world: World, desk: User) -> None:
    cis = world.add_cis(3)
    reopened, closed, resolved = (world.incident(ci) for ci in cis)
    rollout = roll_out(world, world.change(incidents=[reopened, closed, resolved]))
    for incident in (reopened, closed, resolved):
        incident.refresh_from_db()
    incident_services.reopen_incident(reopened, actor=desk, now=world.now, reason="It still stops")
    incident_services.close_incident(closed, actor=world.rita, now=world.now)
    incident_services.reopen_incident(resolved, actor=desk, now=world.now, reason="It still stops")
    incident_services.resolve_incident(resolved, actor=desk, now=world.now, resolution="Restarted")
    roll_back(world, rollout)
    assert [state(i) for i in (reopened, closed, resolved)] == ["in_progress", "closed", "resolved"]
    assert closed.entries.filter(text__contains="was rolled back").count() == 1


def test_an_incident_is_reached_through_its_problem_and_directly_and_told_once(world: World, desk: User) -> None:
    (ci,) = world.add_cis(1)
    incident = world.incident(ci)
    incident.watchers.add(desk)
    rollout = roll_out(
        world,
        world.change(world.problem(incident), incidents=[incident]),
        world.change(),
    )
    event = cascade.completion_event(rollout)
    assert notices(incident.number, world.rita) == [event]
    assert notices(incident.number, desk) == [event]
    assert incident.entries.filter(text__contains="is installed on srv-1").count() == 1
    text = Outbox.objects.get(thread=incident.number, recipient=world.rita, event=event).text
    for part in ("Billing 2.0", "srv-1", incident.number, rollout.number, rollout.release.number, "Reopen"):
        assert part in text


def depends(source: ConfigurationItem, target: ConfigurationItem) -> None:
    Relation.objects.create(source=source, target=target)


def test_an_incident_on_a_ci_that_depends_on_targets_waits_for_all_of_them(world: World) -> None:
    one, two, _ = world.add_cis(3)
    world.mood("offline", two)
    shop, middle, middle2, too_far = (make_ci(name) for name in ("shop", "middle", "middle-2", "too-far"))
    depends(shop, one)
    depends(shop, middle)
    depends(middle, middle2)
    depends(middle2, two)
    depends(too_far, shop)
    on_shop, on_far, nowhere, bare = (world.incident(ci) for ci in (shop, too_far, None, make_ci("alone")))
    change = world.change(incidents=[on_shop, on_far, nowhere, bare])
    rollout = roll_out(world, change)
    world.tick(90)
    world.now += timedelta(seconds=1)
    assert state(rollout) == "paused"
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="it will come back")
    world.pass_time(2)
    assert state(rollout) == "completed"
    assert [state(i) for i in (on_shop, on_far, nowhere, bare)] == ["on_hold", "resolved", "on_hold", "on_hold"]
    assert on_shop.entries.filter(text__contains="not yet on srv-2").count() == 1
    for incident in (nowhere, bare):
        assert incident.entries.filter(text__contains="does not apply").count() == 1
        assert notices(incident.number) == []
    world.mood("ok", two)
    world.work()
    world.tick()
    assert state(on_shop) == "resolved", "the cascade runs again for a CI that catches up"
    assert notices(on_shop.number) == [cascade.completion_event(rollout)]


def test_a_ci_that_failed_keeps_its_incident_on_hold_and_names_the_ci(world: World) -> None:
    one, *rest = world.add_cis(6)
    world.mood("fails", one)
    kept, other = world.incident(one), world.incident(rest[0])
    rollout = roll_out(world, world.change(incidents=[kept, other]), success_threshold=80)
    assert (state(rollout), state(kept), state(other)) == ("completed", "on_hold", "resolved")
    assert kept.entries.filter(text__contains="not yet on srv-1").count() == 1
    assert notices(kept.number) == []


def test_a_later_version_on_the_ci_counts_too(world: World) -> None:
    one, _ = world.add_cis(2)
    incident = world.incident(one)
    rollout = world.started(changes=[world.change(incidents=[incident])], policy=BIG_BANG)
    world.tick()
    world.work()
    world.started(world.newer, policy=BIG_BANG, targets={"cis": [one.pk]})
    world.tick()
    world.work()
    assert world.runs() == {"srv-1": "3.0", "srv-2": "2.0"}
    world.tick(10)
    assert (state(rollout), state(incident)) == ("completed", "resolved")


@pytest.mark.slow
def test_a_problem_is_resolved_by_its_last_rfc_and_unresolved_by_any(world: World) -> None:
    world.add_cis(1)
    both, one, given_up = world.problem(), world.problem(), world.problem()
    first = world.change(both, one)
    second = world.change(both)
    cancelled = world.change(given_up, state="cancelled")
    third = world.change(given_up)
    rollout = roll_out(world, first, third)
    assert [state(p) for p in (both, one, given_up)] == ["fix_in_progress", "resolved", "resolved"]
    later = world.started(world.newer, changes=[second], policy=BIG_BANG)
    world.tick()
    world.pass_time(3)
    assert (state(later), state(both)) == ("completed", "resolved")
    services.roll_back_rollout(later, actor=world.sven, now=world.now, reason="worse")
    world.pass_time(2)
    assert (state(both), state(one)) == ("fix_in_progress", "resolved")
    again = world.started(world.newer, changes=[second], policy=BIG_BANG)
    world.tick()
    world.pass_time(3)
    assert state(both) == "resolved"
    services.roll_back_rollout(again, actor=world.sven, now=world.now, reason="worse")
    world.pass_time(2)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="worse, too")
    world.pass_time(2)
    assert [state(p) for p in (both, one, given_up)] == ["fix_in_progress"] * 3
    assert state(cancelled) == "cancelled"


@pytest.mark.slow
def test_a_problem_that_another_release_resolved_last_is_open_again_when_the_first_goes_back(world: World) -> None:
    one, two = world.add_cis(2)
    problem = world.problem()
    first, second = world.change(problem), world.change(problem)
    rollouts = []
    for change, ci in ((first, one), (second, two)):
        rollout = world.started(changes=[change], policy=BIG_BANG, targets={"cis": [ci.pk]})
        world.tick()
        world.now += timedelta(seconds=1)
        world.pass_time(3)
        rollouts.append(rollout)
    assert state(problem) == "resolved"
    roll_back(world, rollouts[0])
    assert (state(problem), state(first), state(second)) == ("fix_in_progress", "authorised", "implemented")


def test_problems_that_people_closed_or_resolved_are_left_alone(world: World) -> None:
    world.add_cis(1)
    closed, resolved = world.problem(), world.problem()
    Problem.objects.filter(pk=closed.pk).update(state="closed", close_code="duplicate")
    Problem.objects.filter(pk=resolved.pk).update(state="resolved")
    rollout = roll_out(world, world.change(closed, resolved))
    roll_back(world, rollout)
    assert (state(closed), state(resolved)) == ("closed", "resolved")


def test_owners_are_told_once_and_not_again_about_what_their_own_ticket_told_them(world: World) -> None:
    anna, ben = make_user("anna", "CI owner"), make_user("ben", "CI owner")
    annas, bens, failed, other = (
        world.add_ci(name, owner=owner)
        for name, owner in (("annas", anna), ("bens", ben), ("failed", ben), ("other", anna))
    )
    world.mood("fails", failed)
    incident = world.incident(annas, requester=anna)
    change = world.change(incidents=[incident])
    rollout = roll_out(world, change, success_threshold=50, error_threshold=50)
    event = cascade.completion_event(rollout)
    told = Outbox.objects.filter(event=event).values_list("recipient__username", "thread")
    assert sorted(told) == sorted(
        [("rita", change.number), ("anna", incident.number), ("anna", other.number), ("ben", bens.number)]
    )


def test_a_ci_taken_back_before_the_end_is_not_announced_as_installed(world: World) -> None:
    anna = make_user("anna", "CI owner")
    one, two = world.add_ci("srv-1", owner=anna), world.add_ci("srv-2", owner=anna)
    incident = world.incident(one)
    rollout = world.started(changes=[world.change(incidents=[incident])], policy=POLICY)
    world.tick()
    world.now += timedelta(seconds=1)
    world.work()
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look")
    services.roll_back_ci(rollout, ci=one, actor=world.sven, now=world.now, reason="broken here")
    world.work()
    world.tick()
    services.resume_rollout(rollout, actor=world.sven, now=world.now)
    world.pass_time(4)
    assert (state(rollout), world.runs()) == ("completed", {"srv-1": "1.0", "srv-2": "2.0"})
    assert state(incident) == "on_hold"
    assert notices(one.number, anna) == []
    assert notices(two.number, anna) == [cascade.completion_event(rollout)]


@pytest.mark.slow
def test_a_part_taken_back_after_completion_tells_only_whom_it_concerns(world: World) -> None:
    anna, ben = make_user("anna", "CI owner"), make_user("ben", "CI owner")
    one, two = world.add_ci("srv-1", owner=anna), world.add_ci("srv-2", owner=ben)
    first, second = world.incident(one), world.incident(two)
    problem = world.problem(first, second)
    change = world.change(problem)
    rollout = roll_out(world, change)
    services.roll_back_ci(rollout, ci=one, actor=world.sven, now=world.now, reason="broken here")
    world.work()
    world.tick()
    assert [state(t) for t in (first, second, problem, change, rollout.release)] == [
        "on_hold",
        "resolved",
        "resolved",
        "implemented",
        "completed",
    ]
    event = cascade.rollback_event(rollout)
    told = Outbox.objects.filter(event=event).values_list("recipient__username", "thread")
    assert sorted(told) == sorted([("anna", one.number), ("rita", first.number)])
    entries = second.entries.count()
    roll_back(world, rollout)
    assert [state(t) for t in (first, second, problem, change)] == [
        "on_hold",
        "on_hold",
        "fix_in_progress",
        "authorised",
    ]
    assert second.entries.count() == entries + 1
