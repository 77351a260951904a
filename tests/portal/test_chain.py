"""The chain: the same steps from each of its members, only what the reader may see, constant queries."""

import pytest
from django.core.mail import get_connection
from rest_framework.test import APIClient

from cmdb.models import ConfigurationItem
from cmdb.services import record_installed
from incidents.models import Incident
from itsm_portal.chain import chain_of, chain_text
from notifications.mail import compose
from notifications.models import Outbox
from notifications.services import notify
from releases.models import Rollout
from tests.factories import NOW, make_product
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


def test_who_has_an_incident_sees_what_its_ci_runs_of_what_he_waits_for_and_no_more() -> None:
    story = tell_story(4)
    incident = story.incidents[0]
    ConfigurationItem.objects.filter(pk=incident.ci_id).update(owner=story.manager)
    record_installed(incident.ci, product=make_product("ledger"), label="7", now=NOW)
    found = steps(Incident.objects.get(pk=incident.pk), story.requester)["ci"]
    assert (found.text, found.links) == (f"{incident.ci.name}: Billing 2.0", ())
    assert "ledger 7" not in found.text


def test_what_came_after_a_completed_rollout_is_named() -> None:
    story = tell_story(4)
    billing = story.release.items.get().version.product
    for ci in story.cis:
        record_installed(ci, product=billing, label="3.0", now=NOW)
    over = {"state": "completed", "finished_at": NOW}
    Rollout.objects.filter(pk=story.rollout.pk).update(**over)
    found = steps(Rollout.objects.get(pk=story.rollout.pk), story.manager)["ci"]
    assert (found.text, found.missing) == ("followed by Billing 3.0 on 4 CIs", "")
    Rollout.objects.filter(pk=story.rollout.pk).update(state="rolled_back")
    assert steps(story.release, story.manager)["ci"].missing == "Billing 2.0 runs nowhere any more"


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
    text = chain_text(chain_of(story.incidents[0], story.manager))
    assert text.startswith(f"{story.incidents[0].number} (on hold) → {story.problem.number} (fix in progress)")
    assert text.endswith("→ srv-001: Billing 2.0")
    json = chain_of(story.incidents[0], story.manager).to_json()
    assert json[3]["links"][0]["number"] == story.release.number


def test_the_queries_do_not_grow_with_the_number_of_tickets(django_assert_num_queries) -> None:
    story = tell_story(9)
    story.manager.has_perm("x.y")
    with django_assert_num_queries(7):
        chain_of(story.problem, story.manager)


def mail_to(person, thread: str) -> tuple[str, str]:
    """Text and HTML of a mail in this thread."""
    notify(event="test", recipient=person, thread=thread, subject="News", text="There is news.", now=NOW)
    mail = compose(Outbox.objects.get(event="test", recipient=person), get_connection())
    return str(mail.body), str(mail.alternatives[0][0])


def test_a_mail_carries_the_chain_as_its_reader_may_see_it(settings) -> None:
    settings.PORTAL_URL = "https://portal.example.org"
    story = tell_story(3)
    number = story.incidents[0].number
    for text in mail_to(story.requester, number):
        assert "→" in text
        assert story.release.number in text
    html = mail_to(story.manager, number)[1]
    assert f'href="https://portal.example.org/releases/{story.release.number}/"' in html
    # He is told, but may see nothing of it.
    assert story.release.number not in "".join(mail_to(story.outsider, number))
    assert "→" not in "".join(mail_to(story.desk, "operations"))


def test_every_object_of_the_api_carries_its_chain_for_its_reader() -> None:
    story = tell_story(3)
    client = APIClient()
    client.force_authenticate(story.manager)
    for folder, one in (
        ("incidents", story.incidents[0]), ("problems", story.problem), ("changes", story.change),
        ("releases", story.release), ("rollouts", story.rollout), ("cis", story.cis[0]),
    ):  # fmt: skip
        chain = client.get(f"/api/v1/{folder}/{one.number}/").json()["chain"]
        assert chain == client.get(f"/api/v1/chain/{one.number}/").json(), folder
        assert chain[3]["links"][0]["number"] == story.release.number, folder
    assert "chain" not in client.get("/api/v1/incidents/").json()["results"][0]
    client.force_authenticate(story.requester)
    # Of his own CI nobody tells him which incidents of others hang together with it.
    seen = client.get(f"/api/v1/cis/{story.cis[0].number}/").json()["chain"]
    foreign = [one.number for one in story.incidents if one.requester != story.requester]
    assert not [number for number in foreign if number in str(seen)]
