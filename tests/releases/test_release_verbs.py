"""The verbs of a release: who may, when, and what an approval is worth after an edit."""

from collections.abc import Callable
from typing import Any

import pytest

from changes.models import Change
from cmdb.models import ConfigurationItem
from releases import services
from releases.models import Release, RolloutException
from releases.targets import target_cis
from software.models import Version
from software.services import withdraw_version
from tests.factories import make_ci, make_product, make_user, make_version
from tests.releases.world import BIG_BANG, World, state
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused, SeparationOfDuties, TransitionRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def fleet(world: World) -> list[ConfigurationItem]:
    return world.add_cis(2)


Call = Callable[[World, Release, Any], Any]
VERBS: dict[str, tuple[Call, str, set[str]]] = {
    # verb: call, who may, from which states
    "plan": (lambda w, r, a: services.plan_release(r, actor=a, now=w.now), "erik", {"draft"}),
    "build": (lambda w, r, a: services.build_release(r, actor=a, now=w.now), "erik", {"planned"}),
    "void_test": (
        lambda w, r, a: services.void_test(r, actor=a, now=w.now),
        "erik",
        {"testing", "test_failed", "ready"},
    ),
    "skip_test": (
        lambda w, r, a: services.skip_test(r, actor=a, now=w.now, reason="why"),
        "mona",
        {"built", "test_failed"},
    ),
    "approve": (lambda w, r, a: services.approve_release(r, actor=a, now=w.now), "mona", {"ready"}),
    "reject": (lambda w, r, a: services.reject_release(r, actor=a, now=w.now, comment="why"), "mona", {"ready"}),
    "close": (
        lambda w, r, a: services.close_release(r, actor=a, now=w.now),
        "erik",
        {"completed", "rolled_back", "partially_rolled_back"},
    ),
    "cancel": (
        lambda w, r, a: services.cancel_release(r, actor=a, now=w.now, reason="why"),
        "erik",
        {"draft", "planned", "built", "testing", "test_failed", "ready"},
    ),
    "edit": (
        lambda w, r, a: services.edit_release(r, actor=a, now=w.now, title="other"),
        "erik",
        {"draft", "planned", "built", "testing", "test_failed", "ready"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_from_every_state(world: World, verb: str) -> None:
    world.add_cis(1)
    call, person, allowed = VERBS[verb]
    release = world.draft()
    for current in Release.State.values:
        Release.objects.filter(pk=release.pk).update(state=current)
        release.refresh_from_db()
        with pytest.raises(PermissionRefused if current in allowed else (PermissionRefused, TransitionRefused)):
            call(world, release, world.rita)
        assert state(release) == current
        if current in allowed:
            call(world, release, getattr(world, person))
        else:
            with pytest.raises(TransitionRefused):
                call(world, release, getattr(world, person))
            assert state(release) == current
    Release.objects.filter(pk=release.pk).update(state="draft")


def test_only_a_builder_writes_a_release_and_only_authorised_rfcs_enter(world: World, fleet: Any) -> None:
    with pytest.raises(PermissionRefused):
        services.draft_release(actor=world.rita, now=world.now, title="Mine")
    for refused in set(Change.State.values) - {"authorised", "scheduled"}:
        with pytest.raises(InvalidInput) as error:
            world.draft(changes=[world.change(state=refused, close_code="successful" if refused == "closed" else "")])
        assert error.value.field == "changes"
    with pytest.raises(InvalidInput, match="one version of each product"):
        world.draft(world.new, world.newer)
    assert state(world.draft(changes=[world.change(state="authorised")])) == "draft"


def test_an_rfc_is_in_one_open_release_at_a_time(world: World, fleet: Any) -> None:
    change = world.change()
    release = world.draft(changes=[change])
    with pytest.raises(InvalidInput, match=release.number):
        world.draft(changes=[change])
    services.edit_release(release, actor=world.erik, now=world.now, changes=[change])
    services.cancel_release(release, actor=world.erik, now=world.now, reason="not now")
    world.draft(changes=[change])


def test_a_plan_needs_rfcs_versions_and_targets(world: World) -> None:
    release = world.draft(changes=[])
    with pytest.raises(ConditionRefused, match="RFC"):
        services.plan_release(release, actor=world.erik, now=world.now)
    services.edit_release(release, actor=world.erik, now=world.now, changes=[world.change()], versions=[])
    with pytest.raises(ConditionRefused, match="version"):
        services.plan_release(release, actor=world.erik, now=world.now)
    services.edit_release(release, actor=world.erik, now=world.now, versions=[world.new])
    with pytest.raises(ConditionRefused, match="No CI"):
        services.plan_release(release, actor=world.erik, now=world.now)
    world.add_cis(1)
    services.plan_release(release, actor=world.erik, now=world.now)
    assert state(release) == "planned"


def test_a_left_out_rfc_needs_a_reason(world: World, fleet: Any) -> None:
    forgotten = world.change(state="authorised")
    taken = world.change()
    world.draft(changes=[taken])
    world.change(state="draft")
    other = world.change()
    other.products.set([make_product("shop")])
    release = world.draft()
    for left_out in (None, {}, {forgotten.pk: "  "}):
        with pytest.raises(ConditionRefused) as refused:
            services.plan_release(release, actor=world.erik, now=world.now, left_out=left_out)
        assert refused.value.code == "left_out_reason_missing"
        assert refused.value.detail == {"changes": [forgotten.number]}
    services.plan_release(release, actor=world.erik, now=world.now, left_out={forgotten.pk: "needs new hardware"})
    assert list(release.left_out.values_list("change", "reason")) == [(forgotten.pk, "needs new hardware")]


def test_a_build_needs_every_file_and_a_version_withdrawn_later_stops_the_start(world: World, fleet: Any) -> None:
    empty = make_version(world.billing, "2.1", state=Version.State.DRAFT)
    release = world.draft(empty)
    services.plan_release(release, actor=world.erik, now=world.now)
    with pytest.raises(ConditionRefused, match=r"Not ready.*2\.1"):
        services.build_release(release, actor=world.erik, now=world.now)
    services.cancel_release(release, actor=world.erik, now=world.now, reason="no file")
    release = world.approved(changes=list(release.changes.all()))
    services.edit_release(release, actor=world.erik, now=world.now, versions=[empty])
    with pytest.raises(ConditionRefused, match="Not ready"):
        services.skip_test(release, actor=world.mona, now=world.now, reason="hurry")
    services.edit_release(release, actor=world.erik, now=world.now, versions=[world.new])
    services.skip_test(release, actor=world.mona, now=world.now, reason="hurry")
    services.approve_release(release, actor=world.mona, now=world.now)
    withdraw_version(world.new, actor=world.erik, now=world.now)
    with pytest.raises(ConditionRefused, match="Not ready"):
        services.start_rollout(release, actor=world.sven, now=world.now)


def test_nobody_who_took_part_approves_not_even_a_superuser_or_a_service(world: World, fleet: Any) -> None:
    root = make_user("root", is_superuser=True)
    robot = make_user("robot", "release manager", is_service_account=True)
    release = world.ready(requester=world.sven)
    Release.objects.filter(pk=release.pk).update(last_editor=root)
    release.refresh_from_db()
    for person in (root, robot, world.sven):
        for call in (
            lambda a: services.approve_release(release, actor=a, now=world.now),
            lambda a: services.reject_release(release, actor=a, now=world.now, comment="no"),
            lambda a: services.record_exception(
                release, kind=RolloutException.Kind.NO_WAY_BACK, actor=a, now=world.now, reason="fine"
            ),
        ):
            with pytest.raises(SeparationOfDuties):
                call(person)
    with pytest.raises(PermissionRefused):
        services.approve_release(release, actor=world.erik, now=world.now)
    services.void_test(release, actor=world.erik, now=world.now)
    for person in (root, robot, world.sven):
        with pytest.raises(SeparationOfDuties):
            services.skip_test(release, actor=person, now=world.now, reason="hurry")
    assert not release.approvals.exists()


def test_the_one_who_approved_does_not_start_and_nothing_starts_unapproved(world: World, fleet: Any) -> None:
    release = world.ready()
    with pytest.raises(ConditionRefused, match="not approved"):
        services.start_rollout(release, actor=world.sven, now=world.now)
    services.approve_release(release, actor=world.mona, now=world.now)
    with pytest.raises(SeparationOfDuties):
        services.start_rollout(release, actor=world.mona, now=world.now)
    with pytest.raises(PermissionRefused):
        services.start_rollout(release, actor=world.olga, now=world.now)
    rollout = services.start_rollout(release, actor=world.sven, now=world.now)
    assert rollout.approved_hash == release.approvals.get().content_hash
    assert services.start_rollout(release, actor=world.sven, now=world.now) == rollout, "it is under way"


def test_a_rejection_ends_an_earlier_approval(world: World, fleet: Any) -> None:
    release = world.approved()
    with pytest.raises(InvalidInput):
        services.reject_release(release, actor=world.sven, now=world.now, comment=" ")
    services.reject_release(release, actor=world.sven, now=world.now, comment="The plant is closed")
    assert not services.has_valid_approval(release)
    with pytest.raises(ConditionRefused, match="not approved"):
        services.start_rollout(release, actor=world.sven, now=world.now)


def test_an_emergency_approver_approves_only_emergencies(world: World, fleet: Any) -> None:
    eva = make_user("eva", "emergency approver")
    with pytest.raises(PermissionRefused):
        services.approve_release(world.ready(), actor=eva, now=world.now)
    services.approve_release(world.ready(release_type="emergency"), actor=eva, now=world.now)


@pytest.mark.parametrize(
    ("edit", "voids_test"),
    [
        (lambda w: {"versions": [w.newer]}, True),
        (lambda w: {"changes": [w.change()], "left_out_reason": "later"}, True),
        (lambda w: {"release_type": "emergency"}, True),
        (lambda w: {"policy": {**BIG_BANG, "soak_seconds": 11}}, False),
        (lambda w: {"targets": {"exclude": [w.devices[0].ci.pk]}}, False),
    ],
)
def test_an_edit_voids_the_approval_and_of_the_package_the_test_too(
    world: World, fleet: Any, edit: Callable[[World], dict[str, Any]], voids_test: bool
) -> None:
    release = world.approved(policy=BIG_BANG)
    services.edit_release(release, actor=world.erik, now=world.now, **edit(world))
    assert not services.has_valid_approval(release)
    assert state(release) == ("built" if voids_test else "ready")
    with pytest.raises(TransitionRefused):
        services.start_rollout(release, actor=world.sven, now=world.now)


def test_what_is_not_content_leaves_the_approval_alone(world: World, fleet: Any) -> None:
    release = world.approved()
    services.edit_release(release, actor=world.erik, now=world.now, title="Billing, second try", impact="high")
    services.comment_release(release, actor=world.erik, now=world.now, text="soon")
    assert services.has_valid_approval(release)


def test_another_file_under_the_same_version_voids_the_approval(world: World, fleet: Any) -> None:
    release = world.approved()
    world.new.artifacts.update(sha256="0" * 64)
    assert not services.has_valid_approval(release)
    world.new.artifacts.update(sha256=world.new.artifacts.get().file.name.split("/")[-1])
    assert services.has_valid_approval(release)


def test_two_editors_do_not_overwrite_each_other(world: World, fleet: Any) -> None:
    release = world.draft()
    seen = release.version
    services.edit_release(release, actor=world.erik, now=world.now, expected_version=seen, title="one")
    with pytest.raises(TransitionRefused) as refused:
        services.edit_release(release, actor=world.erik, now=world.now, expected_version=seen, title="two")
    assert refused.value.code == "edit_conflict"
    with pytest.raises(InvalidInput):
        services.edit_release(release, actor=world.erik, now=world.now, state="ready")


@pytest.mark.parametrize(("change", "starts"), [(1, True), (2, False), (-1, True), (-2, False)])
def test_the_number_of_targets_may_change_by_a_tenth_since_the_approval(
    world: World, change: int, starts: bool
) -> None:
    fleet = world.add_cis(10)
    release = world.approved()
    if change > 0:
        for n in range(change):
            world.add_ci(f"new-{n}")
    else:
        ConfigurationItem.objects.filter(pk__in=[ci.pk for ci in fleet[:-change]]).update(lifecycle="retired")
    if starts:
        services.start_rollout(release, actor=world.sven, now=world.now)
        return
    with pytest.raises(ConditionRefused) as refused:
        services.start_rollout(release, actor=world.sven, now=world.now)
    assert refused.value.code == "targets_changed"
    services.approve_release(release, actor=world.mona, now=world.now)
    services.start_rollout(release, actor=world.sven, now=world.now)


def test_an_rfc_that_lost_its_authorisation_stops_the_start(world: World, fleet: Any) -> None:
    change = world.change()
    release = world.approved(changes=[change])
    Change.objects.filter(pk=change.pk).update(state="draft")
    with pytest.raises(ConditionRefused, match=change.number):
        services.start_rollout(release, actor=world.sven, now=world.now)


def test_copies_are_never_targets(world: World, fleet: list[ConfigurationItem]) -> None:
    copy = world.add_ci("copy")
    ConfigurationItem.objects.filter(pk=copy.pk).update(copy_of=fleet[0])
    release = world.draft(targets={"cis": [copy.pk], "fresh": {str(copy.pk): [world.billing.pk]}})
    assert not target_cis(release).exists()


def test_an_exception_is_bound_to_the_content_and_needs_a_known_kind_and_a_reason(world: World, fleet: Any) -> None:
    release = world.ready()
    bare = make_ci("bare")
    for values in ({"kind": "because", "reason": "x"}, {"kind": "no_way_back", "reason": " "}):
        with pytest.raises(InvalidInput):
            services.record_exception(release, actor=world.mona, now=world.now, ci=bare, **values)
    with pytest.raises(PermissionRefused):
        services.record_exception(release, kind="no_way_back", actor=world.olga, now=world.now, reason="x")
    made = services.record_exception(release, kind="no_way_back", actor=world.mona, now=world.now, ci=bare, reason="x")
    assert made.content_hash == services.release_hash(release)
    again = services.record_exception(release, kind="no_way_back", actor=world.mona, now=world.now, ci=bare, reason="y")
    assert (again, again.reason) == (made, "x"), "accepted once for this content"
    assert release.entries.filter(text__contains="Exception").count() == 1
