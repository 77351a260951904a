"""Two people edit the same ticket: nobody loses what he typed, each sees what the other changed."""

import pytest
from django.test import Client
from rest_framework.test import APIClient

from incidents.models import Incident
from incidents.services import assign_incident, edit_incident, report_incident, start_incident
from notifications.kinds import Kind
from problems.services import assign_problem, open_problem
from tests.factories import NOW, make_user
from tickets.exceptions import EditConflict, InvalidInput, PermissionRefused, TransitionRefused

pytestmark = pytest.mark.django_db
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def desk():
    return make_user("desk", "service desk", first_name="Dana", last_name="Desk")


@pytest.fixture
def colleague():
    return make_user("colleague", "service desk", "problem manager", first_name="Carl", last_name="Colleague")


@pytest.fixture
def incident(desk) -> Incident:
    return report_incident(actor=desk, now=NOW, title="Printer burns", description="Room 4")


def sign_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_the_other_ones_change_is_shown_and_what_was_typed_stays(desk, colleague, incident) -> None:
    address = f"/incidents/{incident.number}/edit/"
    form = {"title": "Printer smokes", "description": "Room 5", "impact": "medium", "urgency": "medium"}
    sign_in(colleague).post(address, {**form, "urgency": "high", "title": "Printer burns", "expected_version": 1})
    client = sign_in(desk)
    refused = client.post(address, {**form, "expected_version": 1})
    text = refused.content.decode()
    assert refused.status_code == 409
    assert "Carl Colleague" in text
    assert "<del>medium</del>" in text
    assert "<ins>high</ins>" in text
    assert "Printer smokes" in text
    incident.refresh_from_db()
    assert (incident.title, incident.urgency) == ("Printer burns", "high")
    # Whoever has seen it may save over it: the form carries the new version now.
    assert 'name="expected_version" value="2"' in text
    assert client.post(address, {**form, "expected_version": 2}).status_code == 302
    incident.refresh_from_db()
    assert (incident.title, incident.urgency, incident.version) == ("Printer smokes", "medium", 3)


def test_a_verb_is_not_done_to_a_ticket_that_somebody_else_has_just_changed(desk, colleague, incident) -> None:
    page = sign_in(desk).get(f"/incidents/{incident.number}/").content.decode()
    assert 'name="expected_version" value="1"' in page
    assign_incident(incident, actor=colleague, now=NOW, assignee=colleague)
    refused = sign_in(desk).post(f"/incidents/{incident.number}/start/", {"expected_version": 1}, **HTMX)
    assert refused.status_code == 409
    assert refused["HX-Retarget"] == "#verb-form"
    assert "<ins>Carl Colleague</ins>" in refused.content.decode()
    incident.refresh_from_db()
    assert incident.state == "assigned"


def test_a_conflict_tells_what_was_changed_only_to_those_with_the_right(desk, colleague) -> None:
    uma = make_user("uma", "requester")
    own = report_incident(actor=uma, now=NOW, title="It hums")
    edit_incident(own, actor=colleague, now=NOW, description="Secret words", expected_version=1)
    # Who may not do it at all is refused for that.
    refused = sign_in(uma).post(f"/incidents/{own.number}/assign/", {"expected_version": 1})
    assert refused.status_code == 403
    assert "Secret words" not in refused.content.decode()
    # Who may, but reads no internal notes, is told which fields it was.
    Incident.objects.filter(pk=own.pk).update(state="resolved")
    refused = sign_in(uma).post(f"/incidents/{own.number}/reopen/", {"reason": "Still", "expected_version": 1})
    text = refused.content.decode()
    assert refused.status_code == 409
    assert "<strong>description</strong>" in text
    assert "Secret words" not in text
    api = APIClient()
    api.force_authenticate(uma)
    address = f"/api/v1/incidents/{own.number}/reopen/"
    facts = api.post(address, {"reason": "Still"}, headers={"If-Match": '"1"'}).json()
    assert "Secret words" not in str(facts)
    assert "edit_conflict" in str(facts)


@pytest.mark.parametrize("verb", ["resolve", "hold", "edit"])
def test_only_facts_that_the_page_offers_narrow_a_form(desk, incident, verb: str) -> None:
    """Another field's name in the address is none: the form stays whole, and says what is missing."""
    client = sign_in(desk)
    start_incident(incident, actor=desk, now=NOW)
    for name in ("resolution", "team", "nothing", "people"):
        address = f"/incidents/{incident.number}/{verb}/?inline={name}"
        assert client.get(address, **HTMX)["HX-Retarget"] == "#verb-form"
        refused = client.post(address, {"expected_version": 2, "title": ""}, **HTMX)
        assert refused.status_code == 400
    # A form of something new stands in nobody's place.
    new = client.post("/incidents/new/?inline=description", {"description": "Only this"}, **HTMX)
    assert new.status_code == 400


def test_every_step_of_a_ticket_counts_and_a_comment_does_not(desk, incident) -> None:
    start_incident(incident, actor=desk, now=NOW)
    assert incident.version == Incident.objects.get().version == 2
    sign_in(desk).post(f"/incidents/{incident.number}/comment/", {"text": "Still smoking", "expected_version": 1})
    assert incident.entries.filter(text="Still smoking").exists()
    assert Incident.objects.get().version == 2


def test_one_fact_is_edited_in_its_place(desk, incident) -> None:
    client = sign_in(desk)
    address = f"/incidents/{incident.number}/edit/?inline=urgency"
    fragment = client.get(address, **HTMX)
    assert fragment["HX-Retarget"] == "#inline-urgency"
    assert "urgency" in fragment.content.decode()
    assert 'name="title"' not in fragment.content.decode()
    assert client.post(address, {"urgency": "high", "expected_version": 1}, **HTMX).status_code == 302
    incident.refresh_from_db()
    assert (incident.urgency, incident.priority, incident.title) == ("high", 2, "Printer burns")
    entry = incident.entries.latest("id")
    assert entry.text == "- urgency: `medium` → `high`"
    # Without scripts the same address is the whole form.
    assert 'name="title"' in client.get(address).content.decode()


def test_what_a_state_or_a_role_does_not_permit_offers_no_pencil(desk, incident) -> None:
    assert "inline=urgency" in sign_in(desk).get(f"/incidents/{incident.number}/").content.decode()
    requester = make_user("uma", "requester")
    own = report_incident(actor=requester, now=NOW, title="It hums")
    assert "inline=" not in sign_in(requester).get(f"/incidents/{own.number}/").content.decode()
    assert sign_in(requester).post(f"/incidents/{own.number}/edit/", {"title": "Mine"}).status_code == 403
    with pytest.raises(PermissionRefused):
        edit_incident(own, actor=requester, now=NOW, title="Mine")
    Incident.objects.filter(pk=incident.pk).update(state="closed")
    with pytest.raises(TransitionRefused):
        edit_incident(incident, actor=desk, now=NOW, title="Later")


def test_an_edit_from_an_old_version_names_every_change_since(desk, colleague, incident) -> None:
    edit_incident(incident, actor=colleague, now=NOW, title="Printer smokes")
    edit_incident(incident, actor=colleague, now=NOW, description="Room 6")
    with pytest.raises(EditConflict) as refused:
        edit_incident(incident, actor=desk, now=NOW, impact="low", expected_version=1)
    assert [(one.field, one.before, one.after) for one in refused.value.changes] == [
        ("title", "Printer burns", "Printer smokes"),
        ("description", "Room 4", "Room 6"),
    ]


def test_a_problem_is_handed_over_to_somebody_who_may_work_on_it(colleague, desk) -> None:
    problem = open_problem(actor=colleague, now=NOW, title="Printers burn")
    with pytest.raises(InvalidInput):
        assign_problem(problem, actor=colleague, now=NOW, assignee=desk)
    other = make_user("other", "problem manager")
    assign_problem(problem, actor=colleague, now=NOW, assignee=other)
    assert problem.assignee == other
    assert other.notices.get(thread=problem.number).kind == Kind.ASSIGNED


def test_people_are_found_by_name_by_those_who_work_with_people(desk, incident) -> None:
    make_user("cara", first_name="Cara", last_name="Miller")
    options = sign_in(desk).get("/lists/people/?field=assignee&assignee=mill").content.decode()
    assert options == '<option value="Cara Miller (cara)"></option>'
    for number in range(25):
        make_user(f"bob{number}")
    assert sign_in(desk).get("/lists/people/?field=x&x=bob").content.decode().count("<option") == 20
    assert sign_in(make_user("uma", "requester")).get("/lists/people/?field=x&x=mill").content == b""
    # By name, by user name, by a part that only one person has; and with what was typed kept when nobody has it.
    client, address = sign_in(desk), f"/incidents/{incident.number}/assign/"
    for text in ("Dana Desk (desk)", "DESK", "dana"):
        assert client.post(address, {"assignee": text}).status_code == 302, text
    refused = client.post(address, {"assignee": "Nobody Knows"})
    assert refused.status_code == 400
    assert "Nobody Knows" in refused.content.decode()
