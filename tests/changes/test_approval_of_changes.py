"""RFCs: separation of duties, approvals bound to the content, edits, the emergency path, the rollout's moves."""

from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from changes.models import Change
from changes.services import (
    accept_standard_change,
    approve_change,
    assess_change,
    back_out_change,
    cancel_change,
    change_hash,
    comment_change,
    draft_change,
    edit_change,
    finish_change,
    has_valid_approval,
    implement_change,
    note_on_change,
    reject_change,
    return_change_to_schedule,
    review_change,
    revise_change,
    schedule_change,
    submit_change,
)
from notifications.models import Outbox
from problems.services import open_problem
from tests.factories import NOW, make_ci, make_product, make_user
from tickets.exceptions import (
    ConditionRefused,
    InvalidInput,
    PermissionRefused,
    SeparationOfDuties,
    TransitionRefused,
)

pytestmark = pytest.mark.django_db

PLANS = {"implementation_plan": "do", "backout_plan": "undo"}
HOUR = timedelta(hours=1)
EVENT = "rollout:17:completed"


@pytest.fixture
def author():
    return make_user("author", "change requester")


@pytest.fixture
def manager():
    return make_user("manager", "change manager")


@pytest.fixture
def board():
    return make_user("board", "CAB member")


def assessed(author, manager, **values) -> Change:
    change = draft_change(actor=author, now=NOW, title="Round properly", **{**PLANS, **values})
    submit_change(change, actor=author, now=NOW)
    if change.change_type != Change.Type.STANDARD:
        assess_change(change, actor=manager, now=NOW, risk="low", risk_reason="small")
    return change


@pytest.fixture
def change(author, manager):
    return assessed(author, manager)


@pytest.fixture
def approved(change, board):
    approve_change(change, actor=board, now=NOW, comment="fine")
    return change


def heard(user):
    return [row.subject.split("] ")[1].split(":")[0] for row in Outbox.objects.filter(recipient=user).order_by("pk")]


# --- separation of duties ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["created_by", "requester", "last_editor"])
@pytest.mark.parametrize("is_superuser", [False, True])
def test_who_took_part_never_approves_not_even_a_superuser(change, part, is_superuser):
    person = make_user("person", "CAB member", is_superuser=is_superuser)
    Change.objects.filter(pk=change.pk).update(**{part: person})
    with pytest.raises(SeparationOfDuties):
        approve_change(change, actor=person, now=NOW)
    assert change.state == Change.objects.get().state == "assessed"
    assert not change.approvals.exists()


def test_service_accounts_decide_nothing(change):
    robot = make_user("robot", "CAB member", is_service_account=True)
    with pytest.raises(SeparationOfDuties):
        approve_change(change, actor=robot, now=NOW)
    with pytest.raises(PermissionRefused):
        reject_change(change, actor=robot, now=NOW, comment="no")
    assert Change.objects.get().state == "assessed"


def test_accepting_as_standard_is_an_approval_too(author, manager):
    both = make_user("both", "change requester", "change manager")
    change = assessed(both, manager, change_type="standard")
    with pytest.raises(SeparationOfDuties):
        accept_standard_change(change, actor=both, now=NOW)
    assert change.state == "submitted"
    accept_standard_change(change, actor=manager, now=NOW)
    assert has_valid_approval(change)


def test_a_normal_change_cannot_be_accepted_as_standard_nor_a_standard_one_assessed(author, manager):
    normal = draft_change(actor=author, now=NOW, title="normal", **PLANS)
    submit_change(normal, actor=author, now=NOW)
    standard = assessed(author, manager, change_type="standard")
    with pytest.raises(ConditionRefused):
        accept_standard_change(normal, actor=manager, now=NOW)
    with pytest.raises(ConditionRefused):
        assess_change(standard, actor=manager, now=NOW, risk="low", risk_reason="x")


def test_an_emergency_needs_one_emergency_approver_who_cannot_approve_others(change, author, manager):
    night = make_user("night", "emergency approver")
    with pytest.raises(PermissionRefused):
        approve_change(change, actor=night, now=NOW)
    emergency = assessed(author, manager, change_type="emergency")
    approve_change(emergency, actor=night, now=NOW)
    assert has_valid_approval(emergency)
    assert implement_change(emergency, now=NOW, key="rollout:17:started", text="started"), "without a schedule"


# --- an approval is bound to the content ---------------------------------------------------------------------------


def test_an_approval_stands_for_what_was_approved(approved, author, board):
    approval = approved.approvals.get()
    assert (approval.approver, approval.content_hash) == (board, change_hash(approved))
    assert has_valid_approval(approved)
    assert heard(author) == ["approved"]


@pytest.mark.parametrize("field", ["title", "description", "backout_plan", "test_plan", "implementation_plan"])
@pytest.mark.parametrize("state", ["authorised", "scheduled"])
def test_an_edit_voids_the_approval_and_goes_back_to_draft(approved, author, manager, field, state):
    if state == "scheduled":
        schedule_change(approved, actor=manager, now=NOW, planned_start=NOW, planned_end=NOW + HOUR)
    edit_change(approved, actor=author, now=NOW, **{field: "something else"})
    approved.refresh_from_db()
    assert (approved.state, approved.last_editor) == ("draft", author)
    assert not has_valid_approval(approved)


def test_every_link_is_content(approved, author, board, manager):
    problem = open_problem(actor=make_user("pm", "problem manager"), now=NOW, title="Rounding")
    for links in ({"problems": [problem]}, {"products": [make_product()]}, {"affected_cis": [make_ci()]}):
        before = change_hash(approved)
        edit_change(approved, actor=author, now=NOW, **links)
        assert approved.state == "draft"
        assert change_hash(approved) != before
        submit_change(approved, actor=author, now=NOW)
        assess_change(approved, actor=manager, now=NOW, risk="low", risk_reason="small")
        approve_change(approved, actor=board, now=NOW)
    assert problem.entries.filter(kind="link").count() == 1


def test_editing_back_to_the_same_text_does_not_revive_the_approval(approved, author):
    edit_change(approved, actor=author, now=NOW, description="other")
    edit_change(approved, actor=author, now=NOW, description="")
    assert not has_valid_approval(approved)


def test_revising_voids_the_approval_for_good(approved, author, manager):
    revise_change(approved, actor=author, now=NOW)
    submit_change(approved, actor=author, now=NOW)
    assess_change(approved, actor=manager, now=NOW, risk="low", risk_reason="small")
    assert not has_valid_approval(approved)


def test_an_edit_that_changes_nothing_leaves_the_approval(approved, author):
    edit_change(approved, actor=author, now=NOW, title=approved.title, problems=[])
    assert approved.state == "authorised"
    assert has_valid_approval(approved)


def test_the_planned_time_is_no_content_but_a_manager_moves_it(approved, author, manager):
    with pytest.raises(PermissionRefused):
        edit_change(approved, actor=author, now=NOW, planned_start=NOW, planned_end=NOW + HOUR)
    schedule_change(approved, actor=manager, now=NOW, planned_start=NOW, planned_end=NOW + HOUR)
    edit_change(approved, actor=manager, now=NOW, planned_end=NOW + 2 * HOUR)
    assert (approved.state, approved.last_editor) == ("scheduled", None)
    assert has_valid_approval(approved)


def test_an_approver_gets_told_that_the_text_is_another_one_now(change, author, manager, board):
    stale, seen = Change.objects.get(), change_hash(change)
    edit_change(change, actor=author, now=NOW, title="Format all disks")
    submit_change(change, actor=author, now=NOW)
    assess_change(change, actor=manager, now=NOW, risk="high", risk_reason="disks")
    with pytest.raises(TransitionRefused) as refusal:
        approve_change(stale, actor=board, now=NOW, seen_hash=seen)
    assert refusal.value.code == "edit_conflict"
    assert Change.objects.get().state == "assessed"


def test_content_changed_behind_the_services_is_not_scheduled(approved, manager):
    Change.objects.update(backout_plan="none")
    assert not has_valid_approval(Change.objects.get())
    with pytest.raises(ConditionRefused):
        schedule_change(approved, actor=manager, now=NOW, planned_start=NOW, planned_end=NOW + HOUR)
    assert approved.state == Change.objects.get().state == "authorised"


def test_who_edited_cannot_approve_afterwards(change, author, manager):
    both = make_user("both", "change requester", "CAB member")
    edit_change(change, actor=both, now=NOW, title="Round up")
    submit_change(change, actor=author, now=NOW)
    assess_change(change, actor=manager, now=NOW, risk="low", risk_reason="x")
    with pytest.raises(SeparationOfDuties, match="last editor"):
        approve_change(change, actor=both, now=NOW)


# --- edits and inputs ----------------------------------------------------------------------------------------------


def test_two_editors_do_not_overwrite_each_other(author):
    change = draft_change(actor=author, now=NOW, title="Round properly")
    edit_change(change, actor=author, now=NOW, expected_version=1, title="First")
    with pytest.raises(TransitionRefused) as refusal:
        edit_change(change, actor=author, now=NOW, expected_version=1, title="Second")
    assert refusal.value.code == "edit_conflict"
    assert Change.objects.get().title == change.title == "First"


@pytest.mark.parametrize(
    "values",
    [{"state": "closed"}, {"risk": "low"}, {"title": ""}, {"impact": "huge"}, {"activity": "juggling"},
     {"planned_end": NOW}, {"planned_start": NOW, "planned_end": NOW}, {"planned_start": NOW.replace(tzinfo=None)}],
)  # fmt: skip
def test_what_an_edit_refuses(author, values):
    change = draft_change(actor=author, now=NOW, title="Round properly")
    with pytest.raises(InvalidInput):
        edit_change(change, actor=author, now=NOW, **values)
    assert Change.objects.get().version == change.version == 1


def test_an_edit_of_the_impact_moves_the_priority(author):
    change = draft_change(actor=author, now=NOW, title="Round properly")
    edit_change(change, actor=author, now=NOW, impact="high", urgency="high")
    assert Change.objects.get().priority == 1


def test_a_change_without_a_way_back_is_not_submitted(author):
    change = draft_change(actor=author, now=NOW, title="Round properly", implementation_plan="do")
    with pytest.raises(ConditionRefused):
        submit_change(change, actor=author, now=NOW)


def test_rejected_with_a_reason_and_revised_by_an_edit(change, author, board):
    with pytest.raises(InvalidInput):
        reject_change(change, actor=board, now=NOW, comment=" ")
    reject_change(change, actor=board, now=NOW, comment="Too vague")
    assert heard(author) == ["rejected"]
    edit_change(change, actor=author, now=NOW, description="Precisely")
    assert change.state == "draft"


def test_the_author_cancels_his_own_and_nobody_elses(author, change):
    other = make_user("other", "change requester")
    with pytest.raises(PermissionRefused):
        cancel_change(change, actor=other, now=NOW, reason="no")
    cancel_change(change, actor=author, now=NOW, reason="no")


def test_comments(change, author, board):
    comment_change(change, actor=board, now=NOW, text="Why now?")
    comment_change(change, actor=board, now=NOW, text="Hm", public=False)
    assert heard(author) == ["comment"]
    with pytest.raises(PermissionRefused):
        comment_change(change, actor=make_user("audrey", "auditor"), now=NOW, text="Hm")


def test_the_end_is_after_the_start_in_the_database(change):
    with pytest.raises(IntegrityError, match="change_ends_after_start"), transaction.atomic():
        Change.objects.update(planned_start=NOW, planned_end=NOW)


# --- the rollout's moves -------------------------------------------------------------------------------------------


def test_a_rollout_implements_and_its_rollback_authorises_again_by_the_same_approval(approved, author, manager):
    assert implement_change(approved, now=NOW, key="rollout:17:started", text="started")
    assert not implement_change(approved, now=NOW, key="rollout:17:started", text="started")
    with pytest.raises(TransitionRefused):
        edit_change(approved, actor=author, now=NOW, title="Too late")
    assert finish_change(approved, now=NOW, event=EVENT, text="done")
    assert not finish_change(approved, now=NOW, event=EVENT, text="done")
    review_change(approved, actor=manager, now=NOW, text="went well")
    assert back_out_change(approved, now=NOW, event=EVENT, text="rolled back")
    assert not back_out_change(approved, now=NOW, event=EVENT, text="rolled back")
    assert (approved.state, approved.implemented_by_event) == ("authorised", "")
    assert has_valid_approval(approved)
    assert heard(author) == ["approved"], "the rollout tells people"
    assert implement_change(approved, now=NOW, key="rollout:18:started", text="started"), "the next release"


def test_an_aborted_rollout_returns_it_to_the_schedule(approved):
    implement_change(approved, now=NOW, key="rollout:17:started", text="started")
    assert return_change_to_schedule(approved, now=NOW, key="rollout:17:aborted", text="aborted")
    assert not return_change_to_schedule(approved, now=NOW, key="rollout:17:aborted", text="aborted")
    assert approved.state == "scheduled"


def test_a_closed_change_is_never_moved_and_gets_its_note_once(approved):
    Change.objects.update(state="closed", close_code="successful")
    assert not back_out_change(approved, now=NOW, event=EVENT, text="rolled back")
    assert note_on_change(approved, now=NOW, key=EVENT, text="Review it: it was rolled back")
    assert not note_on_change(approved, now=NOW, key=EVENT, text="Review it: it was rolled back")


def test_a_colleague_does_not_void_an_approval_by_an_edit(now: datetime) -> None:
    author, colleague = make_user("its-author", "change requester"), make_user("colleague", "change requester")
    change = draft_change(
        actor=author, now=now, title="Replace the driver", implementation_plan="Do it.", backout_plan="Undo it."
    )
    manager, board = make_user("a-manager", "change manager"), make_user("a-board", "CAB member")
    submit_change(change, actor=author, now=now)
    assess_change(change, actor=manager, now=now, risk="low", risk_reason="Small.")
    approve_change(change, actor=board, now=now)
    with pytest.raises(PermissionRefused):
        edit_change(change, actor=colleague, now=now, title="Something else")
    assert has_valid_approval(change)
    edit_change(change, actor=author, now=now, title="Something else")
    assert change.state == "draft"
