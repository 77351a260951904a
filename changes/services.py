"""What people and the portal do with RFCs: one function for each verb.

Each checks the right, moves the state, writes the timeline and the notices, in one transaction. Refusals are those of
`tickets.exceptions`; `SeparationOfDuties` where somebody would approve what he took part in.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from accounts import language
from changes.approvals import CONTENT_FIELDS, CONTENT_LINKS, change_hash, check_may_decide, has_valid_approval
from changes.conflicts import conflicts_digest, conflicts_text
from changes.models import Change, ChangeApproval
from changes.models.change import OVER
from changes.planned_time import check_dates
from changes.requests import renew_request
from notifications.kinds import Kind
from tickets.activities import Process, check_activity
from tickets.comments import comment_ticket
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused, TransitionRefused
from tickets.history import check_version
from tickets.lifecycle import check_permission
from tickets.models import Attachment, Decision, EntryKind, Level, TimelineEntry
from tickets.notices import concerned, tell
from tickets.services import (
    create_ticket,
    edit_fields,
    hand_over,
    locked,
    move_once,
    move_ticket,
    priority_for,
    record,
    required,
)

REQUEST = "changes.request_change"
MANAGE = "changes.manage_change"
DATES = ("planned_start", "planned_end")
# States that the author still edits in place, and those from which an edit of the content leads back to draft.
IN_PLACE = (Change.State.DRAFT, Change.State.SUBMITTED)
BACK_TO_DRAFT = (Change.State.REJECTED, Change.State.ASSESSED, Change.State.AUTHORISED, Change.State.SCHEDULED)
# In these only a change manager moves the planned time: rollouts begin and stop by it.
MOVED_BY_MANAGERS = (Change.State.AUTHORISED, Change.State.SCHEDULED, Change.State.IMPLEMENTING)


def draft_change(
    *,
    actor: Any,
    now: datetime,
    title: str,
    description: str = "",
    change_type: str = Change.Type.NORMAL,
    activity: str = "repair",
    impact: str = Level.MEDIUM,
    urgency: str = Level.MEDIUM,
    problems: Iterable[Any] = (),
    incidents: Iterable[Any] = (),
    products: Iterable[Any] = (),
    affected_cis: Iterable[Any] = (),
    implementation_plan: str = "",
    test_plan: str = "",
    backout_plan: str = "",
    planned_start: datetime | None = None,
    planned_end: datetime | None = None,
    requester: Any = None,
) -> Change:
    """Writes a new RFC with its links; the problems and incidents behind it get an entry that names it."""
    check_permission(actor, REQUEST, _("write RFCs"))
    check_activity(Process.CHANGE, activity)
    check_dates(planned_start, planned_end)
    links = {"problems": problems, "incidents": incidents, "products": products, "affected_cis": affected_cis}
    values = {
        "title": title, "description": description, "change_type": change_type, "activity": activity,
        "impact": impact, "urgency": urgency, "implementation_plan": implementation_plan, "test_plan": test_plan,
        "backout_plan": backout_plan, "planned_start": planned_start, "planned_end": planned_end,
    }  # fmt: skip
    with transaction.atomic():
        change = create_ticket(Change, actor=actor, now=now, requester=requester or actor, **values)
        for name, objects in links.items():
            _set_links(change, name, objects, actor, now)
    return change


def edit_change(
    change: Change, *, actor: Any, now: datetime, expected_version: int | None = None, **fields: Any
) -> None:
    """Edits an RFC: its content, its links, or its planned start and end.

    An edit of the content of a rejected, assessed, authorised or scheduled RFC takes it back to draft; approvals are
    void. The editor can no longer approve it. Refuses an RFC that is implemented already, fields that are not edited
    here (`InvalidInput`), and with `TransitionRefused` (code `edit_conflict`) one changed since `expected_version`.
    While it is being implemented a change manager still moves its planned time.
    """
    unknown = set(fields) - {*CONTENT_FIELDS, *CONTENT_LINKS, *DATES}
    if unknown:
        raise InvalidInput(_("This cannot be edited: %(names)s.") % {"names": ", ".join(sorted(unknown))})
    if not actor.has_perm(MANAGE):
        check_permission(actor, REQUEST, _("edit RFCs"))
    if "activity" in fields:
        check_activity(Process.CHANGE, fields["activity"])
    links = {name: list(fields.pop(name)) for name in CONTENT_LINKS if name in fields}
    with locked(change):
        check_version(change, expected_version, reader=actor)
        links = {name: objects for name, objects in links.items() if _linked(change, name) != {o.pk for o in objects}}
        values = {name: value for name, value in fields.items() if getattr(change, name) != value}
        if not values and not links:
            return
        is_content = bool(links or set(values) - set(DATES))
        if is_content:
            _check_may_void(change, actor)
        if change.state not in (*IN_PLACE, *BACK_TO_DRAFT, *(() if is_content else MOVED_BY_MANAGERS)):
            raise TransitionRefused(
                _("%(number)s is “%(state)s” and cannot be edited any more. Write a new RFC.")
                % {"number": change.number, "state": change.get_state_display()}
            )
        if not is_content and change.state in MOVED_BY_MANAGERS:
            check_permission(actor, MANAGE, _("move the planned time of an authorised RFC"))
        check_dates(values.get("planned_start", change.planned_start), values.get("planned_end", change.planned_end))
        if is_content:
            values["last_editor"] = actor
        if "impact" in values or "urgency" in values:
            values["priority"] = priority_for(
                values.get("impact", change.impact), values.get("urgency", change.urgency)
            )
        if is_content and change.state in BACK_TO_DRAFT:
            text = language.gettext("Edited: back to the author, approvals are void.")
            move_ticket(change, "revise", actor=None, author=actor, now=now, text=text)
            renew_request(change, now=now)
        edit_fields(change, now=now, expected_version=None, **values)
        for name, objects in links.items():
            _set_links(change, name, objects, actor, now)
        changed = [*fields.keys() & values.keys(), *links]
        with language.portal_language():
            names = ", ".join(sorted(str(Change._meta.get_field(name).verbose_name) for name in changed))  # type: ignore[union-attr]
            text = _("Edited: %(fields)s.") % {"fields": names}
        record(change, kind=EntryKind.SYSTEM, actor=actor, now=now, text=text)


def may_assign(change: Change, user: Any) -> bool:
    """Its author and its requester, and every change manager."""
    return bool(user.has_perm(MANAGE) or user.pk in (change.created_by_id, change.requester_id))


def assign_change(change: Change, *, actor: Any, now: datetime, assignee: Any = None, team: Any = None) -> None:
    """Gives it to a person, a team or both: by a change manager, its author or requester. The assignee is told."""
    if not may_assign(change, actor):
        raise PermissionRefused(_("Only its author, its requester and change managers assign it."))
    with locked(change):
        if change.state in OVER:
            raise TransitionRefused(_("%(number)s is over. Write a new RFC.") % {"number": change.number})
        step = hand_over(change, actor=actor, now=now, assignee=assignee, team=team, workers=Change.WORKERS)
        _tell(change, step, [assignee], actor, now, lambda: _("assigned to you"), change.description, Kind.ASSIGNED)


def submit_change(change: Change, *, actor: Any, now: datetime) -> None:
    """Hands it over; implementation plan and backout plan must be written (`ConditionRefused`)."""
    with locked(change):
        move_ticket(change, "submit", actor=actor, now=now)


def assess_change(change: Change, *, actor: Any, now: datetime, risk: str, risk_reason: str) -> None:
    """Says how risky it is and why; standard changes are not assessed (`ConditionRefused`)."""
    if risk not in Level.values:
        raise InvalidInput(_("The risk is high, medium or low."), field="risk")
    reason = required(risk_reason, "risk_reason", _("Say why the risk is what it is."))
    with language.portal_language():
        text = _("Risk %(risk)s: %(reason)s") % {"risk": Level(risk).label, "reason": reason}
    with locked(change):
        update = {"risk": risk, "risk_reason": reason}
        move_ticket(change, "assess", actor=actor, now=now, update=update, text=text)
        renew_request(change, now=now)


def approve_change(change: Change, *, actor: Any, now: datetime, comment: str = "", seen_hash: str = "") -> None:
    """Approves exactly what the RFC says now, bound to its hash; the requester is told.

    For an emergency RFC one emergency approver is enough. `seen_hash` is the content that the approver had before
    him: if it is another one now, nothing is approved (`TransitionRefused`, code `edit_conflict`).
    """
    with locked(change):
        content = change_hash(change)
        if seen_hash and seen_hash != content:
            raise TransitionRefused(
                _("%(number)s was edited meanwhile. Read the new version first.") % {"number": change.number},
                code="edit_conflict",
            )
        step = move_ticket(change, "approve", actor=actor, now=now, text=comment.strip())
        check_may_decide(change, actor)
        _decide(change, Decision.APPROVED, actor, now, comment, content)
        _tell(change, step, concerned(change), actor, now, lambda: _("approved"), comment)


def reject_change(change: Change, *, actor: Any, now: datetime, comment: str) -> None:
    """Refuses it with a reason; the requester is told and may revise it. Service accounts decide nothing."""
    comment = required(comment, "comment", _("Say why it is rejected."))
    with locked(change):
        content = change_hash(change)
        if actor is None or actor.is_service_account:
            raise PermissionRefused(_("Only a person rejects an RFC."))
        step = move_ticket(change, "reject", actor=actor, now=now, text=comment)
        _decide(change, Decision.REJECTED, actor, now, comment, content)
        _tell(change, step, concerned(change), actor, now, lambda: _("rejected"), comment)


def accept_standard_change(change: Change, *, actor: Any, now: datetime) -> None:
    """Accepts a standard change without assessment; counts as the approval, so its author cannot do it himself."""
    with locked(change):
        step = move_ticket(change, "accept_standard", actor=actor, now=now)
        check_may_decide(change, actor)
        _decide(change, Decision.APPROVED, actor, now, language.gettext("Standard change."), change_hash(change))
        _tell(change, step, concerned(change), actor, now, lambda: _("approved"))


def schedule_change(
    change: Change, *, actor: Any, now: datetime, planned_start: datetime, planned_end: datetime
) -> None:
    """Agrees start and end of an authorised RFC whose approval still fits its content; the requester is told."""
    if planned_start is None or planned_end is None:
        raise InvalidInput(_("Name start and end."), field="planned_start")
    check_dates(planned_start, planned_end)
    update = {"planned_start": planned_start, "planned_end": planned_end}
    with locked(change):
        step = move_ticket(change, "schedule", actor=actor, now=now, update=update)
        if not has_valid_approval(change):
            raise ConditionRefused(
                _("The content of %(number)s is not the approved one. Revise it and have it approved again.")
                % {"number": change.number}
            )
        _tell(change, step, concerned(change), actor, now, lambda: _("scheduled"))


def reschedule_change(
    change: Change,
    *,
    actor: Any,
    now: datetime,
    planned_start: datetime,
    planned_end: datetime,
    expected_version: int | None = None,
    seen_conflicts: str | None = None,
) -> None:
    """Moves the planned time, by the rules of `edit_change`; rollouts go by it at once. The approval stays.

    `seen_conflicts` is the digest of what the actor has seen against the new time (`changes.conflicts`; empty:
    nothing). Anything else that stands against it refuses with `ConditionRefused`, code `schedule_conflicts`; what was
    accepted is written into the timeline. None: nobody asks.
    """
    if planned_start is None or planned_end is None:
        raise InvalidInput(_("Name start and end."), field="planned_start")
    moment = {"planned_start": planned_start, "planned_end": planned_end}
    with locked(change):
        edit_change(change, actor=actor, now=now, expected_version=expected_version, **moment)
        found = conflicts_digest(change, planned_start, planned_end) if seen_conflicts is not None else ""
        if not found:
            return
        names = conflicts_text(change, planned_start, planned_end)
        if found != seen_conflicts:
            raise ConditionRefused(
                _("At this time there is: %(names)s. Look at it, and confirm or choose another time.")
                % {"names": names},
                code="schedule_conflicts",
            )
        text = language.gettext("Planned in spite of %(names)s.") % {"names": names}
        # Not public: among them may be changes that the requester may not see.
        record(change, kind=EntryKind.SYSTEM, actor=actor, now=now, text=text, public=False)


def may_reschedule(change: Change, user: Any) -> bool:
    """Whether this person may move its planned time now, as `edit_change` decides it."""
    if change.state in MOVED_BY_MANAGERS:
        return bool(user.has_perm(MANAGE))
    return change.state in (*IN_PLACE, *BACK_TO_DRAFT) and bool(user.has_perm(MANAGE) or user.has_perm(REQUEST))


def revise_change(change: Change, *, actor: Any, now: datetime, reason: str = "") -> None:
    """Takes it back to its author; approvals are void for good."""
    with locked(change):
        move_ticket(change, "revise", actor=actor, now=now, text=reason.strip())
        renew_request(change, now=now)


def review_change(change: Change, *, actor: Any, now: datetime, text: str) -> None:
    """Writes the post-implementation review."""
    text = required(text, "text", _("Write the review."))
    with locked(change):
        move_ticket(change, "review", actor=actor, now=now, text=text)


def close_change(change: Change, *, actor: Any, now: datetime, close_code: str) -> None:
    """Closes a reviewed RFC with a code that says how it went; the requester is told."""
    if close_code not in Change.CloseCode.values:
        codes = ", ".join(Change.CloseCode.values)
        raise InvalidInput(_("Choose a close code: %(codes)s.") % {"codes": codes}, field="close_code")
    with language.portal_language():
        text = capfirst(str(Change.CloseCode(close_code).label))
    with locked(change):
        step = move_ticket(change, "close", actor=actor, now=now, update={"close_code": close_code}, text=text)
        _tell(change, step, concerned(change), actor, now, lambda: _("closed"), text)


def cancel_change(change: Change, *, actor: Any, now: datetime, reason: str) -> None:
    """It is no longer wanted; its author or a change manager says why."""
    reason = required(reason, "reason", _("Say why it is cancelled."))
    with locked(change):
        step = move_ticket(change, "cancel", actor=actor, now=now, text=reason)
        renew_request(change, now=now)
        _tell(change, step, concerned(change, assignee=True), actor, now, lambda: _("cancelled"), reason)


def comment_change(
    change: Change, *, actor: Any, now: datetime, text: str, public: bool = True, files: Sequence[Attachment] = ()
) -> TimelineEntry:
    """Writes a comment, or with `public=False` an internal note. Those concerned are told of a comment."""
    return comment_ticket(change, actor=actor, now=now, text=text, public=public, files=files)


def note_on_change(change: Change, *, now: datetime, key: str, text: str, public: bool = True) -> bool:
    """Writes an entry of the portal, once for each key; True if it is new."""
    return record(change, kind=EntryKind.SYSTEM, actor=None, now=now, text=text, public=public, key=key)


def implement_change(change: Change, *, now: datetime, key: str, text: str) -> bool:
    """A rollout that contains it has started; True if that moved it. Once for each key."""
    return move_once(change, "implement", now=now, key=key, text=text)


def finish_change(change: Change, *, now: datetime, event: str, text: str) -> bool:
    """The rollout with it has completed; True if that moved it, once for each event. The caller tells people."""
    update = {"implemented_by_event": event}
    return move_once(change, "finish", now=now, key=f"finish:{event}", text=text, update=update)


def return_change_to_schedule(change: Change, *, now: datetime, key: str, text: str) -> bool:
    """The rollout was aborted before anything was installed; True if that moved it. Once for each key."""
    return move_once(change, "return_to_schedule", now=now, key=key, text=text)


def back_out_change(change: Change, *, now: datetime, event: str, text: str) -> bool:
    """Its rollout was rolled back: it is authorised again, by the same approval; True if that moved it.

    Once for each event. A closed RFC is never moved: write a note on it. The caller tells people.
    """
    update = {"implemented_by_event": ""}
    return move_once(change, "back_out", now=now, key=f"withdrawn:{event}", text=text, update=update)


def _check_may_void(change: Change, actor: Any) -> None:
    """Taking approvals away is for the author, the requester and the assignee, else for a change manager."""
    is_approved = change.state in (Change.State.AUTHORISED, Change.State.SCHEDULED)
    his = (change.created_by_id, change.requester_id, change.assignee_id)
    if is_approved and actor.pk not in his and not actor.has_perm(MANAGE):
        raise PermissionRefused(
            _("%(number)s is approved. Ask its author or a change manager to take it back to draft.")
            % {"number": change.number}
        )


def _decide(change: Change, decision: str, actor: Any, now: datetime, comment: str, content: str) -> None:
    values = {"decision": decision, "content_hash": content, "comment": comment.strip(), "created_at": now}
    ChangeApproval.objects.create(change=change, approver=actor, **values)
    renew_request(change, now=now)


def _linked(change: Change, name: str) -> set[int]:
    return set(getattr(change, name).values_list("pk", flat=True))


def _set_links(change: Change, name: str, objects: Iterable[Any], actor: Any, now: datetime) -> None:
    """Replaces the links of one kind; newly named tickets get an entry."""
    wanted = {one.pk: one for one in objects}
    before = _linked(change, name)
    if before == wanted.keys():
        return
    getattr(change, name).set(wanted.values())
    if name not in ("problems", "incidents"):
        return
    for pk in wanted.keys() - before:
        text = language.gettext("To be fixed by %(change)s.") % {"change": change}
        record(wanted[pk], kind=EntryKind.LINK, actor=actor, now=now, text=text, key=f"change:{change.pk}")


def _tell(
    change: Change, step: str, people: Any, actor: Any, now: datetime, headline: Callable[[], str], text: str = "",
    kind: Kind = Kind.PROGRESS,
) -> None:  # fmt: skip
    event = f"change:{change.pk}:{step}"
    tell(change, event=event, recipients=people, actor=actor, now=now, headline=headline, text=text, kind=kind)
