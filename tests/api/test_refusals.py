"""What the API answers when it cannot: one form of error, one status for each kind of refusal."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from changes.api import ChangeViewSet
from changes.models import Change
from incidents import services
from incidents.api import IncidentViewSet
from incidents.models import Incident
from problems.api import ProblemViewSet
from releases.api import ReleaseViewSet, RolloutViewSet
from test_environments.api import EnvironmentViewSet, ImageViewSet
from tests.api.world import make_objects
from tests.factories import NOW, make_user
from tickets.lifecycle import all_verbs
from tickets.services import create_ticket

pytestmark = pytest.mark.django_db


@pytest.fixture
def anna():
    return make_user("anna", "requester")


@pytest.fixture
def desk():
    return make_user("desk", "service desk")


@pytest.fixture
def incident(anna) -> Incident:
    return create_ticket(Incident, actor=anna, now=NOW, title="It stopped")


def error(answer: Any) -> tuple[int, str, str | None]:
    body = answer.json()
    assert {"type", "errors"} <= set(body) <= {"type", "errors", "facts"}
    first = body["errors"][0]
    assert set(first) == {"code", "detail", "attr"}
    assert first["detail"]
    return answer.status_code, first["code"], first["attr"]


@pytest.mark.parametrize("spelling", ["INC-{0:07d}", "inc{0}", "INC-{0}", "inc {0:04d}", "{0}"])
def test_a_number_is_found_in_any_spelling(incident, anna, as_user, spelling):
    answer = as_user(anna).get(f"/api/v1/incidents/{spelling.format(incident.pk)}/")
    assert answer.json()["number"] == incident.number


@pytest.mark.parametrize("spelling", ["prb{0}", "INC", "x", "-{0}", "9" * 40, "inc99999999999999999999", "٣"])
def test_what_is_no_number_of_this_kind_does_not_exist(incident, anna, as_user, spelling):
    answer = as_user(anna).get(f"/api/v1/incidents/{spelling.format(incident.pk)}/")
    assert error(answer) == (404, "not_found", None)


def test_what_is_not_visible_does_not_exist(incident, as_user):
    stranger = as_user(make_user("stranger", "requester"))
    assert error(stranger.get(f"/api/v1/incidents/{incident.number}/"))[0] == 404
    assert error(stranger.post(f"/api/v1/incidents/{incident.number}/comment/", {"text": "x"}))[0] == 404
    assert stranger.get("/api/v1/incidents/").json()["count"] == 0


@pytest.mark.parametrize(
    "path", ["/api/v1/incidents", "/api/v1/incident/1/", "/api/v2/", "/api/v1/incidents/1/explode/"]
)
@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_an_unknown_address_is_refused_in_the_same_form(anna, as_user, path, method):
    assert error(getattr(as_user(anna), method)(path)) == (404, "not_found", None)


def test_a_verb_in_the_wrong_state_is_a_conflict(incident, desk, as_user):
    answer = as_user(desk).post(f"/api/v1/incidents/{incident.number}/resume/")
    assert error(answer) == (409, "transition_refused", None)
    assert "new" in answer.json()["errors"][0]["detail"]


def test_an_unmet_condition_is_a_conflict(as_user):
    rita = make_user("rita", "change requester")
    change = create_ticket(Change, actor=rita, now=NOW, title="Free it")
    assert error(as_user(rita).post(f"/api/v1/changes/{change.number}/submit/"))[:2] == (409, "condition_refused")


def test_somebody_else_edited_meanwhile(as_user):
    rita = make_user("rita", "change requester")
    change = create_ticket(Change, actor=rita, now=NOW, title="Free it")
    path = f"/api/v1/changes/{change.number}/"
    first = as_user(rita).patch(path, {"description": "One", "expected_version": change.version})
    assert first.json()["version"] == change.version + 1
    second = as_user(rita).patch(path, {"description": "Two", "expected_version": change.version})
    assert error(second)[:2] == (409, "edit_conflict")
    facts = second.json()["facts"]
    assert facts["version"] == change.version + 1
    assert [(one["who"], one["field"], one["after"]) for one in facts["changes"] if one["field"] == "description"] == [
        ("rita", "description", "One")
    ]


def test_a_verb_is_done_only_to_the_version_that_if_match_names(incident, desk, as_user):
    client, path = as_user(desk), f"/api/v1/incidents/{incident.number}/"
    assert client.patch(path, {"urgency": "high"}, headers={"if-match": '"1"'}).json()["version"] == 2
    stale = client.post(f"{path}start/", headers={"if-match": '"1"'})
    assert error(stale)[:2] == (409, "edit_conflict")
    assert stale.json()["facts"]["changes"][0]["field"] == "urgency"
    assert client.post(f"{path}start/", headers={"if-match": "newest"}).status_code == 400
    assert client.post(f"{path}start/", headers={"if-match": '"2"'}).json()["state"] == "in_progress"


def test_a_missing_right_is_refused_before_the_input_is_read(incident, anna, as_user):
    assert error(as_user(anna).post(f"/api/v1/incidents/{incident.number}/resolve/"))[:2] == (403, "permission_refused")


def test_the_author_does_not_approve_his_own_change(as_user):
    rita = make_user("rita", "change requester", "CAB member")
    change = create_ticket(Change, actor=rita, now=NOW, title="Free it")
    Change.objects.filter(pk=change.pk).update(state="assessed")
    assert error(as_user(rita).post(f"/api/v1/changes/{change.number}/approve/"))[:2] == (403, "separation_of_duties")


def test_wrong_input_names_the_field(incident, desk, as_user):
    client = as_user(desk)
    path = f"/api/v1/incidents/{incident.number}"
    assert error(client.post(f"{path}/assign/", {"assignee": "nobody"})) == (400, "does_not_exist", "assignee")
    assert error(client.post("/api/v1/incidents/", {"title": "x"})) == (400, "min_length", "title")
    assert error(client.post("/api/v1/incidents/", {"title": "It stopped", "ci": "CI-0009999"}))[2] == "ci"


def test_a_refusal_of_the_domain_names_the_field_too(as_user):
    erik = as_user(make_user("erik", "release engineer"))
    answer = erik.post("/api/v1/releases/", {"title": "Billing", "policy": {"strategy": "sometimes"}})
    assert error(answer) == (400, "policy_invalid", "policy")


def test_a_ci_of_another_cannot_be_named(anna, as_user):
    other = make_objects("other", make_user("other"), make_user("author"))
    answer = as_user(anna).post("/api/v1/incidents/", {"title": "It stopped", "ci": other.keys["cis"]})
    assert error(answer) == (400, "does_not_exist", "ci")


def test_an_internal_note_is_not_for_requesters(incident, anna, desk, as_user):
    path = f"/api/v1/incidents/{incident.number}/comment/"
    assert error(as_user(anna).post(path, {"text": "psst", "public": False}))[0] == 403
    assert as_user(desk).post(path, {"text": "psst", "public": False}).status_code == 200
    timeline = f"/api/v1/incidents/{incident.number}/timeline/"
    assert "psst" not in as_user(anna).get(timeline).content.decode()
    assert "psst" in as_user(desk).get(timeline).content.decode()


def test_bodies_have_a_limit_before_they_are_read(anna, as_user):
    answer = as_user(anna).post("/api/v1/incidents/", {"title": "It stopped", "description": "x" * 1_100_000})
    assert error(answer) == (413, "too_large", None)


def test_only_json_is_taken(incident, desk, as_user):
    answer = as_user(desk).post("/api/v1/incidents/", "<a/>", content_type="application/xml")
    assert error(answer)[0] == 415
    broken = as_user(desk).post("/api/v1/incidents/", "{", content_type="application/json")
    assert error(broken)[:2] == (400, "parse_error")


@pytest.mark.parametrize(
    "body",
    [
        r'{"title": "It\u0000stopped"}',
        r'{"title": "It \ud800 stopped"}',
        r'{"title": "It stopped", "ci": "\u0000"}',
        r'{"title": "It stopped", "requester": "\u0000"}',
        r'{"title": "It stopped", "policy": {"\u0000": 1}}',
        '{"title": ' + "[" * 100_000,
        '{"title": ' + "9" * 100_000 + "}",
        "[]",
        '"x"',
        "null",
    ],
    ids=lambda body: body[:40],
)
def test_nonsense_is_refused_and_breaks_nothing(as_user, body):
    boss = as_user(make_user("boss", is_superuser=True))
    for path in ("incidents", "releases", "products"):
        answer = boss.post(f"/api/v1/{path}/", body, content_type="application/json")
        assert answer.status_code == 400, answer.content


@pytest.mark.parametrize(
    "query",
    ["q=%00", "offset=99999999999999999999", "limit=-1", "limit=x", "ci=99999999999999999999", "ci=x", "team=%00",
     "priority=99", "ordering=password", "created_after=x", "change=CHG-1", "problem=prb1", "batch=1", "open=maybe",
     "runs=%00/1", "product=%00", "label=%00", "slug=%00", "q=%ED%A0%80",
     "created_after=0001-01-01T00:00:00%2B23:59", "created_before=9999-12-31T23:59:59-23:59",
     "planned_after=0001-01-01T00:00:00%2B23:59"],
)  # fmt: skip
def test_nonsense_in_a_query_breaks_nothing(as_user, query):
    boss = as_user(make_user("boss", is_superuser=True))
    for path in (
        "incidents", "problems", "changes", "releases", "rollouts", "deployments", "cis", "products", "versions",
        "environments", "notices",
    ):  # fmt: skip
        assert boss.get(f"/api/v1/{path}/?{query}").status_code in {200, 400}, path


@pytest.mark.parametrize("number", ["%00", "a%00b", "%ED%A0%80", "x" * 500, "'", "%F0%9F%92%A9"])
def test_nonsense_for_a_number_does_not_exist(as_user, number):
    boss = as_user(make_user("boss", is_superuser=True))
    for path in ("incidents", "products", "versions", "cis", "chain"):
        assert boss.get(f"/api/v1/{path}/{number}/").status_code == 404


def test_a_session_needs_its_csrf_token(incident, desk):
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(desk)
    answer = client.post(f"/api/v1/incidents/{incident.number}/start/")
    assert error(answer)[:2] == (403, "permission_denied")


def test_verbs_on_the_detail_are_what_the_person_may_do_now(incident, anna, desk, as_user):
    path = f"/api/v1/incidents/{incident.number}/"
    assert as_user(anna).get(path).json()["verbs"] == []
    names = [verb["name"] for verb in as_user(desk).get(path).json()["verbs"]]
    assert names == ["assign", "start", "cancel"]
    services.start_incident(incident, actor=desk, now=NOW)
    names = [verb["name"] for verb in as_user(desk).get(path).json()["verbs"]]
    assert names == ["hold", "resolve", "cancel"]


VIEWS = [
    IncidentViewSet, ProblemViewSet, ChangeViewSet, ReleaseViewSet, RolloutViewSet, EnvironmentViewSet, ImageViewSet,
]  # fmt: skip


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_every_transition_that_people_make_has_its_verb(view):
    wanted = {verb.name for verb in all_verbs(view.model) if not verb.is_system}
    assert wanted <= set(view.calls)
    assert not {verb.name for verb in all_verbs(view.model) if verb.is_system} & set(view.calls)


def test_lists_are_filtered_ordered_and_paged(anna, desk, as_user):
    for title in ("Printer", "Billing one", "Billing two"):
        create_ticket(Incident, actor=anna, now=NOW, title=title)
    client = as_user(desk)

    def titles(**query: Any) -> list[str]:
        return [row["title"] for row in client.get("/api/v1/incidents/", query).json()["results"]]

    assert titles(q="billing", ordering="title") == ["Billing one", "Billing two"]
    assert titles(state=["new", "closed"], limit=1, ordering="-title") == ["Printer"]
    assert titles(state="closed") == []
    assert titles(open="true", requester="anna", ordering="id") == ["Printer", "Billing one", "Billing two"]
    assert titles(mine="true") == []
    assert titles(created_after="2027-01-01T00:00:00Z") == []
    assert error(client.get("/api/v1/incidents/", {"state": "nonsense"})) == (400, "invalid_choice", "state")
    assert len(client.get("/api/v1/incidents/", {"limit": 100_000}).json()["results"]) == 3
