"""What people and the portal do with incidents: one function for each verb.

Each checks the right, moves the state, writes the timeline and the notices, in one transaction. Refusals are those of
`tickets.exceptions`: `PermissionRefused`, `TransitionRefused` (wrong state, or somebody else was first),
`InvalidInput`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from accounts import language
from accounts.language import portal_language
from incidents.models import Incident
from notifications.kinds import Kind
from tickets.activities import Process, check_activity
from tickets.attachments import attach
from tickets.comments import tell_comment, write_comment
from tickets.exceptions import ConditionRefused, InvalidInput, TransitionRefused
from tickets.lifecycle import check_permission
from tickets.models import Attachment, EntryKind, Level, TimelineEntry
from tickets.notices import concerned, tell
from tickets.services import (
    assigned_text,
    assignment,
    create_ticket,
    edit_ticket,
    hand_over,
    locked,
    move_once,
    move_ticket,
    record,
    required,
)

WORK = "incidents.work_incident"
# States in which somebody can still be given the incident.
ASSIGNABLE = (
    Incident.State.NEW,
    Incident.State.ASSIGNED,
    Incident.State.IN_PROGRESS,
    Incident.State.ON_HOLD,
)
# Resolved incidents close after so many days; until then the requester may reopen them.
CLOSES_AFTER_DAYS = 10
NO_FIX: dict[str, str] = {"resolved_by_event": "", "hold_reason_before": ""}


def report_incident(
    *,
    actor: Any,
    now: datetime,
    title: str,
    description: str = "",
    ci: Any = None,
    impact: str = Level.MEDIUM,
    urgency: str = Level.MEDIUM,
    requester: Any = None,
    activity: str = "repair",
    files: Sequence[Attachment] = (),
) -> Incident:
    """Reports an incident, for oneself or (with the right to work on incidents) for somebody else, who is told."""
    check_permission(actor, "incidents.report_incident", _("report incidents"))
    if requester is not None and requester != actor:
        check_permission(actor, WORK, _("report incidents for other people"))
    check_activity(Process.INCIDENT, activity)
    values = {"title": title, "description": description, "ci": ci, "impact": impact, "urgency": urgency}
    with transaction.atomic():
        incident = create_ticket(
            Incident, actor=actor, now=now, requester=requester or actor, activity=activity, **values
        )
        attach(incident.entries.get(), files, actor=actor, now=now)
        _tell_reported(incident, actor, now)
    return incident


def open_incident_for_portal(
    *, now: datetime, title: str, description: str, ci: Any, impact: str, urgency: str, requester: Any, team: Any = None
) -> Incident:
    """Opens an incident that the portal itself noticed; `requester` is who shall hear of it, and is told."""
    values = {"title": title, "description": description, "ci": ci, "impact": impact, "urgency": urgency}
    values["team"] = team
    with transaction.atomic():
        incident = create_ticket(Incident, actor=None, now=now, requester=requester, **values)
        _tell_reported(incident, None, now)
    return incident


def assign_incident(incident: Incident, *, actor: Any, now: datetime, assignee: Any = None, team: Any = None) -> None:
    """Gives the incident to a person, a team or both; later it is handed over without a change of state.

    A team alone takes it from the person who had it. The new assignee is told.
    """
    with locked(incident):
        if incident.state == Incident.State.NEW:
            update = assignment(incident, assignee=assignee, team=team, workers=(WORK,))
            text = assigned_text(assignee, team)
            step = move_ticket(incident, "assign", actor=actor, now=now, update=update, text=text)
        else:
            check_permission(actor, WORK, _("assign incidents"))
            _check_open(incident)
            step = hand_over(incident, actor=actor, now=now, assignee=assignee, team=team, workers=(WORK,))
        _tell(
            incident,
            step,
            [assignee],
            actor,
            now,
            lambda: _("assigned to you"),
            incident.description,
            kind=Kind.ASSIGNED,
        )


def edit_incident(
    incident: Incident, *, actor: Any, now: datetime, expected_version: int | None = None, **fields: Any
) -> None:
    """Edits title, description, impact, urgency or CI of an open incident; the timeline says what was changed.

    Refuses with `EditConflict` what was changed since `expected_version`.
    """
    check_permission(actor, WORK, _("edit incidents"))
    with locked(incident):
        _check_open(incident)
        edit_ticket(incident, actor=actor, now=now, expected_version=expected_version, **fields)


def start_incident(incident: Incident, *, actor: Any, now: datetime) -> None:
    """Begins to work on it; an incident without an assignee becomes the actor's."""
    update = {"assignee": actor} if incident.assignee_id is None and actor is not None else None
    move_ticket(incident, "start", actor=actor, now=now, update=update)


def hold_incident(incident: Incident, *, actor: Any, now: datetime, reason: str, note: str = "") -> None:
    """Lets it wait for the caller, the problem, a change, a release or the vendor.

    Held for the caller, the requester is told and his next comment resumes it. Held for problem, change or release,
    the installation of the fix resolves it.
    """
    if reason not in Incident.HoldReason.values:
        reasons = ", ".join(str(label) for label in Incident.HoldReason.labels)
        raise InvalidInput(_("Say what it waits for: %(reasons)s.") % {"reasons": reasons}, field="reason")
    is_caller = reason == Incident.HoldReason.CALLER
    with portal_language():
        label = capfirst(str(Incident.HoldReason(reason).label))
    text = f"{label}. {note.strip()}" if note.strip() else f"{label}."
    with transaction.atomic():
        step = move_ticket(incident, "hold", actor=actor, now=now, update={"hold_reason": reason}, text=text)
        if is_caller:
            _tell(
                incident,
                step,
                concerned(incident),
                actor,
                now,
                lambda: _("waits for your answer"),
                note,
                lambda: _("Write a comment in the portal to go on."),
                Kind.ANSWER,
            )


def resume_incident(incident: Incident, *, actor: Any, now: datetime) -> None:
    """Goes on with it: what it waited for has come."""
    move_ticket(incident, "resume", actor=actor, now=now, update={"hold_reason": ""})


def resolve_incident(incident: Incident, *, actor: Any, now: datetime, resolution: str) -> None:
    """Service is restored; the requester is told how, and that he may reopen it."""
    resolution = required(resolution, "resolution", _("Say how service was restored."))
    update = {"resolution": resolution, "resolved_at": now, "hold_reason": "", **NO_FIX}
    with transaction.atomic():
        step = move_ticket(incident, "resolve", actor=actor, now=now, update=update, text=resolution)
        _tell(
            incident,
            step,
            concerned(incident),
            actor,
            now,
            lambda: _("resolved"),
            resolution,
            lambda: _("Does it still not work? Reopen it in the portal and say what is wrong."),
        )


def reopen_incident(incident: Incident, *, actor: Any, now: datetime, reason: str) -> None:
    """It was not restored after all; said by staff or by the requester. The other side is told."""
    reason = required(reason, "reason", _("Say what still does not work."))
    update = {"resolved_at": None, **NO_FIX}
    with transaction.atomic():
        step = move_ticket(incident, "reopen", actor=actor, now=now, update=update, text=reason)
        _tell(incident, step, concerned(incident, assignee=True), actor, now, lambda: _("reopened"), reason)


def close_incident(incident: Incident, *, actor: Any, now: datetime) -> None:
    """The requester or staff confirm that it is over."""
    move_ticket(incident, "close", actor=actor, now=now)


def cancel_incident(incident: Incident, *, actor: Any, now: datetime, reason: str) -> None:
    """Reported by mistake, or a duplicate; the requester is told why."""
    reason = required(reason, "reason", _("Say why it is cancelled."))
    with transaction.atomic():
        step = move_ticket(incident, "cancel", actor=actor, now=now, update={"hold_reason": ""}, text=reason)
        _tell(incident, step, concerned(incident, assignee=True), actor, now, lambda: _("cancelled"), reason)


def comment_incident(
    incident: Incident, *, actor: Any, now: datetime, text: str, public: bool = True, files: Sequence[Attachment] = ()
) -> TimelineEntry:
    """Writes a comment, or with `public=False` an internal note of those who work on it.

    A comment of the requester is told to the assignee and resumes an incident held for the caller; one of staff is
    told to the requester. On a closed incident only notes are possible (`ConditionRefused`).
    """
    is_owner = incident.ci is not None and incident.ci.owner_id == actor.pk
    with locked(incident):
        if public and incident.state in (Incident.State.CLOSED, Incident.State.CANCELLED):
            raise ConditionRefused(
                _("%(number)s is over, nobody reads comments on it. Report a new incident and name this number.")
                % {"number": incident.number}
            )
        entry = write_comment(
            incident,
            actor=actor,
            now=now,
            text=text,
            public=public,
            permissions=Incident.WORKERS,
            is_concerned=is_owner,
            files=files,
        )
        if not public:
            return entry
        is_answer = incident.hold_reason == Incident.HoldReason.CALLER and actor.pk == incident.requester_id
        if is_answer:
            note = language.gettext("The caller answered.")
            move_ticket(incident, "resume", actor=None, author=actor, now=now, update={"hold_reason": ""}, text=note)
        tell_comment(incident, entry, actor=actor, now=now)
    return entry


def declare_major(incident: Incident, *, actor: Any, now: datetime) -> None:
    """Marks an open incident as a major one; everybody concerned is told. Doing it again changes nothing."""
    check_permission(actor, "incidents.manage_major_incident", _("declare a major incident"))
    with locked(incident):
        if incident.is_major:
            return
        if incident.state not in ASSIGNABLE:
            raise TransitionRefused(
                _("%(number)s is “%(state)s”; only an open incident can be a major one.")
                % {"number": incident.number, "state": incident.get_state_display()}
            )
        Incident.objects.filter(pk=incident.pk).update(is_major=True, updated_at=now, version=F("version") + 1)
        incident.refresh_from_db()
        record(
            incident, kind=EntryKind.SYSTEM, actor=actor, now=now, text=language.gettext("Declared a major incident.")
        )
        people = concerned(incident, assignee=True)
        _tell(incident, "major", people, actor, now, lambda: _("declared a major incident"), kind=Kind.MAJOR)


def resolve_incident_by_fix(incident: Incident, *, now: datetime, event: str, text: str) -> bool:
    """Resolves an incident that is on hold for a fix, because the fix is installed; True if it did.

    Anything else is left alone: what somebody works on, waits for the caller, or was reopened after this very event.
    Keeps `event` (at most 64 characters) and the reason for `withdraw_fix_from_incident`. The caller tells people: it
    knows versions and CIs.
    """

    def update() -> dict[str, Any] | None:
        if incident.hold_reason not in Incident.FIX_REASONS:
            return None
        return {
            "resolution": text,
            "resolved_at": now,
            "resolved_by_event": event,
            "hold_reason_before": incident.hold_reason,
            "hold_reason": "",
        }

    return move_once(incident, "resolve_by_fix", now=now, key=f"fix:{event}", text=text, update=update)


def withdraw_fix_from_incident(incident: Incident, *, now: datetime, event: str, text: str) -> bool:
    """Puts an incident that the fix of `event` had resolved back on hold for what it had waited for; True if it did.

    `event` is the one that `resolve_incident_by_fix` got. Incidents that people resolved, reopened or closed are left
    alone. The caller tells people.
    """

    def update() -> dict[str, Any] | None:
        if not event or incident.resolved_by_event != event:
            return None
        return {"hold_reason": incident.hold_reason_before, "resolved_at": None, "resolution": "", **NO_FIX}

    return move_once(incident, "withdraw_fix", now=now, key=f"withdrawn:{event}", text=text, update=update)


def note_on_incident(incident: Incident, *, now: datetime, key: str, text: str, public: bool = True) -> bool:
    """Writes an entry of the portal, once for each key; True if it is new."""
    return record(incident, kind=EntryKind.SYSTEM, actor=None, now=now, text=text, public=public, key=key)


def auto_close_incidents(*, now: datetime, days: int = CLOSES_AFTER_DAYS, limit: int = 200) -> int:
    """Closes incidents that were resolved at least `days` days ago, at most `limit` of them; returns how many."""
    due = Incident.objects.filter(state=Incident.State.RESOLVED, resolved_at__lte=now - timedelta(days=days))
    closed = 0
    for incident in due.order_by("resolved_at", "pk")[:limit]:
        try:
            text = _("Closed %(days)s days after it was resolved.") % {"days": days}
            move_ticket(incident, "close", actor=None, now=now, text=text)
        except TransitionRefused:
            continue  # somebody reopened it just now
        closed += 1
    return closed


def _check_open(incident: Incident) -> None:
    if incident.state not in ASSIGNABLE:
        raise TransitionRefused(
            _("%(number)s is “%(state)s”; it is not worked on any more. Reopen it first.")
            % {"number": incident.number, "state": incident.get_state_display()}
        )


def _tell(
    incident: Incident,
    step: str,
    people: Any,
    actor: Any,
    now: datetime,
    headline: Any,
    text: str = "",
    advice: Any = None,
    kind: Kind = Kind.PROGRESS,
) -> None:
    tell(
        incident,
        event=f"incident:{incident.pk}:{step}",
        recipients=people,
        actor=actor,
        now=now,
        headline=headline,
        text=text,
        advice=advice,
        kind=kind,
    )


def _tell_reported(incident: Incident, actor: Any, now: datetime) -> None:
    _tell(incident, "reported", [incident.requester], actor, now, lambda: _("reported"), incident.description)
