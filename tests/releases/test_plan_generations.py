"""Versions of a plan: presets to begin from, every edit a generation that needs its own approval."""

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from releases import services
from releases.models import PlanGeneration, Release
from releases.plan_findings import findings
from releases.policy import RolloutPolicy
from releases.presets import PRESETS
from releases.services.generations import history
from tests.releases.world import POLICY, World
from tickets.exceptions import ConditionRefused, InvalidInput

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_sound_plan_for_a_fleet(world: World, name: str) -> None:
    world.add_cis(40)
    release = world.draft(policy={"preset": name})
    assert findings(release, now=world.now) == []
    assert "preset" not in release.policy
    assert RolloutPolicy.from_json(release.policy) == RolloutPolicy.from_json(PRESETS[name].policy)


def test_what_stands_beside_a_preset_comes_before_it(world: World) -> None:
    policy = RolloutPolicy.from_json({"preset": "canary", "soak_seconds": 7})
    assert (policy.soak_seconds, policy.on_error) == (7, "rollback_wave")
    assert RolloutPolicy.from_json({"preset": "canary", "strategy": "big_bang"}).waves == ({"rest": True},)
    for wrong in ("fast", None, ["canary"]):
        with pytest.raises(InvalidInput):
            RolloutPolicy.from_json({"preset": wrong})


def test_an_edit_of_the_plan_of_a_ready_release_is_a_new_generation_that_needs_a_new_approval(world: World) -> None:
    world.add_cis(2)
    release = world.approved(policy=POLICY)
    services.edit_release(release, actor=world.erik, now=world.now, title="Another title")
    assert PlanGeneration.objects.count() == 1, "the plan is the same"
    services.edit_release(release, actor=world.erik, now=world.now, policy={**POLICY, "soak_seconds": 20})
    (second, changes), (first, nothing) = history(release)
    assert (second.number, second.made_by, first.number, nothing) == (2, world.erik, 1, [])
    assert [(one.field, one.before, one.after) for one in changes] == [("soak_seconds", 10, 20)]
    with pytest.raises(ConditionRefused, match="not approved"):
        services.start_rollout(release, actor=world.sven, now=world.now)
    services.approve_release(release, actor=world.mona, now=world.now)
    rollout = services.start_rollout(release, actor=world.sven, now=world.now)
    assert rollout.generation == 2


def test_a_plan_from_before_generations_were_kept_becomes_the_first(world: World) -> None:
    world.add_cis(2)
    release = world.draft(policy=POLICY)
    PlanGeneration.objects.all().delete()
    services.edit_release(release, actor=world.erik, now=world.now, targets={"ci_classes": ["server"]})
    assert [row.number for row, _changes in history(release)] == [2, 1]
    assert history(release)[0][1][0].field == "ci_classes"
    PlanGeneration.objects.all().delete()
    services.plan_release(release, actor=world.erik, now=world.now, left_out={})
    services.build_release(release, actor=world.erik, now=world.now)
    services.skip_test(release, actor=world.mona, now=world.now, reason="tested by hand")
    services.approve_release(release, actor=world.mona, now=world.now)
    assert services.start_rollout(release, actor=world.sven, now=world.now).generation == 1


def initial_of(client: Client, release: Release, preset: str) -> dict[str, Any]:
    form = client.get(f"/releases/{release.number}/plan-rollout/?preset={preset}").context["form"]
    return {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}


def test_the_form_begins_from_a_preset_and_saves_nothing_by_that(world: World, client: Client) -> None:
    world.add_cis(2)
    release = world.draft(policy=POLICY)
    client.force_login(world.erik)
    shown = initial_of(client, release, "rings")
    assert (shown["waves"], shown["error_threshold"], shown["incident_count"]) == ("1%, 10%, 50%, rest", 5, 2)
    assert initial_of(client, release, "none")["waves"] == "1, rest"
    release.refresh_from_db()
    assert release.policy["error_threshold"] == POLICY["error_threshold"]
    page = client.get(f"/releases/{release.number}/plan-rollout/").content.decode()
    assert all(f"?preset={name}" in page for name in PRESETS)


def test_page_and_api_show_the_generations_and_what_differs(world: World, client: Client) -> None:
    world.add_cis(2)
    release = world.draft(policy=POLICY)
    services.edit_release(release, actor=world.erik, now=world.now, policy={**POLICY, "soak_seconds": 20})
    client.force_login(world.erik)
    page = client.get(f"/releases/{release.number}/?tab=plan").content.decode()
    assert "<code>soak_seconds</code>: 10 → 20" in page
    api = APIClient()
    api.force_authenticate(world.erik)
    shown = api.get(f"/api/v1/releases/{release.number}/").json()["generations"]
    assert [one["number"] for one in shown] == [2, 1]
    assert shown[0]["changes"] == [{"field": "soak_seconds", "before": 10, "after": 20}]
    waves = [{"count": 2}, {"percent": 12.5}, {"rest": True}]
    services.edit_release(release, actor=world.erik, now=world.now, policy={**POLICY, "waves": waves})
    page = client.get(f"/releases/{release.number}/?tab=plan").content.decode()
    assert "<code>waves</code>: 1, rest → 2, 12.5%, rest" in page, "as people write it"
