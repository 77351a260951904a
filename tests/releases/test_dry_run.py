"""What a release manager sees before he starts: counts, conflicts, times, and a word on which strategy to take."""

from datetime import time, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from changes.models import Change, Freeze
from cmdb.models import CIClass, ConfigurationItem, InstalledVersion, MaintenanceWindow
from distribution.models import Batch, Deployment
from releases.dry_run.report import DryRun, dry_run
from releases.dry_run.targets import LOST, TAKEN, planned_cis, shown_conflicts
from releases.models import Release
from releases.services import abort_rollout, record_exception
from software.models import Artifact
from tests.factories import make_user
from tests.releases.world import BIG_BANG, POLICY, World

pytestmark = pytest.mark.django_db
THREE_WAVES = {**POLICY, "waves": [{"count": 1}, {"percent": 25}, {"rest": True}]}


def plan_of(world: World, release: Release) -> DryRun:
    return dry_run(release, now=world.now)


def sizes(plan: DryRun) -> list[int]:
    return [wave.size for wave in plan.phased.waves]


def test_it_counts_waves_and_targets_and_writes_nothing(world: World, writes) -> None:
    world.add_cis(9)
    release = world.draft(policy=THREE_WAVES)
    with writes(allowed=0), connection.cursor() as cursor:
        cursor.execute("SAVEPOINT before; SET TRANSACTION READ ONLY")
        plan = plan_of(world, release)
        cursor.execute("ROLLBACK TO before")
    assert (plan.targets, plan.already, plan.without_way_back) == (9, 0, 0)
    assert sizes(plan) == [1, 3, 5]
    assert [wave.size for wave in plan.big_bang.waves] == [9]
    assert plan.phased.is_chosen
    assert not plan.big_bang.is_chosen
    assert plan.present == [("Billing", "1.0", 9)]
    size = Artifact.objects.get(version=world.new).size
    assert plan.bytes == 9 * size


def test_the_number_of_statements_depends_on_no_size(world: World) -> None:
    release = world.draft(policy=THREE_WAVES)
    counts = []
    for number in (2, 40):
        world.add_cis(number) if number == 2 else [world.add_ci(f"more-{n}") for n in range(number)]
        with CaptureQueriesContext(connection) as queries:
            assert plan_of(world, release).targets > 0
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 24


def test_phased_is_slower_and_risks_less(world: World) -> None:
    world.add_cis(20)
    plan = plan_of(world, world.draft(policy=THREE_WAVES))
    assert plan.big_bang.ends_at < plan.phased.ends_at
    assert plan.big_bang.run.most_at_risk == 20
    assert plan.phased.run.most_at_risk < 20
    assert plan.big_bang.reached_if_bad > plan.phased.reached_if_bad == 1
    assert plan.phased.run.mixed_seconds > plan.big_bang.run.mixed_seconds
    assert plan.chosen.strategy == "phased"


def test_a_chosen_big_bang_is_compared_with_the_usual_waves_and_the_same_caps(world: World) -> None:
    world.add_cis(8)
    plan = plan_of(world, world.draft(policy={**BIG_BANG, "max_in_flight": 3}))
    assert plan.big_bang.is_chosen
    assert sizes(plan) == [1, 2, 5]
    assert plan.phased.policy.max_in_flight == 3
    assert plan.big_bang.run.most_downloads <= 3


def test_cis_that_run_it_already_are_counted_apart(world: World) -> None:
    world.add_cis(3)
    world.add_ci("there", billing="2.0")
    plan = plan_of(world, world.draft())
    assert (plan.targets, plan.already) == (4, 1)
    assert sum(wave.already for wave in plan.phased.waves) == 1
    assert plan.present == [("Billing", "1.0", 3), ("Billing", "2.0", 1)]


def test_cis_without_a_way_back_are_named_and_decide_the_advice(world: World) -> None:
    cis = world.add_cis(8)
    for ci in cis[:2]:
        InstalledVersion.objects.filter(ci=ci).update(version=None, label="0.9-home-made")
        ConfigurationItem.objects.filter(pk=ci.pk).update(attributes={"version.billing": "0.9-home-made"})
    release = world.ready()
    plan = plan_of(world, release)
    assert plan.without_way_back == 2
    assert plan.advice.text == "Phased: 2 CIs cannot go back."
    found = planned_cis(release, world.mona, only=LOST)
    assert [row.ci for row in found.rows(list(found.cis))] == cis[:2]
    record_exception(release, kind="no_way_back", actor=world.mona, now=world.now, reason="Spare parts.", ci=cis[0])
    assert plan_of(world, release).accepted_without_way_back == 1


def test_another_rollout_on_the_same_cis_is_waited_for(world: World) -> None:
    cis = world.add_cis(6)
    rollout = world.started(policy=BIG_BANG)
    world.tick()
    world.devices[0].step(world.now)
    release = world.draft(world.newer, changes=[world.change()])
    (conflict,) = plan_of(world, release).conflicts
    assert (conflict.label, conflict.cis, conflict.under_way) == (rollout.number, 6, 1)
    assert (conflict.superseded, conflict.stopped, conflict.awaited) == (0, 0, 6)
    found = planned_cis(release, world.mona, only=TAKEN)
    assert {label for row in found.rows(list(found.cis)) for label in row.rollouts} == {rollout.number}
    assert list(found.cis) == cis


def test_a_plan_that_supersedes_says_what_makes_way(world: World) -> None:
    world.add_cis(6)
    world.started(policy=BIG_BANG)
    world.tick()
    world.devices[0].step(world.now)  # offered
    for _ in range(3):
        world.devices[1].step(world.now)  # installing
    release = world.draft(world.newer, changes=[world.change()], policy={**POLICY, "supersede": True})
    (conflict,) = plan_of(world, release).conflicts
    assert (conflict.superseded, conflict.stopped, conflict.awaited) == (4, 1, 2)
    # An older version supersedes nothing.
    InstalledVersion.objects.update(version=world.old)
    older = world.draft(world.old, changes=[world.change()], policy={**POLICY, "supersede": True})
    (conflict,) = plan_of(world, older).conflicts
    assert (conflict.superseded, conflict.stopped, conflict.awaited) == (0, 0, 6)


def test_its_own_rollout_is_no_conflict(world: World) -> None:
    world.add_cis(2)
    rollout = world.started()
    world.tick()
    assert plan_of(world, rollout.release).conflicts == []


def test_nothing_begins_before_the_planned_start_and_a_late_end_is_said(world: World) -> None:
    world.add_cis(6)
    start = world.now + timedelta(hours=5)
    change = world.change(planned_start=start, planned_end=start + timedelta(seconds=1))
    plan = plan_of(world, world.draft(changes=[change]))
    assert plan.begins_at == start
    assert plan.phased.waves[0].opens_at == start
    assert "past the planned end" in " ".join(plan.phased.notes)
    emergency = world.draft(changes=[world.change(planned_start=start)], release_type="emergency")
    assert plan_of(world, emergency).begins_at == world.now


def test_a_closed_maintenance_window_delays_its_cis(world: World) -> None:
    world.add_cis(4)
    opens = world.now + timedelta(hours=8)
    window = MaintenanceWindow.objects.create(name="night", start=time(opens.hour), minutes=120, zone="UTC")
    ConfigurationItem.objects.filter(name="srv-4").update(maintenance_window=window)
    release = world.draft(policy=BIG_BANG)
    plan = plan_of(world, release)
    # The usual agent fetches it before and waits.
    assert plan.big_bang.updated_at > opens
    assert plan.big_bang.run.waves[0].at(4 * 3600).confirmed == pytest.approx(3, abs=0.01)
    Release.objects.filter(pk=release.pk).update(release_type="emergency")
    release.refresh_from_db()
    assert plan_of(world, release).big_bang.updated_at < opens


def test_a_freeze_holds_waves_and_offers_back(world: World) -> None:
    world.add_cis(8)
    starts, ends = world.now + timedelta(seconds=5), world.now + timedelta(hours=9)
    Freeze.objects.create(
        name="Year's end", reason="Books.", starts_at=starts, ends_at=ends, created_by=world.mona, created_at=world.now
    )
    plan = plan_of(world, world.draft(policy=POLICY))
    assert [freeze.name for freeze in plan.freezes] == ["Year's end"]
    first, second = plan.phased.waves
    assert first.opens_at == world.now
    assert second.opens_at >= ends
    # Offered before the freeze began, it may end during it.
    assert first.reached_at < ends
    emergency = world.draft(changes=[world.change()], release_type="emergency")
    assert plan_of(world, emergency).phased.waves[-1].opens_at < ends
    assert plan_of(world, emergency).freezes == ()


def test_silent_devices_and_expected_failures_stop_a_wave_that_needs_everybody(world: World) -> None:
    world.add_cis(40)
    ConfigurationItem.objects.filter(name="srv-2").update(attributes_at=world.now - timedelta(days=3))
    strict = plan_of(world, world.draft(policy={**POLICY, "success_threshold": 100}))
    assert strict.silent == 1
    assert "Wave 2 would wait for a person" in strict.phased.notes[0]
    lenient = plan_of(world, world.draft(changes=[world.change()], policy={**POLICY, "success_threshold": 80}))
    assert lenient.phased.notes == ()


def test_without_any_history_it_says_what_it_assumes(world: World) -> None:
    world.add_cis(6)
    plan = plan_of(world, world.draft())
    (basis,) = plan.basis
    assert (basis.estimate.durations_from, basis.estimate.failures_from) == ("assumed", "assumed")
    assert any("nothing was measured" in line for line in plan.assumptions)
    assert plan.advice.text.startswith("Phased: this software was rolled out to too few CIs")


def past_deployments(world: World, number: int, *, seconds: float, failed: int = 0, **ci) -> None:
    """Ended forward deployments of billing 2.0, as an earlier rollout left them."""
    values = {"label": "ROL-0009999", "purpose": "forward", "created_at": world.now, "opened_at": world.now}
    batch = Batch.objects.create(**values)
    for n in range(number + failed):
        target = world.add_ci(f"old-{batch.pk}-{n}")
        ConfigurationItem.objects.filter(pk=target.pk).update(lifecycle="retired", **ci)
        offered = world.now - timedelta(days=1)
        ended = offered + timedelta(seconds=seconds)
        deployment = Deployment.objects.create(
            batch=batch, ci=target, state="succeeded" if n < number else "failed", created_at=offered,
            offered_at=offered, moved_at=ended, closed_at=ended, finished_at=ended,
        )  # fmt: skip
        deployment.items.create(product=world.billing, to_version=world.new, from_version=world.old)
        states = [("created", "", "queued", offered), ("offered", "queued", "offered", offered)]
        middle = offered + timedelta(seconds=seconds / 4)
        states += [("report", "offered", "downloading", offered), ("report", "downloading", "installing", middle)]
        if n < number:
            states += [("report", "installing", "confirming", ended), ("attributes", "confirming", "succeeded", ended)]
        else:
            states += [("report", "installing", "failed", ended)]
        for kind, before, after, at in states:
            deployment.events.create(kind=kind, from_state=before, to_state=after, at=at)


def test_figures_come_from_the_nearest_level_that_has_enough(media) -> None:
    world = World()  # its past has no reports, so that the invariants do not hold
    network = CIClass.objects.create(name="Network device", slug="network")
    world.add_cis(6)
    release = world.draft(world.newer, changes=[world.change()])

    def basis():
        (row,) = plan_of(world, release).basis
        return row.estimate

    past_deployments(world, 30, seconds=400, ci_class=network)
    assert (basis().durations_from, basis().durations_measured) == ("channel", 30)
    assert basis().total.p50 == pytest.approx(400)
    past_deployments(world, 18, seconds=80, failed=2)
    assert (basis().durations_from, basis().durations_measured) == ("product", 18)
    assert basis().total.p50 == pytest.approx(80)
    assert basis().download.p50 == pytest.approx(20)
    assert basis().failures == pytest.approx(0.1)
    assert 0.1 < basis().cautious_failures < 0.25
    # Another product knows only what servers do with any software.
    other = world.draft(world.newer, changes=[world.change()])
    other.items.all().delete()
    assert plan_of(world, other).basis == []


def test_cis_on_which_it_failed_before_are_left_out_and_hold_nothing_back(world: World) -> None:
    first, *_others = world.add_cis(6)
    world.mood("fails", first)
    rollout = world.started(policy={**BIG_BANG, "error_threshold": 50})
    world.tick()
    world.work()
    abort_rollout(rollout, actor=world.olga, now=world.now, reason="Enough seen.")
    world.tick()
    release = world.draft(changes=[world.change()], policy={**POLICY, "waves": [{"rest": True}]})
    plan = plan_of(world, release)
    assert (plan.targets, plan.already, plan.failed_before) == (6, 5, 1)
    (wave,) = plan.phased.waves
    assert wave.size == 6
    assert wave.reached_at == wave.opens_at


def test_a_package_that_leads_nowhere_back_is_to_be_phased(world: World) -> None:
    world.add_cis(8)
    release = world.draft()
    release.items.update(way_back="impossible")
    assert plan_of(world, release).advice.text.startswith("Phased: nothing leads back")


def test_a_requester_sees_his_own_cis_and_no_foreign_rollout(world: World) -> None:
    rita = make_user("uma", "requester")
    world.add_ci("hers", owner=rita)
    world.add_cis(3)
    release = world.draft(changes=[world.change()])
    found = planned_cis(release, rita)
    assert [row.ci.name for row in found.rows(list(found.cis))] == ["hers"]
    world.started(changes=[world.change()], targets={"cis": [ci.pk for ci in planned_cis(release, world.mona).cis[1:]]})
    world.tick()
    conflicts = plan_of(world, release).conflicts
    assert [c.label for c in shown_conflicts(conflicts, rita)] == [""]
    assert [c.label for c in shown_conflicts(conflicts, world.mona)] == [conflicts[0].label]


def test_waves_are_listed_with_their_cis(world: World) -> None:
    world.add_cis(9)
    release = world.draft(policy=THREE_WAVES)
    found = planned_cis(release, world.mona, wave=2)
    assert [row.ci.name for row in found.rows(list(found.cis))] == ["srv-2", "srv-3", "srv-4"]
    assert {row.wave for row in found.rows(list(found.cis))} == {2}


def test_a_release_without_targets_or_package_has_an_empty_plan(world: World) -> None:
    plan = plan_of(world, world.draft())
    assert plan.targets == 0
    assert plan.phased.waves == plan.big_bang.waves == []
    assert Change.objects.count() == 1
