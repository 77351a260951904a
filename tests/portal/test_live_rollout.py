"""The live page of a rollout."""

import pytest
from django.test import Client

from distribution.models import Deployment, DeploymentEvent
from releases import live
from releases.models import Rollout
from tests.factories import NOW
from tests.portal.story import Story, tell_story
from tests.portal.test_every_page import login

pytestmark = pytest.mark.django_db


def look(client: Client, story: Story, mark: str = ""):
    return client.get(f"/rollouts/{story.rollout.number}/live/?mark={mark}")


def test_nothing_is_sent_while_nothing_has_changed() -> None:
    story = tell_story(9)
    client = login(story.manager)
    mark = look(client, story).context["live"].mark
    assert look(client, story, mark).status_code == 204
    deployment = Deployment.objects.filter(state="installing").first()
    DeploymentEvent.objects.create(deployment=deployment, kind="report", to_state="installing", at=NOW)
    assert look(client, story, mark).status_code == 200


def test_the_page_and_its_fragment_are_the_same() -> None:
    story = tell_story(6)
    client = login(story.manager)
    page = client.get(f"/rollouts/{story.rollout.number}/").content.decode()
    assert 'id="live"' in page
    assert "every 2s" in page
    fragment = look(client, story).content.decode()
    assert fragment.count('class="lane"') == page.count('class="lane"') == 3


def test_a_finished_rollout_stops_asking() -> None:
    story = tell_story(4)
    Rollout.objects.filter(pk=story.rollout.pk).update(state="completed", settled_at=NOW, finished_at=NOW)
    text = login(story.manager).get(f"/rollouts/{story.rollout.number}/").content.decode()
    assert "every 2s" not in text


def test_cells_tell_state_and_error_of_each_ci() -> None:
    story = tell_story(20)
    text = look(login(story.manager), story).content.decode()
    failed = Deployment.objects.filter(state="failed").select_related("ci").first()
    assert failed is not None
    assert f"{failed.ci.name} · failed · health_check" in text


def test_a_requester_sees_only_his_own_cis_as_cells() -> None:
    story = tell_story(9)
    view = live.live_view(story.rollout, story.requester)
    names = {cell.ci for lane in view.lanes for cell in lane.cells}
    assert names == {ci.name for ci in story.cis if ci.owner == story.requester}
    assert view.totals.total == 9


def test_many_cis_are_grouped_and_none_is_lost(monkeypatch) -> None:
    story = tell_story(30)
    monkeypatch.setattr(live, "MOST_CELLS", 10)
    monkeypatch.setattr(live, "GROUPED_CELLS", 10)
    failed = Deployment.objects.filter(state="failed").first()
    assert failed is not None
    Deployment.objects.create(
        batch=failed.batch, ci=failed.ci, attempt=2, state="failed", created_at=NOW, moved_at=NOW, finished_at=NOW
    )
    view = live.live_view(story.rollout, story.manager)
    cells = [cell for lane in view.lanes for cell in lane.cells]
    assert sum(cell.size for cell in cells) == 30
    assert len(cells) < 20
    assert any(cell.state == "failed" and cell.size > 1 for cell in cells)


def test_a_retry_counts_once() -> None:
    story = tell_story(12)
    failed = Deployment.objects.filter(state="failed").first()
    assert failed is not None
    Deployment.objects.create(batch=failed.batch, ci=failed.ci, attempt=2, state="queued", created_at=NOW, moved_at=NOW)
    view = live.live_view(story.rollout, story.manager)
    assert view.totals.total == 12
    assert sum(len(lane.cells) for lane in view.lanes) == 12


def test_stragglers_stand_on_the_page_on_their_own_page_and_in_the_api() -> None:
    story = tell_story(20)
    client = login(story.manager)
    failed = Deployment.objects.filter(state="failed").select_related("ci").first()
    assert failed is not None
    own = f"/rollouts/{story.rollout.number}/stragglers/"
    for address in (f"/rollouts/{story.rollout.number}/", f"{own}?page=99"):
        text = client.get(address).content.decode()
        assert failed.error_code in text
        assert failed.ci.name in text
    answer = client.get(f"/api/v1{own}?state=failed&limit=1").json()
    assert answer["count"] == Deployment.objects.filter(state="failed").count()
    row = answer["results"][0]
    assert (row["code"], row["state"]) == ("failed", "failed")
    assert failed.error_code in client.get(f"/api/v1{own}?state=failed").json()["results"][0]["text"]
