"""What people and the portal do with problems: one function for each verb.

Each checks the right, moves the state, writes the timeline and the notices, in one transaction. Refusals are those of
`tickets.exceptions`.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from accounts import language
from accounts.language import portal_language
from incidents.models import Incident
from notifications.kinds import Kind
from problems.models import Problem
from tickets.activities import Process, check_activity
from tickets.comments import comment_ticket
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused, TransitionRefused
from tickets.history import check_version
from tickets.lifecycle import check_permission
from tickets.models import Attachment, EntryKind, Level, TimelineEntry
from tickets.notices import concerned, tell
from tickets.services import (
    create_ticket,
    edit_fields,
    edit_ticket,
    hand_over,
    locked,
    move_once,
    move_ticket,
    record,
)

WORK = "problems.work_problem"
OPEN = "problems.open_problem"


def open_problem(
    *,
    actor: Any,
    now: datetime,
    title: str,
    description: str = "",
    incidents: Iterable[Incident] = (),
    impact: str = Level.MEDIUM,
    urgency: str = Level.MEDIUM,
    activity: str = "repair",
) -> Problem:
    """Opens a problem behind these incidents; each gets an entry that names it. Activity: inspection or repair."""
    _check_may_link(actor)
    check_activity(Process.PROBLEM, activity)
    values = {"title": title, "description": description, "impact": impact, "urgency": urgency}
    with transaction.atomic():
        problem = create_ticket(Problem, actor=actor, now=now, activity=activity, **values)
        _link(problem, actor, now, incidents)
    return problem


def link_incidents(problem: Problem, *, actor: Any, now: datetime, incidents: Iterable[Incident]) -> int:
    """Names incidents as caused by this problem; returns how many are new. Refuses a closed problem."""
    _check_may_link(actor)
    with locked(problem):
        _check_not_closed(problem)
        return _link(problem, actor, now, incidents)


def edit_problem(
    problem: Problem, *, actor: Any, now: datetime, expected_version: int | None = None, **fields: Any
) -> None:
    """Edits title, description, impact or urgency of a problem that is not closed. Cause and workaround: `document`."""
    check_permission(actor, WORK, _("edit problems"))
    with locked(problem):
        _check_not_closed(problem)
        edit_ticket(problem, actor=actor, now=now, expected_version=expected_version, **fields)


def assign_problem(problem: Problem, *, actor: Any, now: datetime, assignee: Any = None, team: Any = None) -> None:
    """Gives the problem to a person, a team or both; the new assignee is told."""
    check_permission(actor, WORK, _("assign problems"))
    with locked(problem):
        _check_not_closed(problem)
        step = hand_over(problem, actor=actor, now=now, assignee=assignee, team=team, workers=(WORK,))
        _tell(
            problem,
            f"problem:{problem.pk}:{step}",
            [assignee],
            actor,
            now,
            lambda: _("assigned to you"),
            problem.description,
            Kind.ASSIGNED,
        )


def assess_problem(problem: Problem, *, actor: Any, now: datetime) -> None:
    """It is worth finding the cause."""
    move_ticket(problem, "assess", actor=actor, now=now)


def analyse_problem(problem: Problem, *, actor: Any, now: datetime) -> None:
    """Begins to look for the root cause; a problem without an assignee becomes the actor's."""
    update = {"assignee": actor} if problem.assignee_id is None and actor is not None else None
    move_ticket(problem, "analyse", actor=actor, now=now, update=update)


def document_problem(
    problem: Problem,
    *,
    actor: Any,
    now: datetime,
    root_cause: str | None = None,
    workaround: str | None = None,
    is_known_error: bool | None = None,
    expected_version: int | None = None,
) -> None:
    """Writes root cause, workaround and the known-error flag; None leaves a field as it is.

    A known error needs both texts (`ConditionRefused`). A closed problem is not edited any more.
    """
    check_permission(actor, WORK, _("document problems"))
    wanted = {"root_cause": root_cause, "workaround": workaround, "is_known_error": is_known_error}
    values: dict[str, Any] = {
        name: value.strip() if isinstance(value, str) else value for name, value in wanted.items() if value is not None
    }
    with locked(problem):
        check_version(problem, expected_version, reader=actor)
        _check_not_closed(problem)
        values = {name: value for name, value in values.items() if getattr(problem, name) != value}
        if not values:
            return
        result = {name: values.get(name, getattr(problem, name)) for name in wanted}
        if result["is_known_error"] and not (result["root_cause"] and result["workaround"]):
            raise ConditionRefused(_("A known error needs a root cause and a workaround. Write both first."))
        edit_fields(problem, now=now, expected_version=None, **values)
        with portal_language():
            names = ", ".join(str(Problem._meta.get_field(name).verbose_name) for name in values)  # type: ignore[union-attr]
            text = _("Documented: %(fields)s.") % {"fields": names}
        record(problem, kind=EntryKind.SYSTEM, actor=actor, now=now, text=text)


def start_fix_problem(problem: Problem, *, actor: Any, now: datetime) -> None:
    """The root cause is documented (else `ConditionRefused`); a change is to remove it."""
    move_ticket(problem, "start_fix", actor=actor, now=now)


def resolve_problem(problem: Problem, *, actor: Any, now: datetime) -> None:
    """The cause is gone, or the risk is accepted; requester and watchers are told."""
    with transaction.atomic():
        step = move_ticket(problem, "resolve", actor=actor, now=now, update={"resolved_by_event": ""})
        _tell(problem, f"problem:{problem.pk}:{step}", concerned(problem), actor, now, lambda: _("resolved"))


def reopen_problem(problem: Problem, *, actor: Any, now: datetime, reason: str = "") -> None:
    """It came back; whoever is concerned is told."""
    with transaction.atomic():
        step = move_ticket(
            problem, "reopen", actor=actor, now=now, update={"resolved_by_event": ""}, text=reason.strip()
        )
        people = concerned(problem, assignee=True)
        _tell(problem, f"problem:{problem.pk}:{step}", people, actor, now, lambda: _("reopened"), reason)


def close_problem(problem: Problem, *, actor: Any, now: datetime, close_code: str) -> None:
    """Closes it with a code that says how it ended; requester and watchers are told."""
    if close_code not in Problem.CloseCode.values:
        codes = ", ".join(Problem.CloseCode.values)
        raise InvalidInput(_("Choose a close code: %(codes)s.") % {"codes": codes}, field="close_code")
    with portal_language():
        text = capfirst(str(Problem.CloseCode(close_code).label))
    with transaction.atomic():
        step = move_ticket(problem, "close", actor=actor, now=now, update={"close_code": close_code}, text=text)
        _tell(problem, f"problem:{problem.pk}:{step}", concerned(problem), actor, now, lambda: _("closed"), text)


def communicate_workaround(problem: Problem, *, actor: Any, now: datetime) -> int:
    """Posts the workaround into every open linked incident, once for each text, and tells the people concerned.

    Returns how many incidents got it now; doing it again reaches only incidents linked since.
    """
    check_permission(actor, WORK, _("communicate workarounds"))
    with locked(problem):
        _check_not_closed(problem)
        workaround = problem.workaround.strip()
        if not workaround:
            raise ConditionRefused(_("There is no workaround yet. Write it first."))
        digest = hashlib.sha256(workaround.encode()).hexdigest()[:16]
        key = f"problem:{problem.pk}:workaround:{digest}"
        reached = 0
        incidents = problem.incidents.open().select_related("requester").order_by("pk")  # type: ignore[attr-defined]
        for incident in incidents:
            text = language.gettext("Workaround from %(number)s:\n\n%(text)s")
            text %= {"number": problem.number, "text": workaround}
            if not record(incident, kind=EntryKind.COMMENT, actor=actor, now=now, text=text, key=key):
                continue
            reached += 1
            _tell(
                incident,
                key,
                concerned(incident),
                actor,
                now,
                lambda: _("there is a workaround"),
                workaround,
                Kind.WORKAROUND,
            )
        if reached:
            text = language.ngettext(
                "Workaround communicated to %(count)s incident.",
                "Workaround communicated to %(count)s incidents.",
                reached,
            )
            text %= {"count": reached}
            record(problem, kind=EntryKind.SYSTEM, actor=actor, now=now, text=text)
    return reached


def comment_problem(
    problem: Problem, *, actor: Any, now: datetime, text: str, public: bool = True, files: Sequence[Attachment] = ()
) -> TimelineEntry:
    """Writes a comment, or with `public=False` an internal note. Those concerned are told of a comment."""
    return comment_ticket(problem, actor=actor, now=now, text=text, public=public, files=files)


def note_on_problem(problem: Problem, *, now: datetime, key: str, text: str, public: bool = True) -> bool:
    """Writes an entry of the portal, once for each key; True if it is new."""
    return record(problem, kind=EntryKind.SYSTEM, actor=None, now=now, text=text, public=public, key=key)


def fix_problem_by_release(problem: Problem, *, now: datetime, key: str, text: str) -> bool:
    """A rollout that fixes it has started; True if that moved it. Once for each key; other states are left alone."""
    return move_once(problem, "fix_by_release", now=now, key=key, text=text)


def resolve_problem_by_fix(problem: Problem, *, now: datetime, event: str, text: str) -> bool:
    """Every RFC that fixes it is implemented; True if that moved it.

    Keeps `event` (at most 64 characters) for `withdraw_fix_from_problem`. The caller tells people.
    """
    update = {"resolved_by_event": event}
    return move_once(problem, "resolve_by_fix", now=now, key=f"fix:{event}", text=text, update=update)


def withdraw_fix_from_problem(problem: Problem, *, now: datetime, event: str, text: str) -> bool:
    """The release whose completion (`event`) resolved it was rolled back: the fix is in progress again; True if so.

    Problems that people resolved, reopened or closed are left alone. The caller tells people.
    """

    def update() -> dict[str, Any] | None:
        return {"resolved_by_event": ""} if event and problem.resolved_by_event == event else None

    return move_once(problem, "withdraw_fix", now=now, key=f"withdrawn:{event}", text=text, update=update)


def _check_may_link(actor: Any) -> None:
    if actor is not None and not actor.has_perm(WORK):
        check_permission(actor, OPEN, _("open problems from incidents"))


def _check_not_closed(problem: Problem) -> None:
    if problem.state == Problem.State.CLOSED:
        raise TransitionRefused(
            _("%(number)s is closed. Open a new problem and name this one.") % {"number": problem.number}
        )


def _link(problem: Problem, actor: Any, now: datetime, incidents: Iterable[Incident]) -> int:
    wanted = {incident.pk: incident for incident in incidents}
    if actor is not None and Incident.objects.visible_to(actor).filter(pk__in=wanted).count() != len(wanted):
        raise PermissionRefused(_("You may link only incidents that you may see."))
    for pk in problem.incidents.filter(pk__in=wanted).values_list("pk", flat=True):
        del wanted[pk]
    problem.incidents.add(*wanted)
    for incident in wanted.values():
        text = language.gettext("Caused by %(problem)s.") % {"problem": problem}
        record(incident, kind=EntryKind.LINK, actor=actor, now=now, text=text, key=f"problem:{problem.pk}")
    if wanted:
        numbers = ", ".join(incident.number for incident in wanted.values())
        text = language.gettext("Linked: %(numbers)s.") % {"numbers": numbers}
        record(problem, kind=EntryKind.LINK, actor=actor, now=now, text=text)
    return len(wanted)


def _tell(
    ticket: Any,
    event: str,
    people: Any,
    actor: Any,
    now: datetime,
    headline: Any,
    text: str = "",
    kind: Kind = Kind.PROGRESS,
) -> None:
    tell(ticket, event=event, recipients=people, actor=actor, now=now, headline=headline, text=text, kind=kind)
