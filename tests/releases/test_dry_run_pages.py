"""The dry run on the plan's tab and in the API, for those who may see it."""

import pytest
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from releases import services
from releases.models import Release
from tests.factories import make_user
from tests.portal.test_every_page import login
from tests.releases.world import POLICY, World

pytestmark = pytest.mark.django_db
THREE_WAVES = {**POLICY, "waves": [{"count": 1}, {"percent": 25}, {"rest": True}]}


@pytest.fixture
def release(world: World) -> Release:
    world.add_cis(9)
    return world.draft(policy=THREE_WAVES)


def api(user) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


def text_of(client: Client, address: str, **headers) -> str:
    answer = client.get(address, headers=headers)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def test_the_tab_fetches_the_dry_run_and_links_it_for_those_without_scripts(world: World, release: Release) -> None:
    address = f"/releases/{release.number}/dry-run/"
    tab = text_of(login(world.mona), f"/releases/{release.number}/?tab=plan")
    assert f'hx-get="{address}"' in tab
    assert f'href="{address}"' in tab
    fragment = text_of(login(world.mona), address, **{"HX-Request": "true"})
    page = text_of(login(world.mona), address)
    assert "<html" not in fragment
    assert "<html" in page
    for text in (fragment, page):
        assert text.count('<svg class="plot"') == 2
        assert "Phased (chosen)" in text
        assert "Big bang" in text
        assert "this software was rolled out to too few CIs" in text
        assert "assumed: nothing measured" in text


def test_a_started_release_shows_its_rollout_instead(world: World) -> None:
    world.add_cis(2)
    rollout = world.started()
    assert "dry-run" not in text_of(login(world.mona), f"/releases/{rollout.release.number}/?tab=plan")


def test_a_release_without_targets_says_so(world: World) -> None:
    release = world.draft()
    assert "No CI matches" in text_of(login(world.mona), f"/releases/{release.number}/dry-run/")


def test_the_targets_are_paged_by_wave(world: World, release: Release) -> None:
    address = f"/releases/{release.number}/dry-run/cis/"
    client = login(world.mona)
    assert text_of(client, address).count('class="row-link"') == 9
    second = text_of(client, f"{address}?wave=2")
    assert second.count('class="row-link"') == 2 + 1
    assert "srv-2" in second
    for odd in ("wave=x", "wave=99", "only=nonsense", "page=77", "wave=9999999999"):
        text_of(client, f"{address}?{odd}")


def test_the_api_answers_both_strategies(world: World, release: Release) -> None:
    answer = api(world.mona).get(f"/api/v1/releases/{release.number}/plan/")
    assert answer.status_code == 200, answer.content
    data = answer.json()
    assert (data["targets"], data["already"], data["without_way_back"]) == (9, 0, 0)
    assert [wave["size"] for wave in data["phased"]["waves"]] == [1, 3, 5]
    assert data["phased"]["is_chosen"]
    assert data["big_bang"]["most_at_risk"] == 9
    assert data["phased"]["points"][-1]["updated"] == pytest.approx(9)
    assert data["basis"][0]["durations_from"] == "assumed"
    assert data["advice"]["strategy"] == "phased"
    assert data["present"] == [{"product": "Billing", "label": "1.0", "cis": 9}]


def test_the_verb_plan_is_still_a_post_to_the_same_address(world: World, release: Release) -> None:
    answer = api(world.erik).post(f"/api/v1/releases/{release.number}/plan/", {}, format="json")
    assert answer.status_code == 200, answer.content
    assert answer.json()["state"] == "planned"


def test_the_api_pages_the_planned_cis(world: World, release: Release) -> None:
    address = f"/api/v1/releases/{release.number}/plan/cis/"
    data = api(world.mona).get(f"{address}?wave=3&limit=2").json()
    assert data["count"] == 5
    assert [row["name"] for row in data["results"]] == ["srv-5", "srv-6"]
    assert data["results"][0]["can_go_back"]
    assert api(world.mona).get(f"{address}?only=nonsense").status_code == 400
    assert api(world.mona).get(f"{address}?only=without_way_back").json()["count"] == 0


def test_who_does_not_see_the_release_sees_no_plan_and_a_requester_only_his_own_cis(
    world: World, release: Release
) -> None:
    stranger = make_user("otto", "requester")
    for address in ("plan/", "plan/cis/"):
        assert api(stranger).get(f"/api/v1/releases/{release.number}/{address}").status_code == 404
    for address in ("dry-run/", "dry-run/cis/"):
        assert login(stranger).get(f"/releases/{release.number}/{address}").status_code == 404
    # Whose RFC it is sees the release.
    release.changes.add(world.change(requester=stranger))
    assert api(stranger).get(f"/api/v1/releases/{release.number}/plan/cis/").json()["count"] == 0
    world.add_ci("hers", owner=stranger)
    rows = api(stranger).get(f"/api/v1/releases/{release.number}/plan/cis/").json()["results"]
    assert [row["name"] for row in rows] == ["hers"]
    page = text_of(login(stranger), f"/releases/{release.number}/dry-run/cis/")
    assert "hers" in page
    assert "srv-1" not in page


def test_the_plan_is_read_in_a_transaction_that_cannot_write(world: World, release: Release) -> None:
    client = api(world.mona)
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT before; SET TRANSACTION READ ONLY")
    assert client.get(f"/api/v1/releases/{release.number}/plan/").status_code == 200
    with connection.cursor() as cursor:
        cursor.execute("ROLLBACK TO before")


def test_the_findings_of_the_plan_are_computed_anew_with_the_dry_run(world: World, release: Release) -> None:
    services.edit_release(release, actor=world.erik, now=world.now, policy={**THREE_WAVES, "error_threshold": 100})
    text = "nothing ever counts as too many failures"
    tab = text_of(login(world.mona), f"/releases/{release.number}/?tab=plan")
    assert tab.count(text) == 1
    assert tab.index('id="dry-run"') < tab.index(text), "in what the dry run replaces"
    address = f"/releases/{release.number}/dry-run/"
    assert text_of(login(world.mona), address, **{"HX-Request": "true"}).count(text) == 1
    services.edit_release(release, actor=world.erik, now=world.now, policy=THREE_WAVES)
    assert text not in text_of(login(world.mona), address, **{"HX-Request": "true"})
