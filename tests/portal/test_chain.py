"""The chain: the same steps from each of its members, only what the reader may see, constant queries."""

import pytest

from incidents.models import Incident
from itsm_portal.chain import chain_of, chain_text
from tests.factories import NOW
from tests.portal.story import tell_story

pytestmark = pytest.mark.django_db


def steps(instance, user) -> dict:
    return {step.kind: step for step in chain_of(instance, user).steps}


def test_each_member_shows_the_whole_chain() -> None:
    story = tell_story(4)
    members = (story.incidents[0], story.problem, story.change, story.release, story.rollout, story.cis[0])
    for member in members:
        found = steps(member, story.manager)
        assert list(found) == ["incident", "problem", "change", "release", "rollout", "ci"]
        assert found["problem"].links[0].number == story.problem.number, member
        assert found["change"].links[0].number == story.change.number, member
        assert found["release"].links[0].number == story.release.number, member
        assert found["rollout"].links[0].number == story.rollout.number, member
        assert found["incident"].total >= 1, member


def test_the_last_step_names_the_version_on_the_incidents_ci() -> None:
    story = tell_story(4)
    assert steps(story.incidents[0], story.manager)["ci"].text == "Billing 2.0"
    assert steps(story.release, story.manager)["ci"].text == "Billing 2.0 on 2 of 4 CIs"


def test_a_missing_step_offers_the_one_action_that_creates_it() -> None:
    story = tell_story(2)
    incident = Incident.objects.create(
        title="Alone", requester=story.requester, created_by=story.requester, created_at=NOW, updated_at=NOW
    )
    problem = steps(incident, story.desk)["problem"]
    assert problem.missing
    assert problem.action_url == f"/problems/new/?incidents={incident.number}"
    assert not steps(incident, story.requester)["problem"].action


def test_a_stranger_sees_no_members() -> None:
    story = tell_story(3)
    found = steps(story.rollout, story.outsider)
    assert [step.links for step in found.values()] == [()] * 6


def test_the_requester_sees_the_chain_behind_his_own_incident() -> None:
    story = tell_story(3)
    found = steps(story.incidents[0], story.requester)
    assert found["release"].links[0].number == story.release.number


def test_the_chain_as_text_and_as_json() -> None:
    story = tell_story(3)
    text = chain_text(story.incidents[0], story.manager)
    assert text.startswith(f"{story.incidents[0].number} (on hold) → {story.problem.number} (fix in progress)")
    assert text.endswith("→ srv-001: Billing 2.0")
    json = chain_of(story.incidents[0], story.manager).to_json()
    assert json[3]["links"][0]["number"] == story.release.number


def test_the_queries_do_not_grow_with_the_number_of_tickets(django_assert_num_queries) -> None:
    story = tell_story(9)
    story.manager.has_perm("x.y")
    with django_assert_num_queries(7):
        chain_of(story.problem, story.manager)
