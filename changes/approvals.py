"""What an approval of an RFC is bound to, and who may give one."""

from typing import Any

from django.utils.translation import gettext as _

from changes.models import Change
from tickets.exceptions import SeparationOfDuties
from tickets.models import Decision
from tickets.services import content_hash

# An edit of these returns an assessed or approved RFC to its author; when it happens is not part of what is approved.
CONTENT_FIELDS = (
    "title",
    "description",
    "change_type",
    "activity",
    "impact",
    "urgency",
    "implementation_plan",
    "test_plan",
    "backout_plan",
)
CONTENT_LINKS = ("problems", "incidents", "products", "affected_cis")


def change_hash(change: Change) -> str:
    """SHA-256 (hex) over the content, the assessed risk, and how often it went back to its author.

    The last makes approvals void for good once the RFC was revised, even if its text becomes the same again.
    """
    content: dict[str, Any] = {name: getattr(change, name) for name in (*CONTENT_FIELDS, "risk", "risk_reason")}
    for name in CONTENT_LINKS:
        content[name] = sorted(getattr(change, name).values_list("pk", flat=True))
    content["revisions"] = change.entries.filter(to_state=Change.State.DRAFT).exclude(from_state="").count()
    return content_hash({"change": change.pk, **content})


def has_valid_approval(change: Change) -> bool:
    """Whether somebody who took no part in it approved exactly what the RFC says now."""
    taking_part = [pk for pk in (change.created_by_id, change.requester_id, change.last_editor_id) if pk]
    approvals = change.approvals.filter(decision=Decision.APPROVED).exclude(approver_id__in=taking_part)
    return bool(approvals.filter(content_hash=change_hash(change)).exists())


def check_may_decide(change: Change, actor: Any) -> None:
    """Refuses (`SeparationOfDuties`) service accounts, and everybody who took part in the RFC; superusers, too."""
    if actor is None or actor.is_service_account:
        raise SeparationOfDuties(_("Only a person approves. Ask a member of the approval board."))
    parts = {
        **({actor.pk: _("one of its editors")} if change.history.filter(last_editor=actor).exists() else {}),  # type: ignore[attr-defined]
        change.last_editor_id: _("its last editor"),
        change.requester_id: _("its requester"),
        change.created_by_id: _("its author"),
    }
    if actor.pk in parts:
        raise SeparationOfDuties(
            _("You cannot approve %(number)s: you are %(part)s. Ask somebody who took no part in it.")
            % {"number": change.number, "part": parts[actor.pk]}
        )
