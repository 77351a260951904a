"""Release notes: what a release brings, as each reader may see it."""

import pytest
from django.test import Client

from incidents.models import Incident
from tests.portal.story import Story, tell_story
from tests.portal.test_every_page import login

pytestmark = pytest.mark.django_db


def notes(client: Client, story: Story) -> str:
    answer = client.get(f"/releases/{story.release.number}/notes/?as=markdown")
    assert answer["Content-Type"].startswith("text/markdown")
    return answer.content.decode()


def test_they_name_versions_changes_problems_and_incidents() -> None:
    story = tell_story(3)
    story.release.title = "Billing *2.0* <b>"
    story.release.save()
    client = login(story.admin)
    text = notes(client, story)
    for part in ("- Billing 2.0", story.change.number, story.problem.number, story.incidents[2].number):
        assert part in text
    assert "Workaround until then: Round by hand." in text
    assert r"Billing \*2.0\* \<b\>" in text
    page = client.get(f"/releases/{story.release.number}/notes/").content.decode()
    assert "Billing *2.0* &lt;b&gt;" in page


def test_they_name_nothing_that_their_reader_may_not_see() -> None:
    story = tell_story(3)
    # Of a CI that is not his own, and written by another.
    Incident.objects.filter(pk=story.incidents[1].pk).update(requester=story.outsider, created_by=story.outsider)
    text = notes(login(story.requester), story)
    assert story.incidents[1].number not in text
    assert story.incidents[0].number in text
    assert login(story.outsider).get("/releases/REL-9999999/notes/").status_code == 404


def test_what_is_no_known_error_yet_keeps_its_root_cause() -> None:
    story = tell_story(2)
    story.problem.is_known_error = False
    story.problem.save()
    text = notes(login(story.admin), story)
    assert story.problem.number in text
    assert "A float" not in text
