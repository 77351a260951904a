"""How a package is left again: what it declares, what a rollback has of its own, and when it waits for a person."""

from datetime import timedelta
from typing import Any

import pytest

from distribution.models import Batch
from incidents.models import Incident
from notifications.models import Outbox
from releases import services
from releases.models import Rollout, RolloutException, Verdict
from releases.policy import RolloutPolicy
from tests.releases.test_going_back import completed
from tests.releases.world import BIG_BANG, POLICY, World, deployments, state, waves
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused, TransitionRefused

pytestmark = pytest.mark.django_db
NO_WAY = {"billing": "impossible"}
OWN_THRESHOLD: dict[str, Any] = {**BIG_BANG, "rollback": {"error_threshold": 30}}


# --- what the package declares -----------------------------------------------------------------
def test_a_way_back_is_declared_for_a_product_of_the_package_and_kept_by_an_edit(world: World) -> None:
    world.add_cis(1)
    release = world.draft(ways_back=NO_WAY)
    assert release.items.get().way_back == "impossible"
    services.edit_release(release, actor=world.erik, now=world.now, title="Billing again")
    assert release.items.get().way_back == "impossible"
    services.edit_release(release, actor=world.erik, now=world.now, versions=[world.newer])
    assert release.items.get().way_back == "reinstall", "it was said of another version"
    for ways, text in (({"shop": "impossible"}, "Not in the package"), ({"billing": "magic"}, "is one of")):
        with pytest.raises(InvalidInput, match=text):
            services.edit_release(release, actor=world.erik, now=world.now, ways_back=ways)


def test_another_way_back_voids_the_approval_and_the_usual_one_changes_no_hash(world: World) -> None:
    world.add_cis(1)
    release = world.approved()
    before = services.release_hash(release)
    services.edit_release(release, actor=world.erik, now=world.now, ways_back={"billing": "reinstall"})
    assert services.release_hash(release) == before
    services.edit_release(release, actor=world.erik, now=world.now, ways_back=NO_WAY)
    assert services.release_hash(release) != before
    assert (state(release), services.has_valid_approval(release)) == ("ready", False), (
        "the test stands, the plan does not"
    )


def start_without_way_back(world: World, **policy: object) -> Rollout:
    release = world.approved(ways_back=NO_WAY, policy={**POLICY, "waves": [{"count": 2}, {"rest": True}], **policy})
    with pytest.raises(ConditionRefused, match=r"Nothing leads back from Billing 2\.0") as refused:
        services.start_rollout(release, actor=world.sven, now=world.now)
    assert refused.value.code == "no_way_back"
    kind = RolloutException.Kind.NO_WAY_BACK
    services.record_exception(release, kind=kind, actor=world.mona, now=world.now, reason="the data is converted")
    return services.start_rollout(release, actor=world.sven, now=world.now)


@pytest.mark.parametrize("on_error", ["rollback_wave", "rollback_all"])
def test_a_breach_only_stops_what_has_no_way_back(world: World, on_error: str) -> None:
    one, *_ = world.add_cis(4)
    world.mood("fails", one)
    rollout = start_without_way_back(world, on_error=on_error)
    world.tick()
    world.work()
    world.tick()
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind, waves(rollout)) == ("paused", "breach", ["failed", "waiting"])
    assert "no way back" in rollout.pause_reason
    assert rollout.breach_incident is not None
    assert deployments(rollout) == {"srv-1": "failed", "srv-2": "succeeded", "srv-3": "queued", "srv-4": "queued"}
    wave = rollout.waves.get(number=1)
    for call in (
        lambda: services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="back"),
        lambda: services.roll_back_wave(wave, actor=world.sven, now=world.now, reason="back"),
        lambda: services.roll_back_ci(rollout, ci=world.devices[1].ci, actor=world.sven, now=world.now, reason="back"),
    ):
        with pytest.raises(ConditionRefused, match="has no way back") as refused:
            call()
        assert refused.value.code == "no_way_back"
    assert not deployments(rollout, "rollback")


def test_an_exception_for_the_package_needs_a_package_that_asks_for_it(world: World) -> None:
    world.add_cis(1)
    release = world.approved()
    with pytest.raises(InvalidInput, match="Name the CI"):
        services.record_exception(
            release, kind=RolloutException.Kind.NO_WAY_BACK, actor=world.mona, now=world.now, reason="fine"
        )


# --- what a rollback has of its own ----------------------------------------------------------------
def test_a_rollback_has_its_own_deadlines_and_cap_and_the_rest_from_the_plan(world: World) -> None:
    own = {"offer_deadline": 50, "max_in_flight": 7, "error_threshold": 40}
    rollout = completed(world, policy={**BIG_BANG, "rollback": own, "max_downloads": 3, "total_deadline": 500})
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="back")
    forward, back = (Batch.objects.get(wave__rollout=rollout, purpose=purpose) for purpose in ("forward", "rollback"))
    names = ("offer_deadline", "progress_deadline", "max_in_flight", "max_downloads", "total_deadline")
    assert [getattr(forward, name) for name in names] == [100, 100, None, 3, 500]
    assert [getattr(back, name) for name in names] == [50, 100, 7, 3, 500]
    world.tick()
    assert set(deployments(rollout, "rollback").values()) == {"queued"}, "all at once, whatever the waves were"


@pytest.mark.parametrize(
    "rollback", [{"waves": []}, {"error_threshold": 101}, {"offer_deadline": 0}, {"max_in_flight": "many"}, []]
)
def test_a_rollback_policy_that_makes_no_sense_is_refused(rollback: Any) -> None:
    with pytest.raises(InvalidInput):
        RolloutPolicy.from_json({"rollback": rollback})


def test_what_came_later_is_left_out_of_the_policy_at_its_default() -> None:
    written = RolloutPolicy.from_json({}).to_json()
    assert not {"rollback", "total_deadline"} & set(written), "approvals of before stay valid"
    own = {"rollback": {"error_threshold": 5}, "total_deadline": 60}
    assert RolloutPolicy.from_json(RolloutPolicy.from_json(own).to_json()).to_json() == {**written, **own}


# --- it fails on too many --------------------------------------------------------------------------
def stopped(world: World) -> Rollout:
    """A rollback of four CIs that failed on the first two, before the others asked, and stopped."""
    rollout = completed(world, number=4, policy=OWN_THRESHOLD)
    first_two = [agent.ci for agent in world.devices[:2]]
    world.mood("fails", *first_two)
    services.roll_back_rollout(rollout, actor=world.mona, now=world.now, reason="broken")
    world.tick()
    world.work(*first_two)
    world.tick(1)
    rollout.refresh_from_db()
    return rollout


def test_a_rollback_that_fails_on_too_many_stops_and_calls_a_person(world: World) -> None:
    rollout = stopped(world)
    back = rollout.waves.get(kind="rollback")
    assert (rollout.state, back.state, back.batch.is_open) == ("rolling_back", "failed", False)
    assert rollout.waits_for == "a person: the rollback failed on too many CIs"
    verdict = Verdict.objects.get(wave=back)
    assert (verdict.kind, verdict.outcome) == ("error", "breached")
    incident = Incident.objects.get()
    assert rollout.number in incident.title
    assert "srv-1" in incident.description
    told = set(Outbox.objects.filter(thread=incident.number).values_list("recipient__username", flat=True))
    assert told == {"sven", "erik", "mona"}, "starter, author, and who ordered the rollback"
    failed = list(deployments(rollout, "rollback").values())
    world.mood("ok", *(agent.ci for agent in world.devices))
    world.work()
    assert world.tick(1000) == 0, "nothing more is offered, and nothing goes back a second time"
    assert list(deployments(rollout, "rollback").values()) == failed
    assert (Incident.objects.count(), state(rollout)) == (1, "rolling_back")


@pytest.mark.parametrize(
    ("choice", "runs", "end"),
    [
        ("go_on", ["2.0", "2.0", "1.0", "1.0"], "rolled_back_with_exceptions"),
        ("retry", ["1.0", "1.0", "1.0", "1.0"], "rolled_back"),
        ("end", ["2.0", "2.0", "2.0", "2.0"], "rolled_back_with_exceptions"),
    ],
)
def test_a_person_decides_how_it_goes_on(world: World, choice: str, runs: list[str], end: str) -> None:
    rollout = stopped(world)
    with pytest.raises(PermissionRefused):
        services.continue_rollback(rollout, actor=world.olga, now=world.now, reason="go", choice=choice)
    for values in ({"reason": " "}, {"reason": "go", "choice": "later"}):
        with pytest.raises(InvalidInput):
            services.continue_rollback(rollout, actor=world.sven, now=world.now, **values)
    world.mood("ok", *(agent.ci for agent in world.devices))
    services.continue_rollback(rollout, actor=world.sven, now=world.now, reason="the disks are free", choice=choice)
    with pytest.raises(TransitionRefused, match="No rollback"):
        services.continue_rollback(rollout, actor=world.sven, now=world.now, reason="again")
    for _ in range(6):
        world.work()
        world.tick(1)
    assert state(rollout) == end
    failed = [number for number, label in enumerate(runs, start=1) if label == "2.0"]
    found = sorted(world.runs().values())
    assert found == sorted(runs)
    assert rollout.exceptions.count() == len(failed)


def test_nothing_is_stopped_when_nobody_waits_any_more(world: World) -> None:
    rollout = completed(world, policy={**BIG_BANG, "rollback": {"error_threshold": 0}})
    world.mood("fails", world.devices[0].ci)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.tick()
    world.work()
    world.tick()
    assert (state(rollout), rollout.exceptions.count()) == ("rolled_back_with_exceptions", 1)
    assert not Incident.objects.exists()


def test_without_a_threshold_of_its_own_a_rollback_goes_on_as_before(world: World) -> None:
    rollout = completed(world, number=3)
    first_two = [agent.ci for agent in world.devices[:2]]
    world.mood("fails", *first_two)
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="broken")
    world.tick()
    world.work(*first_two)
    world.tick(1)
    world.work()
    world.tick(1)
    assert (state(rollout), rollout.exceptions.count()) == ("rolled_back_with_exceptions", 2)


def test_a_stopped_rollback_of_a_wave_waits_for_a_person_too(world: World) -> None:
    rollout = completed(world, number=4, policy=OWN_THRESHOLD)
    first_two = [agent.ci for agent in world.devices[:2]]
    world.mood("fails", *first_two)
    services.roll_back_wave(rollout.waves.get(), actor=world.sven, now=world.now, reason="broken")
    world.tick(1)
    world.work(*first_two)
    world.tick(1)
    rollout.refresh_from_db()
    assert (rollout.state, rollout.waits_for) == ("completed", "a person: the rollback failed on too many CIs")
    assert rollout.settled_at is None
    services.continue_rollback(rollout, actor=world.sven, now=world.now, reason="leave it", choice="end")
    world.tick(1)
    world.tick(1)
    rollout.refresh_from_db()
    assert (rollout.state, waves(rollout), rollout.exceptions.count()) == ("completed", ["rolled_back"], 4)


# --- a rollout after an abort ----------------------------------------------------------------------
def test_the_rollback_of_a_second_rollout_takes_back_what_the_aborted_first_one_had_brought(world: World) -> None:
    world.add_cis(2)
    first = world.started()
    world.tick()
    world.work()
    assert world.runs() == {"srv-1": "2.0", "srv-2": "1.0"}
    services.abort_rollout(first, actor=world.olga, now=world.now, reason="not today")
    world.tick()
    world.now += timedelta(hours=1)
    release = first.release
    release.refresh_from_db()
    second = services.start_rollout(release, actor=world.sven, now=world.now)
    world.tick()
    world.pass_time(4)
    assert (state(second), deployments(second)) == ("completed", {"srv-1": "skipped", "srv-2": "succeeded"})
    services.roll_back_rollout(second, actor=world.sven, now=world.now, reason="broken")
    world.pass_time(2)
    assert (state(second), set(world.runs().values())) == ("rolled_back", {"1.0"})
    assert deployments(second, "rollback") == {"srv-1": "succeeded", "srv-2": "succeeded"}


def test_a_wave_takes_back_what_an_aborted_rollout_brought_to_its_own_cis_only(world: World) -> None:
    world.add_cis(3)
    first = world.started(policy={**POLICY, "waves": [{"count": 2}, {"rest": True}]})
    world.tick()
    world.work()
    services.abort_rollout(first, actor=world.olga, now=world.now, reason="not today")
    world.tick()
    world.now += timedelta(hours=1)
    first.release.refresh_from_db()
    services.edit_release(first.release, actor=world.erik, now=world.now, policy=POLICY)
    services.approve_release(first.release, actor=world.mona, now=world.now)
    second = services.start_rollout(first.release, actor=world.sven, now=world.now)
    world.tick()
    world.pass_time(4)
    assert state(second) == "completed"
    services.roll_back_wave(second.waves.get(number=1), actor=world.sven, now=world.now, reason="only these")
    world.pass_time(2)
    assert world.runs() == {"srv-1": "1.0", "srv-2": "2.0", "srv-3": "2.0"}
