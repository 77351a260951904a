"""Releases to groups of CIs: whoever belongs to one of them; a group that is defined anew needs a new approval."""

from typing import Any

import pytest
from django.test import Client

from cmdb.groups import create_group, edit_group
from releases import services
from releases.targets import target_cis
from tests.factories import make_user
from tests.releases.world import BIG_BANG, POLICY, World
from tickets.exceptions import ConditionRefused, InvalidInput

pytestmark = pytest.mark.django_db


def names(release) -> list[str]:
    return list(target_cis(release).values_list("name", flat=True))


def test_members_of_any_of_the_groups_get_it(world: World) -> None:
    one, two, three, four = world.add_cis(4)
    world.add_ci("other")
    first = create_group(actor=None, now=world.now, name="First", static_members=[one, two])
    second = create_group(actor=None, now=world.now, name="Second", filter={"name": [two.name, three.name]})
    release = world.draft(targets={"groups": [first.pk, second.pk], "exclude": [three.pk]})
    assert names(release) == [one.name, two.name]
    release = world.draft(targets={"groups": [first.pk], "cis": [two.pk, four.pk]})
    assert names(release) == [two.name]


def test_a_group_that_is_gone_has_no_members(world: World) -> None:
    one, _two = world.add_cis(2)
    group = create_group(actor=None, now=world.now, name="First", static_members=[one])
    release = world.draft(targets={"groups": [group.pk]})
    group.delete()
    assert names(release) == []


def test_an_unknown_group_is_refused(world: World) -> None:
    with pytest.raises(InvalidInput) as refused:
        world.draft(targets={"groups": [4711]})
    assert refused.value.field == "targets"


def test_the_rollout_goes_to_the_group(world: World) -> None:
    one, _two = world.add_cis(2)
    group = create_group(actor=None, now=world.now, name="First", filter={"name": one.name})
    rollout = world.started(policy=BIG_BANG, targets={"groups": [group.pk]})
    world.pass_time(4)
    rollout.refresh_from_db()
    assert rollout.state == "completed"
    assert world.runs()[one.name] == "2.0"


def test_a_group_defined_anew_asks_for_a_new_plan_and_approval(world: World) -> None:
    one, two = world.add_cis(2)
    group = create_group(actor=None, now=world.now, name="First", static_members=[one])
    release = world.approved(policy=BIG_BANG, targets={"groups": [group.pk]})
    edit_group(group, actor=None, now=world.now, static_members=[two])
    for call in (
        lambda: services.start_rollout(release, actor=world.sven, now=world.now),
        lambda: services.approve_release(release, actor=world.mona, now=world.now),
    ):
        with pytest.raises(ConditionRefused) as refused:
            call()
        assert refused.value.code == "groups_changed"
    services.edit_release(release, actor=world.erik, now=world.now, targets={"groups": [group.pk]})
    assert not services.has_valid_approval(release)
    services.approve_release(release, actor=world.mona, now=world.now)
    services.start_rollout(release, actor=world.sven, now=world.now)


def test_a_group_that_is_only_renamed_changes_nothing(world: World) -> None:
    (one,) = world.add_cis(1)
    group = create_group(actor=None, now=world.now, name="First", static_members=[one])
    release = world.approved(policy=BIG_BANG, targets={"groups": [group.pk]})
    edit_group(group, actor=None, now=world.now, name="Renamed")
    services.start_rollout(release, actor=world.sven, now=world.now)


def test_the_plan_form_keeps_the_groups(world: World) -> None:
    (one,) = world.add_cis(1)
    group = create_group(actor=None, now=world.now, name="First", static_members=[one])
    release = world.draft(targets={"groups": [group.pk]})
    client = Client()
    client.force_login(make_user("petra", "release engineer"))
    page = client.get(f"/releases/{release.number}/plan-rollout/")
    assert page.context["form"].initial["groups"] == [group.pk]


@pytest.mark.parametrize("where", ["targets", "wave"])
def test_a_group_that_is_defined_anew_right_after_the_start_reaches_nobody(world: World, where: str) -> None:
    one, two = world.add_cis(2)
    group = create_group(actor=None, now=world.now, name="First", static_members=[one])
    plan: dict[str, Any] = {"policy": BIG_BANG, "targets": {"groups": [group.pk]}}
    if where == "wave":
        plan = {"policy": {**POLICY, "waves": [{"group": group.pk}, {"rest": True}]}}
    rollout = world.started(**plan)
    edit_group(group, actor=None, now=world.now, static_members=[one, two])
    world.pass_time(2)
    rollout.refresh_from_db()
    assert (rollout.state, rollout.waits_for[:9]) == ("preparing", "A group o")
    assert set(world.runs().values()) == {"1.0"}
    services.abort_rollout(rollout, actor=world.olga, now=world.now, reason="another group")
    world.tick()
    rollout.refresh_from_db()
    assert rollout.state == "aborted"


@pytest.mark.parametrize("field", ["cis", "exclude", "again"])
def test_more_cis_than_a_person_names_are_refused(world: World, field: str) -> None:
    with pytest.raises(InvalidInput, match="At most 10000 CIs"):
        world.draft(targets={field: list(range(1, 10_002))})
