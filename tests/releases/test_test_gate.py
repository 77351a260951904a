"""The gate: a package becomes ready by running on a copy for a problem-free period, or by a recorded exception."""

import pytest

from distribution.models import Deployment
from incidents import services as incident_services
from incidents.models import Incident
from releases import services
from releases.models import Release, TestPolicy, TestRun
from releases.targets import target_cis
from test_environments import services as environments
from test_environments.models import TestEnvironment
from tests.factories import make_user
from tests.releases.copies import SOAK, make_ready, soaking
from tests.releases.world import World, deployments, state
from tickets.exceptions import ConditionRefused, PermissionRefused, SeparationOfDuties, TransitionRefused

pytestmark = pytest.mark.django_db


def test_the_way_through_the_gate(world: World, run: TestRun) -> None:
    release = run.release
    assert (state(release), state(run)) == ("testing", "preparing")
    world.tick()
    assert state(run) == "preparing"
    agent = make_ready(world, run)
    world.tick()
    assert (state(run), state(run.environment)) == ("applying", "applying")
    assert Deployment.objects.get().ci == agent.ci
    agent.run(world.now)
    world.tick(1)
    assert (state(run), state(run.environment)) == ("soaking", "ready")
    world.tick(SOAK - 1)
    assert state(release) == "testing"
    world.tick(1)
    assert (state(run), state(release)) == ("passed", "ready")
    services.approve_release(release, actor=world.mona, now=world.now)
    rollout = services.start_rollout(release, actor=world.sven, now=world.now)
    world.tick()
    assert deployments(rollout) == {"srv-1": "queued"}


def test_the_copy_is_never_a_target(world: World, run: TestRun) -> None:
    soaking(world, run)
    assert [ci.name for ci in target_cis(run.release)] == ["srv-1"]


def test_an_incident_on_the_copy_begins_the_period_anew_and_an_open_one_holds_it(world: World, run: TestRun) -> None:
    agent = soaking(world, run)
    world.tick(SOAK - 1)
    incident = world.incident(agent.ci, state="in_progress")
    world.tick(1)
    run.refresh_from_db()
    assert (run.state, run.restarts, run.soak_started_at) == ("soaking", 1, world.now)
    period = run.earlier_periods.get()
    assert period.seconds == SOAK
    assert incident.number in period.why
    world.tick(SOAK)
    assert state(run) == "soaking", "the incident is still open"
    desk = make_user("desk", "service desk")
    incident_services.resolve_incident(incident, actor=desk, now=world.now, resolution="Not the package")
    world.tick()
    run.refresh_from_db()
    assert (run.state, run.restarts) == ("passed", 1)


def test_a_cancelled_incident_and_one_elsewhere_do_not_count(world: World, run: TestRun) -> None:
    agent = soaking(world, run)
    world.incident(agent.ci, state="cancelled")
    world.incident(run.environment.source, state="new")
    world.tick(SOAK)
    run.refresh_from_db()
    assert (run.state, run.restarts) == ("passed", 0)


def test_an_incident_while_it_is_installed_counts_too(world: World, run: TestRun) -> None:
    agent = make_ready(world, run)
    world.tick()
    incident = world.incident(agent.ci, state="in_progress")
    Incident.objects.filter(pk=incident.pk).update(state="resolved")
    agent.run(world.now)
    world.tick()
    world.tick()
    run.refresh_from_db()
    assert (run.state, run.restarts) == ("soaking", 1)


@pytest.mark.parametrize("mood", ["fails", "reverts", "hangs", "offline"])
def test_a_package_that_does_not_run_on_the_copy_fails(world: World, run: TestRun, mood: str) -> None:
    agent = make_ready(world, run)
    agent.mood = mood
    world.tick()
    agent.run(world.now)
    world.tick()
    world.tick(1800)
    run.refresh_from_db()
    assert (run.state, state(run.release), state(run.environment)) == ("failed", "test_failed", "ready")
    assert run.reason
    agent.mood = "ok"
    agent.run(world.now)
    assert not Deployment.objects.open().exists(), "what was left of it is withdrawn"


def test_a_copy_that_loses_the_version_while_soaking_fails_the_test(world: World, run: TestRun) -> None:
    agent = soaking(world, run)
    agent.runs["billing"] = "1.0"
    agent._tell(world.now)
    world.tick(1)
    assert (state(run), state(run.release)) == ("failed", "test_failed")


@pytest.mark.parametrize("broken", ["error", "destroyed"])
def test_a_copy_that_cannot_be_made_fails_the_test(world: World, run: TestRun, broken: str) -> None:
    TestEnvironment.objects.filter(pk=run.environment_id).update(state=broken, last_error="disk full")
    world.tick()
    run.refresh_from_db()
    assert (run.state, state(run.release)) == ("failed", "test_failed")
    assert "disk full" in run.reason


def test_a_copy_that_goes_away_while_soaking_fails_the_test(world: World, run: TestRun) -> None:
    soaking(world, run)
    TestEnvironment.objects.filter(pk=run.environment_id).update(state="destroying")
    world.tick()
    assert state(run) == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["preparing", "applying", "soaking", "passed"])
def test_an_edit_of_the_package_voids_the_test_at_every_stage(world: World, run: TestRun, stage: str) -> None:
    if stage != "preparing":
        agent = make_ready(world, run)
        world.tick()
        if stage != "applying":
            agent.run(world.now)
            world.tick()
        if stage == "passed":
            world.tick(SOAK)
    assert state(run) == stage
    release = run.release
    services.edit_release(release, actor=world.erik, now=world.now, title="not the package")
    assert state(run) == stage
    services.edit_release(release, actor=world.erik, now=world.now, versions=[world.newer])
    assert (state(run), state(release)) == ("voided", "built")
    assert state(run.environment) == "destroying", "the copy is thrown away"
    world.tick(SOAK)
    assert state(release) == "built"
    again = services.start_test(release, actor=world.erik, now=world.now, source_ci=run.environment.source)
    assert again.package_hash != run.package_hash


def test_cancelling_the_release_ends_its_test(world: World, run: TestRun) -> None:
    soaking(world, run)
    services.cancel_release(run.release, actor=world.erik, now=world.now, reason="not wanted")
    world.tick(SOAK)
    assert (state(run), state(run.release)) == ("voided", "cancelled")


def test_a_failed_test_may_be_tried_again_or_excepted_by_a_second_person(world: World, run: TestRun) -> None:
    release = run.release
    TestEnvironment.objects.filter(pk=run.environment_id).update(state="error")
    world.tick()
    release.refresh_from_db()
    with pytest.raises(PermissionRefused):
        services.skip_test(release, actor=world.erik, now=world.now, reason="hurry")
    services.skip_test(release, actor=world.mona, now=world.now, reason="no copy can be made")
    assert state(release) == "ready"
    assert release.exceptions.get().recorded_by == world.mona


def test_who_wrote_the_release_does_not_except_it(world: World, source) -> None:
    release = world.built()
    Release.objects.filter(pk=release.pk).update(last_editor=world.mona)
    release.refresh_from_db()
    with pytest.raises(SeparationOfDuties):
        services.skip_test(release, actor=world.mona, now=world.now, reason="hurry")


def test_a_test_needs_a_source_that_runs_the_product_and_a_built_release(world: World, source) -> None:
    release = world.draft()
    with pytest.raises(TransitionRefused):
        services.start_test(release, actor=world.erik, now=world.now, source_ci=source)
    other = world.add_ci("other", billing="1.0")
    other.installed_versions.update(valid_to=world.now)
    built = world.built()
    with pytest.raises(ConditionRefused, match="would prove nothing"):
        services.start_test(built, actor=world.erik, now=world.now, source_ci=other)
    assert state(built) == "built"


def test_one_broken_test_does_not_hold_up_other_tests_and_rollouts(world: World, run: TestRun) -> None:
    make_ready(world, run)
    Release.objects.filter(pk=run.release_id).update(state="built")  # nobody can move it to test_failed
    TestEnvironment.objects.filter(pk=run.environment_id).update(state="error")
    rollout = world.started()
    world.tick()
    assert (state(run), state(rollout)) == ("preparing", "running")


def test_the_period_is_that_of_the_release_type(world: World, source) -> None:
    runs = {
        kind: services.start_test(
            world.built(release_type=kind), actor=world.erik, now=world.now, source_ci=source
        ).soak_seconds
        for kind in ("major", "minor", "emergency")
    }
    assert runs == {"major": 7 * 86400, "minor": SOAK, "emergency": 4 * 3600}


def test_a_quiet_tick_of_a_test_writes_nothing(world: World, run: TestRun, writes) -> None:
    for prepare in (lambda: None, lambda: make_ready(world, run)):
        prepare()
        world.tick()
        with writes(allowed=0):
            world.tick()
    world.devices[-1].run(world.now)
    world.tick()
    with writes(allowed=0):
        world.tick(1)


def needs(level: str) -> None:
    TestPolicy.objects.filter(release_type="minor").update(evidence=level)


def accept(world: World, run: TestRun, actor) -> None:
    services.accept_evidence(run.release, actor=actor, now=world.now, reason="The fix is one line of text.")


def test_less_evidence_than_the_release_type_needs_passes_only_with_a_second_persons_exception(
    world: World, source
) -> None:
    needs("emulated")
    run = services.start_test(world.built(), actor=world.erik, now=world.now, source_ci=source)
    assert run.evidence_needed == "emulated"
    soaking(world, run)
    TestEnvironment.objects.update(evidence="file_copy")
    world.tick(SOAK)
    world.tick(SOAK)
    assert (state(run), state(run.release)) == ("soaking", "testing")
    with pytest.raises(PermissionRefused):
        accept(world, run, world.erik)
    accept(world, run, world.mona)
    world.tick()
    assert (state(run), state(run.release)) == ("passed", "ready")
    exception = run.release.exceptions.get()
    assert (exception.kind, exception.recorded_by) == ("weaker_evidence", world.mona)


def test_who_wrote_the_release_does_not_accept_weaker_evidence_whatever_his_rights(world: World, source) -> None:
    needs("accelerated")
    run = services.start_test(world.built(), actor=world.erik, now=world.now, source_ci=source)
    world.erik.is_superuser = True
    with pytest.raises(SeparationOfDuties):
        accept(world, run, world.erik)


@pytest.mark.parametrize("evidence", ["emulated", "accelerated"])
def test_enough_evidence_needs_no_exception_and_takes_none(world: World, source, evidence: str) -> None:
    needs("emulated")
    run = services.start_test(world.built(), actor=world.erik, now=world.now, source_ci=source)
    soaking(world, run)
    TestEnvironment.objects.update(evidence=evidence)
    with pytest.raises(ConditionRefused, match="proves less"):
        accept(world, run, world.mona)
    world.tick(SOAK)
    assert state(run) == "passed"


def test_an_acceptance_counts_only_for_the_content_that_it_was_given_for(world: World, source) -> None:
    needs("emulated")
    run = services.start_test(world.built(), actor=world.erik, now=world.now, source_ci=source)
    accept(world, run, world.mona)
    run.release.exceptions.update(content_hash="0" * 64)
    soaking(world, run)
    world.tick(SOAK)
    assert state(run) == "soaking"


def test_two_releases_are_tried_side_by_side_on_one_image(world: World, source) -> None:
    image = environments.request_image(source, actor=world.erik, now=world.now)
    runs = [
        services.start_test(world.built(), actor=world.erik, now=world.now, source_ci=source, image=image)
        for _ in range(2)
    ]
    assert {run.environment.image for run in runs} == {image}
    assert len({run.environment.copy_id for run in runs}) == 2
