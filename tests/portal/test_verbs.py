"""Verbs in the browser's way: forms, refusals in place, fragments for htmx."""

import pytest
from django.test import Client

from incidents.models import Incident
from tests.portal.story import tell_story
from tests.portal.test_every_page import login

HTMX = {"HTTP_HX_REQUEST": "true"}

pytestmark = pytest.mark.django_db


def test_the_service_desk_resolves_an_incident() -> None:
    story = tell_story(3)
    incident = next(i for i in story.incidents if i.state == "on_hold")
    client = login(story.desk)
    answer = client.post(f"/incidents/{incident.number}/resolve/", {"resolution": "Rounded by hand."}, follow=True)
    assert answer.status_code == 200
    incident.refresh_from_db()
    assert incident.state == "resolved"
    assert "Rounded by hand." in answer.content.decode()


def test_a_requester_is_refused_in_place_and_keeps_what_he_typed() -> None:
    story = tell_story(3)
    incident = next(i for i in story.incidents if i.state == "on_hold")
    client = login(story.requester)
    answer = client.post(f"/incidents/{incident.number}/resolve/", {"resolution": "I fixed it."}, **HTMX)
    assert answer.status_code == 403
    assert answer["HX-Retarget"] == "#verb-form"
    text = answer.content.decode()
    assert "I fixed it." in text
    assert "You may not" in text
    assert "<html" not in text
    incident.refresh_from_db()
    assert incident.state == "on_hold"


def test_a_verb_in_the_wrong_state_answers_409_with_the_form() -> None:
    story = tell_story(3)
    incident = next(i for i in story.incidents if i.state == "on_hold")
    client = login(story.desk)
    address = f"/incidents/{incident.number}/resolve/"
    client.post(address, {"resolution": "Done."})
    answer = client.post(address, {"resolution": "Done again."})
    assert answer.status_code == 409
    assert "Done again." in answer.content.decode()


def test_a_missing_field_is_told_without_asking_the_service() -> None:
    story = tell_story(3)
    client = login(story.desk)
    assert client.post(f"/incidents/{story.incidents[0].number}/hold/", {"reason": "boredom"}).status_code == 400


def test_an_unknown_verb_does_not_exist() -> None:
    story = tell_story(2)
    client = login(story.desk)
    assert client.get(f"/incidents/{story.incidents[0].number}/explode/").status_code == 404
    assert client.post(f"/incidents/{story.incidents[0].number}/resolve_by_fix/").status_code == 404


def test_the_author_of_an_rfc_is_refused_when_he_approves_it() -> None:
    story = tell_story(2)
    story.changer.groups.add(story.cab.groups.get(name="CAB member"))
    change = story.change
    type(change).objects.filter(pk=change.pk).update(state="assessed")
    client = login(story.changer)
    form = client.get(f"/changes/{change.number}/approve/").context["form"]
    answer = client.post(f"/changes/{change.number}/approve/", {"comment": "", **form.initial})
    assert answer.status_code == 403
    change.refresh_from_db()
    assert change.state == "assessed"


def test_somebody_else_approves_the_rfc_that_he_has_seen() -> None:
    story = tell_story(2)
    change = story.change
    type(change).objects.filter(pk=change.pk).update(state="assessed")
    client = login(story.cab)
    form = client.get(f"/changes/{change.number}/approve/").context["form"]
    assert client.post(f"/changes/{change.number}/approve/", {"comment": "Yes", **form.initial}).status_code == 302
    change.refresh_from_db()
    assert change.state == "authorised"


def test_htmx_gets_the_page_without_its_frame() -> None:
    story = tell_story(2)
    client = login(story.desk)
    address = f"/incidents/{story.incidents[0].number}/"
    fragment, page = client.get(address, **HTMX).content.decode(), client.get(address).content.decode()
    assert "<html" not in fragment
    assert "<html" in page
    assert 'id="timeline"' in fragment


def test_a_requester_reports_an_incident_on_his_ci_and_comments() -> None:
    story = tell_story(3)
    client = login(story.requester)
    mine = next(ci for ci in story.cis if ci.owner == story.requester)
    data = {"title": "It hums", "ci": mine.name, "impact": "low", "urgency": "low", "description": "Loudly."}
    answer = client.post("/incidents/new/", data)
    incident = Incident.objects.get(title="It hums")
    assert answer["Location"] == f"/incidents/{incident.number}/"
    assert incident.ci == mine
    assert incident.requester == story.requester
    client.post(f"/incidents/{incident.number}/comment/", {"text": "Still."})
    assert "Still." in client.get(f"/incidents/{incident.number}/").content.decode()


def test_a_requester_does_not_find_a_ci_of_somebody_else() -> None:
    story = tell_story(3)
    foreign = next(ci for ci in story.cis if ci.owner != story.requester)
    client = login(story.requester)
    data = {"title": "It hums", "ci": foreign.name, "impact": "low", "urgency": "low"}
    assert client.post("/incidents/new/", data).status_code == 400
    assert foreign.name not in client.get("/cis/options/?field=ci&ci=srv").content.decode()


def test_who_reads_no_internal_notes_is_offered_none_and_cannot_send_one() -> None:
    story = tell_story(3)
    incident = next(one for one in story.incidents if one.requester == story.requester and one.state == "on_hold")
    address = f"/incidents/{incident.number}/comment/"
    client = login(story.requester)
    assert "Internal note" in login(story.desk).post(address, {"text": "Hm", "preview": "1"}).content.decode()
    assert "Internal note" not in client.post(address, {"text": "Hm", "preview": "1"}).content.decode()
    assert client.post(address, {"text": "For you alone", "public": "0"}).status_code == 400
    assert not incident.entries.filter(text="For you alone").exists()


def test_an_internal_note_is_not_shown_to_the_requester() -> None:
    story = tell_story(2)
    address = f"/incidents/{story.incidents[0].number}/"
    assert "Only for us." in login(story.desk).get(address).content.decode()
    assert "Only for us." not in login(story.requester).get(address).content.decode()


def test_a_problem_is_opened_from_the_chosen_incidents() -> None:
    story = tell_story(3)
    client = login(story.desk)
    chosen = story.incidents[:2]
    address = "/problems/new/?" + "&".join(f"incidents={i.number}" for i in chosen)
    form = client.get(address).context["form"]
    assert set(form.initial["incidents"]) == set(chosen)
    data = {"title": "Same cause", "impact": "high", "urgency": "low", "activity": "repair",
            "incidents": [i.pk for i in chosen]}  # fmt: skip
    assert client.post("/problems/new/", data).status_code == 302
    assert chosen[0].problems.filter(title="Same cause").exists()


def test_planning_saves_waves_and_targets_as_people_write_them() -> None:
    story = tell_story(4)
    release = story.release
    type(release).objects.filter(pk=release.pk).update(state="draft")
    client = login(story.releaser)
    address = f"/releases/{release.number}/plan-rollout/"
    form = client.get(address).context["form"]
    data = {name: value for name, value in form.initial.items() if value not in (None, False, [])}
    data |= {field.name: field.value() for field in form.way_back_fields}
    data |= {"waves": "2, 50%, rest", "exclude": story.cis[3].name, "soak_seconds": 5}
    assert client.post(address, data).status_code == 302
    release.refresh_from_db()
    assert release.policy["waves"] == [{"count": 2}, {"percent": 50}, {"rest": True}]
    assert release.targets["exclude"] == [story.cis[3].pk]
    refused = client.post(address, {**data, "waves": "rest, 1", "expected_version": release.version})
    assert refused.status_code == 400
    assert "rest, 1" in refused.content.decode()


def test_pausing_a_rollout_says_what_it_will_do_and_does_it() -> None:
    story = tell_story(8)
    client = login(story.manager)
    address = f"/rollouts/{story.rollout.number}/pause/"
    assert "wait, and are offered nothing" in client.get(address).content.decode()
    assert client.post(address, {"reason": "Look first."}).status_code == 302
    story.rollout.refresh_from_db()
    assert story.rollout.state == "paused"


def test_a_token_is_shown_once_and_only_to_those_who_manage_cis() -> None:
    story = tell_story(2)
    address = f"/cis/{story.cis[0].number}/token/"
    assert login(story.desk).post(address).status_code == 403
    answer = login(story.admin).post(address)
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert story.cis[0].agent_tokens.count() == 1


def test_a_lost_session_leads_to_the_login_page_and_back() -> None:
    answer = Client().get("/incidents/")
    assert answer["Location"] == "/accounts/login/?next=/incidents/"
