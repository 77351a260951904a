"""Those who may decide on an RFC are told that it waits for them."""

from datetime import datetime

from changes.models import Change
from tickets.asking import ask_to_decide, decided, people_with

APPROVE = "changes.approve_change"
APPROVE_EMERGENCY = "changes.approve_emergency_change"


def renew_request(change: Change, *, now: datetime) -> None:
    """Tells those who may decide on it while it waits for that, and withdraws it from them as soon as it does not."""
    if change.state != Change.State.ASSESSED:
        decided(change, now=now)
        return
    is_emergency = change.change_type == Change.Type.EMERGENCY
    people = people_with(APPROVE, *([APPROVE_EMERGENCY] if is_emergency else []))
    part = {change.created_by_id, change.requester_id, change.last_editor_id}
    part |= set(change.history.values_list("last_editor", flat=True))  # type: ignore[attr-defined]
    deciders = [person for person in people if person.pk not in part]
    ask_to_decide(change, title=change.title, deciders=deciders, now=now, why=lambda: change.risk_reason)
