"""Before an order is given: what it would do, in numbers, and for whom; and that this is what it then does."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from releases import services
from releases.models import Rollout
from releases.services.failure_report import failure_report
from releases.services.preview_parts import Preview
from releases.services.previews import PREVIEWS, preview_rollout
from releases.services.start_preview import preview_start
from tests.releases.test_going_back import completed
from tests.releases.test_verbs_of_a_rollout import TWO_WAVES, breached, running
from tests.releases.world import BIG_BANG, World, deployments, state
from tickets.exceptions import InvalidInput

pytestmark = pytest.mark.django_db


def preview(world: World, rollout: Rollout, verb: str, person: str = "mona", **asked: Any) -> Preview:
    rollout.refresh_from_db()
    return preview_rollout(rollout, verb, actor=getattr(world, person), now=world.now, **asked)


def numbers(found: Preview, choice: int = 0) -> dict[str, int]:
    return {effect.key: effect.count for effect in found.choices[choice].effects}


def test_a_pause_says_who_goes_on_and_who_waits(world: World, writes: Any) -> None:
    rollout = running(world)
    world.devices[0].step(world.now)
    with writes(allowed=0):
        found = preview(world, rollout, "pause", "olga")
    assert numbers(found, 0) == {"held": 3, "under_way": 1}
    assert numbers(found, 1) == {"offered": 1, "held": 2, "under_way": 1}
    assert not found.is_done
    assert preview(world, rollout, "pause", "rita").choices[0].refusal
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look")
    assert preview(world, rollout, "pause", "olga").is_done


def test_an_abort_does_what_its_preview_says(world: World) -> None:
    rollout = running(world)
    world.work(world.devices[0].ci)
    world.devices[1].step(world.now)
    assert numbers(preview(world, rollout, "abort", "olga")) == {"cancelled": 2, "cancelling": 1, "kept": 1}
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="stop")
    assert sorted(deployments(rollout).values()) == ["cancelled", "cancelled", "cancelling", "succeeded"]


def test_a_resume_after_a_breach_tells_its_three_ways_apart(world: World) -> None:
    rollout = breached(world)
    accept, retry, skip = preview(world, rollout, "resume").choices
    found = preview(world, rollout, "resume")
    assert [choice.refusal for choice in (accept, retry, skip)] == ["", "", ""]
    assert [numbers(found, n) for n in range(3)] == [{"ignored": 2}, {"retried": 2}, {"next": 2}]
    assert all(choice.refusal for choice in preview(world, rollout, "resume", "sven").choices)
    assert all(choice.refusal for choice in preview(world, rollout, "resume", "olga").choices)


def test_a_retry_that_would_stop_again_at_once_says_so(world: World) -> None:
    rollout = running(world)
    world.mood("offline", world.devices[0].ci)
    world.mood("fails", world.devices[1].ci)
    world.work()
    world.tick(100)
    assert state(rollout) == "paused"
    retry = preview(world, rollout, "resume").choices[1]
    assert "stop again at once" in retry.warnings[0]
    services.resume_rollout(rollout, actor=world.mona, now=world.now, reason="once more", mode="retry")
    world.tick()
    assert state(rollout) == "paused"


def test_a_rollback_counts_what_comes_back(world: World) -> None:
    rollout = running(world, policy=BIG_BANG)
    world.work(world.devices[0].ci, world.devices[1].ci)
    world.devices[2].step(world.now)
    assert numbers(preview(world, rollout, "roll_back", "sven")) == {"back": 2, "cancelling": 1, "cancelled": 1}
    one = world.devices[0].ci
    assert preview(world, rollout, "roll_back_ci", "sven", ci=one).choices[0].refusal, "it has to be paused first"
    services.pause_rollout(rollout, actor=world.olga, now=world.now, reason="a look")
    assert numbers(preview(world, rollout, "roll_back_ci", "sven", ci=one)) == {"back": 1}
    assert preview(world, rollout, "roll_back_ci", "sven", ci=world.devices[3].ci).choices[0].refusal
    assert numbers(preview(world, rollout, "roll_back_wave", "sven", wave=1))["back"] == 2
    services.roll_back_ci(rollout, ci=one, actor=world.sven, now=world.now, reason="this one")
    assert preview(world, rollout, "roll_back_ci", "sven", ci=one).is_done
    world.work(one)
    world.tick()
    assert numbers(preview(world, rollout, "roll_back", "sven"))["were_back"] == 1
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="all")
    world.pass_time(3)
    assert set(world.runs().values()) == {"1.0"}


def test_what_is_measured_is_named_with_how_many(world: World) -> None:
    rollout = running(world)
    assert preview(world, rollout, "pause").seconds_p90 is None
    for agent in world.devices[:2]:
        agent.step(world.now)
    world.tick(30)
    world.work()
    found = preview(world, rollout, "pause")
    assert (found.seconds_p50, found.seconds_p90, found.measured_on) == (30, 30, 2)


def test_the_next_wave_and_its_second_person(world: World) -> None:
    rollout = running(world, policy={**TWO_WAVES, "soak_seconds": 500})
    assert preview(world, rollout, "next_wave").choices[0].refusal
    world.work()
    world.tick()
    world.tick(100)
    choice = preview(world, rollout, "next_wave").choices[0]
    assert (choice.refusal, [e.count for e in choice.effects]) == ("", [2])
    assert "400 seconds" in choice.warnings[0]
    assert "somebody else" in preview(world, rollout, "next_wave", "sven").choices[0].refusal


def test_who_would_have_to_make_way(world: World) -> None:
    older = running(world, 3, policy=BIG_BANG)
    world.devices[0].step(world.now)
    newer = world.started(world.newer, policy=BIG_BANG)
    world.tick()
    assert numbers(preview(world, newer, "supersede")) == {"superseded": 2, "cancelling": 1}
    services.supersede_older(newer, actor=world.mona, now=world.now, reason="3.0 is better")
    assert sorted(deployments(older).values()) == ["cancelling", "superseded", "superseded"]
    assert numbers(preview(world, newer, "supersede")) == {}


def test_an_override_names_what_stands_against_it_and_needs_a_second_person(world: World) -> None:
    change = world.change(planned_end=world.now + timedelta(seconds=50))
    world.add_cis(4)
    rollout = world.started(policy=TWO_WAVES, changes=[change])
    world.tick()
    assert "No freeze" in preview(world, rollout, "override_window").choices[0].refusal
    world.tick(60)
    assert state(rollout) == "paused"
    found = preview(world, rollout, "override_window")
    assert (found.choices[0].refusal, numbers(found)) == ("", {"offered": 2})
    assert "planned end" in found.choices[0].warnings[0]
    assert "somebody else" in preview(world, rollout, "override_window", "sven").choices[0].refusal
    assert preview(world, rollout, "override_window", "rita").choices[0].refusal
    services.override_window(rollout, actor=world.mona, now=world.now, reason="it is urgent")
    assert "No freeze" in preview(world, rollout, "override_window").choices[0].refusal


def test_each_way_to_go_on_with_a_stopped_rollback_says_what_it_does(world: World) -> None:
    cis = world.add_cis(10)
    policy = {**BIG_BANG, "rollback": {"error_threshold": 10, "max_in_flight": 3}}
    rollout = completed(world, policy=policy)
    assert preview(world, rollout, "continue_rollback").choices[0].refusal
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.tick()
    world.mood("fails", *cis[:3])
    world.work(*cis[:3])
    world.tick()
    found = preview(world, rollout, "continue_rollback")
    assert [choice.name for choice in found.choices] == ["go_on", "retry", "end"]
    assert [numbers(found, n) for n in range(3)] == [
        {"back": 7, "lost": 3}, {"back": 7, "retried": 3}, {"left": 7, "lost": 3},
    ]  # fmt: skip
    assert preview(world, rollout, "continue_rollback", "olga").choices[0].refusal
    services.continue_rollback(rollout, actor=world.sven, now=world.now, reason="the rest", choice="end")
    world.tick()
    assert state(rollout) == "rolled_back_with_exceptions"
    assert rollout.exceptions.count() == 10


def test_displacing_asks_as_many_queries_for_many_waves_as_for_one(world: World) -> None:
    found = []
    for number in (1, 4):
        world.devices.clear()
        cis = [world.add_ci(f"w{number}-{n}") for n in range(4)]
        waves = [{"count": 1}] * (number - 1) + [{"rest": True}]
        policy = {**TWO_WAVES, "waves": waves, "soak_seconds": 1}
        rollout = world.started(policy=policy, targets={"cis": [ci.pk for ci in cis]}, changes=[world.change()])
        for _ in range(number):
            world.tick(2)
            world.work()
            world.tick()
        with CaptureQueriesContext(connection) as queries:
            preview(world, rollout, "supersede")
        found.append(len(queries))
    assert found[0] == found[1]


def test_a_way_back_by_snapshot_says_what_is_lost(world: World) -> None:
    for ci in world.add_cis(2):
        device = next(one for one in world.devices if one.ci == ci)
        device.says = {"agent.ways_back": "snapshot"}
        device._tell(world.now)
    rollout = completed(world, ways_back={"billing": "snapshot"})
    assert "what they wrote since is lost" in preview(world, rollout, "roll_back").choices[0].warnings[0]


def test_a_start_names_the_gate_that_is_shut(world: World) -> None:
    world.add_cis(5)
    release = world.ready(policy=TWO_WAVES)
    found = preview_start(release, "start_rollout", actor=world.sven, now=world.now)
    assert "not approved" in found.choices[0].refusal
    later = preview_start(release, "schedule_start", actor=world.sven, now=world.now)
    assert later.choices[0].refusal == ""
    assert "not approved" in later.choices[0].warnings[-1]
    services.approve_release(release, actor=world.mona, now=world.now)
    found = preview_start(release, "start_rollout", actor=world.sven, now=world.now)
    assert (found.is_possible, numbers(found)) == (True, {"targets": 5, "first_wave": 2})
    assert preview_start(release, "start_rollout", actor=world.olga, now=world.now).choices[0].refusal
    with pytest.raises(InvalidInput):
        preview_start(release, "explode", actor=world.sven, now=world.now)


@pytest.mark.parametrize("verb", sorted(PREVIEWS))
def test_a_preview_asks_the_same_number_of_queries_for_any_fleet_and_writes_nothing(
    world: World, verb: str, writes: Any
) -> None:
    world.add_cis(4)
    found = []
    for number in (4, 12):
        world.devices.clear()
        cis = [world.add_ci(f"{verb}-{number}-{n}") for n in range(number)]
        rollout = world.started(policy=BIG_BANG, targets={"cis": [ci.pk for ci in cis]}, changes=[world.change()])
        world.tick()
        world.mood("fails", *cis[: number // 2])
        world.work()
        world.tick()
        rollout.refresh_from_db()
        with writes(allowed=0), CaptureQueriesContext(connection) as queries:
            preview_rollout(rollout, verb, actor=world.mona, now=world.now, ci=cis[0], wave=1)
        with CaptureQueriesContext(connection) as more:
            failure_report(rollout, cis[0], actor=world.mona)
        found.append((len(queries), len(more)))
    assert found[0] == found[1]
    assert found[0][0] <= 25
