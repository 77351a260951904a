"""The form of a release's plan: waves in one line, and what the form does not show stays."""

from typing import Any

import pytest
from django.test import Client

from cmdb.groups import create_group
from cmdb.models import CIClass
from releases import services
from releases.models import Release
from releases.policy import ROLLBACK
from tests.releases.world import POLICY, World

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(db: None, settings: Any, tmp_path: Any) -> World:
    settings.MEDIA_ROOT = tmp_path / "media"
    return World()


def answers(client: Client, release: Release) -> dict[str, Any]:
    """What a browser would send for the form as it is shown."""
    form = client.get(f"/releases/{release.number}/plan-rollout/").context["form"]
    shown = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    return {name: value for name, value in shown.items() if value not in (None, False, [])}


def test_waves_of_every_kind_are_written_in_one_line_and_shown_the_same_way(world: World, client: Client) -> None:
    one, two, three = world.add_cis(3)
    CIClass.objects.get_or_create(slug="server", defaults={"name": "Server"})
    group = create_group(actor=None, now=world.now, name="Pilot", static_members=[three])
    release = world.draft(policy=POLICY)
    client.force_login(world.erik)
    line = f"ci:{one.name}+{two.number}, group:Pilot, service:{three.name}, class:server, 1, 12.5%, rest"
    sent = {**answers(client, release), "waves": line, "error_count": "2", "min_sample": "3"}
    assert client.post(f"/releases/{release.number}/plan-rollout/", sent).status_code == 302
    release.refresh_from_db()
    waves = release.policy["waves"]
    assert [next(iter(wave)) for wave in waves] == ["cis", "group", "service", "ci_class", "count", "percent", "rest"]
    assert waves[0] == {"cis": [one.pk, two.pk]}
    assert (waves[1]["group"], len(waves[1]["digest"])) == (group.pk, 64)
    assert (release.policy["error_count"], release.policy["min_sample"]) == (2, 3)
    again = answers(client, release)
    assert again["waves"] == (
        f"cis:{one.number}+{two.number}, group:{group.number}, service:{three.number}, class:server, 1, 12.5%, rest"
    )
    assert client.post(f"/releases/{release.number}/plan-rollout/", again).status_code == 302
    release.refresh_from_db()
    assert release.policy["waves"] == waves
    page = client.get(f"/releases/{release.number}/?tab=plan").content.decode()
    assert "or 2 failed CIs" in page


NAMED_WRONGLY = ["1, canary, rest", "ci:nobody, rest", "group:Nobody, rest", "class:none, rest", "1"]


@pytest.mark.parametrize("line", [*NAMED_WRONGLY, "9" * 5000, "9" * 5000 + "%"])
def test_a_wave_that_is_none_is_told_in_the_form(world: World, client: Client, line: str) -> None:
    world.add_cis(1)
    release = world.draft(policy=POLICY)
    client.force_login(world.erik)
    answer = client.post(f"/releases/{release.number}/plan-rollout/", {**answers(client, release), "waves": line})
    assert answer.status_code in {200, 400, 422}
    assert 'class="invalid-feedback' in answer.content.decode() or "notice tone-red" in answer.content.decode()


@pytest.mark.parametrize("percent", [33.333333, 1e-07, 0.1 + 0.2, 25.0, 25])
def test_a_percentage_is_shown_as_exactly_as_it_is_stored(world: World, client: Client, percent: float) -> None:
    world.add_cis(1)
    release = world.draft(policy={**POLICY, "waves": [{"percent": percent}, {"rest": True}]})
    before = services.release_hash(release)
    client.force_login(world.erik)
    assert client.post(f"/releases/{release.number}/plan-rollout/", answers(client, release)).status_code == 302
    assert services.release_hash(Release.objects.get()) == before


def test_everything_that_a_way_back_may_have_of_its_own_is_in_the_form(world: World, client: Client) -> None:
    world.add_cis(1)
    own = {name: index for index, name in enumerate(ROLLBACK, start=7)}
    release = world.draft(policy={**POLICY, "rollback": own})
    before = services.release_hash(release)
    client.force_login(world.erik)
    shown = answers(client, release)
    assert {name: shown[f"rollback_{name}"] for name in ROLLBACK} == own
    page = client.get(f"/releases/{release.number}/plan-rollout/").content.decode()
    assert all(f'name="rollback_{name}"' in page for name in ROLLBACK)
    assert client.post(f"/releases/{release.number}/plan-rollout/", shown).status_code == 302
    assert services.release_hash(Release.objects.get()) == before
