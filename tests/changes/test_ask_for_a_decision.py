"""Whoever may decide on an RFC is told that it waits for him: once, and only as long as it does."""

from datetime import timedelta

import pytest

from changes.models import Change
from changes.services import (
    approve_change,
    assess_change,
    cancel_change,
    draft_change,
    edit_change,
    reject_change,
    revise_change,
    submit_change,
)
from notifications.kinds import Kind
from notifications.models import NoticeHours, Outbox
from notifications.services import send_notifications
from tests.factories import NOW, make_user

pytestmark = pytest.mark.django_db

ANSWERS = {
    "approve": lambda change, board: approve_change(change, actor=board, now=NOW),
    "reject": lambda change, board: reject_change(change, actor=board, now=NOW, comment="No."),
    "revise": lambda change, _board: revise_change(change, actor=change.created_by, now=NOW),
    "cancel": lambda change, _board: cancel_change(change, actor=change.created_by, now=NOW, reason="Not needed."),
    "edit": lambda change, _board: edit_change(change, actor=change.created_by, now=NOW, title="Other"),
}


@pytest.fixture
def board():
    return make_user("board", "CAB member")


@pytest.fixture
def change(board) -> Change:
    author = make_user("author", "change requester", "CAB member")
    make_user("eva", "emergency approver")
    make_user("robot", "CAB member", is_service_account=True)
    make_user("gone", "CAB member", is_active=False)
    make_user("root", is_superuser=True)
    change = draft_change(actor=author, now=NOW, title="New fan", implementation_plan="Do.", backout_plan="Undo.")
    submit(change)
    return change


def submit(change: Change) -> None:
    submit_change(change, actor=change.created_by, now=NOW)
    manager = make_user(f"manager-{change.version}", "change manager")
    assess_change(change, actor=manager, now=NOW, risk="low", risk_reason="Small.")


def asked() -> list[str]:
    """Whose bell shows that a decision is waited for."""
    rows = Outbox.objects.filter(kind=Kind.ANSWER, read_at__isnull=True, subject__contains="Waits for your approval")
    return sorted(rows.values_list("recipient__username", flat=True))


def test_those_who_may_decide_are_asked_and_nobody_else(change: Change, mailoutbox) -> None:
    assert asked() == ["board"], "not the author, no program, nobody who has left, no emergency approver"
    send_notifications(now=NOW)
    (mail,) = [mail for mail in mailoutbox if mail.to == ["board@example.org"]]
    assert mail.subject == f"[{change.number}] Waits for your approval: New fan"
    assert "Small." in mail.body
    assert mail.body.count(f"/changes/{change.number}/") >= 1


def test_an_emergency_is_asked_of_emergency_approvers_too(change: Change) -> None:
    edit_change(change, actor=change.created_by, now=NOW, change_type="emergency")
    submit(change)
    assert asked() == ["board", "eva"]


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_is_decided_or_taken_back_leaves_the_bell_and_is_not_mailed(
    change, board, answer: str, mailoutbox
) -> None:
    ANSWERS[answer](change, board)
    assert asked() == []
    send_notifications(now=NOW)
    assert not [mail for mail in mailoutbox if "Waits for your approval" in mail.subject]
    assert Outbox.objects.get(recipient=board, kind=Kind.ANSWER).state == Outbox.State.WITHDRAWN


def test_what_comes_back_is_asked_for_anew_but_not_of_who_edited_it(change: Change, board) -> None:
    other = make_user("other", "CAB member", "change requester")
    edit_change(change, actor=other, now=NOW, title="Two fans")
    assert asked() == []
    submit(change)
    assert asked() == ["board"]
    assert Outbox.objects.filter(recipient=board, kind=Kind.ANSWER).count() == 2


def test_quiet_hours_hold_it(board, mailoutbox) -> None:
    quiet = {"quiet_from": (NOW - timedelta(hours=1)).time(), "quiet_until": (NOW + timedelta(hours=1)).time()}
    NoticeHours.objects.create(person=board, **quiet)
    author = make_user("author", "change requester")
    plans = {"implementation_plan": "Do.", "backout_plan": "Undo."}
    submit(draft_change(actor=author, now=NOW, title="New fan", **plans))
    assert asked() == ["board"]
    send_notifications(now=NOW)
    assert not [mail for mail in mailoutbox if mail.to == ["board@example.org"]]
