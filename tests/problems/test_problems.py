"""Problems: linking, documenting, the workaround that everybody gets once, and the fix by a release."""

import pytest
from django.db import IntegrityError, transaction

from incidents.services import assign_incident, report_incident, resolve_incident
from notifications.models import Outbox
from problems.models import Problem
from problems.services import (
    close_problem,
    comment_problem,
    communicate_workaround,
    document_problem,
    fix_problem_by_release,
    link_incidents,
    note_on_problem,
    open_problem,
    resolve_problem,
    resolve_problem_by_fix,
    withdraw_fix_from_problem,
)
from tests.factories import NOW, make_user
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused, TransitionRefused

pytestmark = pytest.mark.django_db

EVENT = "rollout:17:completed"


@pytest.fixture
def manager():
    return make_user("manager", "problem manager")


@pytest.fixture
def desk():
    return make_user("desk", "service desk")


@pytest.fixture
def incidents():
    people = [make_user(name, "requester") for name in ("rita", "tom")]
    return [report_incident(actor=person, now=NOW, title="Invoices are wrong") for person in people]


@pytest.fixture
def problem(desk, incidents):
    return open_problem(actor=desk, now=NOW, title="Rounding", incidents=incidents)


def test_incidents_name_their_problem_once(problem, incidents, desk):
    assert link_incidents(problem, actor=desk, now=NOW, incidents=incidents) == 0
    for incident in incidents:
        assert [e.text for e in incident.entries.filter(kind="link")] == [f"Caused by {problem.number} Rounding."]


def test_requesters_neither_open_nor_link(problem, incidents):
    rita = incidents[0].requester
    with pytest.raises(PermissionRefused):
        open_problem(actor=rita, now=NOW, title="Mine")
    with pytest.raises(PermissionRefused):
        link_incidents(problem, actor=rita, now=NOW, incidents=[])


def test_the_workaround_reaches_every_open_incident_once_for_each_text(problem, incidents, manager, desk):
    with pytest.raises(ConditionRefused):
        communicate_workaround(problem, actor=manager, now=NOW)
    assign_incident(incidents[1], actor=desk, now=NOW, assignee=desk)
    resolve_incident(incidents[1], actor=desk, now=NOW, resolution="Corrected by hand")
    document_problem(problem, actor=manager, now=NOW, workaround="Round by hand")
    assert communicate_workaround(problem, actor=manager, now=NOW) == 1
    assert communicate_workaround(problem, actor=manager, now=NOW) == 0
    late = report_incident(actor=make_user("late", "requester"), now=NOW, title="Wrong, too")
    link_incidents(problem, actor=desk, now=NOW, incidents=[late])
    assert communicate_workaround(problem, actor=manager, now=NOW) == 1
    document_problem(problem, actor=manager, now=NOW, workaround="Use the abacus")
    assert communicate_workaround(problem, actor=manager, now=NOW) == 2
    rows = Outbox.objects.filter(event__startswith=f"problem:{problem.pk}:workaround:")
    assert sorted(rows.values_list("recipient__username", flat=True)) == ["late", "late", "rita", "rita"]
    assert set(rows.values_list("thread", flat=True)) == {incidents[0].number, late.number}


def test_only_problem_managers_communicate(problem, desk):
    with pytest.raises(PermissionRefused):
        communicate_workaround(problem, actor=desk, now=NOW)


def test_a_known_error_has_root_cause_and_workaround(problem, manager):
    with pytest.raises(ConditionRefused):
        document_problem(problem, actor=manager, now=NOW, root_cause="floats", is_known_error=True)
    assert problem.root_cause == "", "nothing of a refused edit stays"
    document_problem(problem, actor=manager, now=NOW, root_cause="floats", workaround="w", is_known_error=True)
    with pytest.raises(ConditionRefused):
        document_problem(problem, actor=manager, now=NOW, workaround="")
    with pytest.raises(IntegrityError, match="known_error_is_documented"), transaction.atomic():
        Problem.objects.update(workaround="")


def test_an_edit_of_an_old_version_is_refused(problem, manager):
    document_problem(problem, actor=manager, now=NOW, root_cause="floats", expected_version=1)
    with pytest.raises(TransitionRefused) as refusal:
        document_problem(problem, actor=manager, now=NOW, root_cause="ints", expected_version=1)
    assert refusal.value.code == "edit_conflict"
    problem.refresh_from_db()
    assert (problem.root_cause, problem.version) == ("floats", 2)


def test_a_closed_problem_has_a_code_and_is_left_alone(problem, manager, incidents):
    with pytest.raises(InvalidInput):
        close_problem(problem, actor=manager, now=NOW, close_code="bored")
    close_problem(problem, actor=manager, now=NOW, close_code="risk_accepted")
    for call in (
        lambda: document_problem(problem, actor=manager, now=NOW, root_cause="x"),
        lambda: link_incidents(problem, actor=manager, now=NOW, incidents=[]),
        lambda: communicate_workaround(problem, actor=manager, now=NOW),
    ):
        with pytest.raises(TransitionRefused):
            call()
    with pytest.raises(IntegrityError, match="problem_closed_with_code"), transaction.atomic():
        Problem.objects.update(close_code="")


def test_the_fix_of_a_release_goes_forth_and_back(problem):
    Problem.objects.update(state="assessed")
    assert fix_problem_by_release(problem, now=NOW, key="rollout:17:started", text="started")
    assert not fix_problem_by_release(problem, now=NOW, key="rollout:17:started", text="started")
    assert resolve_problem_by_fix(problem, now=NOW, event=EVENT, text="done")
    assert not resolve_problem_by_fix(problem, now=NOW, event=EVENT, text="done")
    assert (problem.state, problem.resolved_by_event) == ("resolved", EVENT)
    assert not withdraw_fix_from_problem(problem, now=NOW, event="rollout:16:completed", text="back")
    assert withdraw_fix_from_problem(problem, now=NOW, event=EVENT, text="back")
    assert not withdraw_fix_from_problem(problem, now=NOW, event=EVENT, text="back")
    assert (problem.state, problem.resolved_by_event) == ("fix_in_progress", "")
    assert problem.entries.exclude(key="").count() == 3


def test_what_a_person_resolved_is_not_withdrawn(problem, manager):
    Problem.objects.update(state="fix_in_progress")
    problem.refresh_from_db()
    resolve_problem(problem, actor=manager, now=NOW)
    assert not withdraw_fix_from_problem(problem, now=NOW, event=EVENT, text="back")
    assert not withdraw_fix_from_problem(problem, now=NOW, event="", text="back")
    assert note_on_problem(problem, now=NOW, key=EVENT, text="rolled back")
    assert not note_on_problem(problem, now=NOW, key=EVENT, text="rolled back")


def test_comments_reach_the_requester_and_outsiders_have_none(problem, manager, desk, incidents):
    comment_problem(problem, actor=manager, now=NOW, text="Found it")
    assert Outbox.objects.filter(recipient=desk, thread=problem.number).count() == 1
    with pytest.raises(PermissionRefused):
        comment_problem(problem, actor=make_user("audrey", "auditor"), now=NOW, text="Hm")
