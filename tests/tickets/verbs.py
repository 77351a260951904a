"""Every transition of every model with a state: how to make the object, put it into a state, and call its service."""

from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.contrib.auth.models import Permission

from accounts.models import User
from changes import services as change_services
from changes.models import Change, ChangeApproval
from changes.standard import pre_authorise_change
from distribution.models import Batch
from incidents import services as incident_services
from incidents.models import Incident
from problems import services as problem_services
from problems.models import Problem
from releases.models import Release, Rollout, TestRun, Wave
from test_environments.models import DiskReception, GoldenImage, TestEnvironment
from tests.factories import NOW, make_ci, make_user
from tickets.lifecycle import StatefulModel, all_verbs
from tickets.services import create_ticket

EVENT = "rollout:17:completed"
MODELS = [m for m in apps.get_models() if issubclass(m, StatefulModel) and not m.__name__.endswith("History")]
VERBS = [(model, verb) for model in MODELS for verb in sorted({v.name for v in all_verbs(model)})]

# Which rights suffice, one of them, where the model asks with a function.
ALTERNATIVES = {
    (Incident, "reopen"): ["incidents.work_incident"],
    (Incident, "close"): ["incidents.work_incident"],
    (Change, "approve"): ["changes.approve_change"],
    (Change, "reject"): ["changes.approve_change", "changes.assess_change"],
    (Change, "cancel"): ["changes.manage_change"],
}

Call = Callable[[Any, Any, User], Any]  # ticket, actor, another person with all rights
SERVICES: dict[tuple[type, str], Call] = {
    (Incident, "assign"): lambda t, a, o: incident_services.assign_incident(t, actor=a, now=NOW, assignee=o),
    (Incident, "start"): lambda t, a, o: incident_services.start_incident(t, actor=a, now=NOW),
    (Incident, "hold"): lambda t, a, o: incident_services.hold_incident(t, actor=a, now=NOW, reason="vendor"),
    (Incident, "resume"): lambda t, a, o: incident_services.resume_incident(t, actor=a, now=NOW),
    (Incident, "resolve"): lambda t, a, o: incident_services.resolve_incident(t, actor=a, now=NOW, resolution="ok"),
    (Incident, "reopen"): lambda t, a, o: incident_services.reopen_incident(t, actor=a, now=NOW, reason="no"),
    (Incident, "close"): lambda t, a, o: incident_services.close_incident(t, actor=a, now=NOW),
    (Incident, "cancel"): lambda t, a, o: incident_services.cancel_incident(t, actor=a, now=NOW, reason="no"),
    (Incident, "resolve_by_fix"): lambda t, a, o: incident_services.resolve_incident_by_fix(
        t, now=NOW, event=EVENT, text="fixed"
    ),
    (Incident, "withdraw_fix"): lambda t, a, o: incident_services.withdraw_fix_from_incident(
        t, now=NOW, event=EVENT, text="back"
    ),
    (Problem, "assess"): lambda t, a, o: problem_services.assess_problem(t, actor=a, now=NOW),
    (Problem, "analyse"): lambda t, a, o: problem_services.analyse_problem(t, actor=a, now=NOW),
    (Problem, "start_fix"): lambda t, a, o: problem_services.start_fix_problem(t, actor=a, now=NOW),
    (Problem, "resolve"): lambda t, a, o: problem_services.resolve_problem(t, actor=a, now=NOW),
    (Problem, "reopen"): lambda t, a, o: problem_services.reopen_problem(t, actor=a, now=NOW),
    (Problem, "close"): lambda t, a, o: problem_services.close_problem(t, actor=a, now=NOW, close_code="duplicate"),
    (Problem, "fix_by_release"): lambda t, a, o: problem_services.fix_problem_by_release(
        t, now=NOW, key="rollout:17:started", text="started"
    ),
    (Problem, "resolve_by_fix"): lambda t, a, o: problem_services.resolve_problem_by_fix(
        t, now=NOW, event=EVENT, text="fixed"
    ),
    (Problem, "withdraw_fix"): lambda t, a, o: problem_services.withdraw_fix_from_problem(
        t, now=NOW, event=EVENT, text="back"
    ),
    (Change, "submit"): lambda t, a, o: change_services.submit_change(t, actor=a, now=NOW),
    (Change, "assess"): lambda t, a, o: change_services.assess_change(
        t, actor=a, now=NOW, risk="low", risk_reason="small"
    ),
    (Change, "approve"): lambda t, a, o: change_services.approve_change(t, actor=a, now=NOW),
    (Change, "accept_standard"): lambda t, a, o: change_services.accept_standard_change(t, actor=a, now=NOW),
    (Change, "pre_authorise"): lambda t, a, o: pre_authorise_change(t, now=NOW, key="template:1", text="by template"),
    (Change, "reject"): lambda t, a, o: change_services.reject_change(t, actor=a, now=NOW, comment="no"),
    (Change, "revise"): lambda t, a, o: change_services.revise_change(t, actor=a, now=NOW),
    (Change, "schedule"): lambda t, a, o: change_services.schedule_change(
        t, actor=a, now=NOW, planned_start=NOW, planned_end=NOW.replace(hour=23)
    ),
    (Change, "implement"): lambda t, a, o: change_services.implement_change(
        t, now=NOW, key="rollout:17:started", text="started"
    ),
    (Change, "finish"): lambda t, a, o: change_services.finish_change(t, now=NOW, event=EVENT, text="done"),
    (Change, "return_to_schedule"): lambda t, a, o: change_services.return_change_to_schedule(
        t, now=NOW, key="rollout:17:aborted", text="aborted"
    ),
    (Change, "back_out"): lambda t, a, o: change_services.back_out_change(t, now=NOW, event=EVENT, text="back"),
    (Change, "review"): lambda t, a, o: change_services.review_change(t, actor=a, now=NOW, text="went well"),
    (Change, "close"): lambda t, a, o: change_services.close_change(t, actor=a, now=NOW, close_code="successful"),
    (Change, "cancel"): lambda t, a, o: change_services.cancel_change(t, actor=a, now=NOW, reason="no"),
}


def sources(model: type, verb: str) -> set[str]:
    return {
        str(getattr(model, verb)._django_fsm.transitions[s].source)
        for s in getattr(model, verb)._django_fsm.transitions
    }


def make(model: type, author: User) -> Any:
    """An object of the model in its first state, complete enough for every verb."""
    if model is Incident:
        return create_ticket(Incident, actor=author, now=NOW, title="Printer on fire")
    if model is Problem:
        return create_ticket(Problem, actor=author, now=NOW, title="Paper is flammable", root_cause="wood")
    if model is Change:
        plans = {"implementation_plan": "do", "backout_plan": "undo"}
        return create_ticket(Change, actor=author, now=NOW, title="Fireproof paper", **plans)
    times = {"created_at": NOW, "updated_at": NOW}
    if model is GoldenImage:
        shape = {"driver": "file_copy", "kind": "files", "method": "folder", "classification": "internal"}
        return GoldenImage.objects.create(source=make_ci(), requested_by=author, approval="standing", **shape, **times)
    if model is TestEnvironment:
        return TestEnvironment.objects.create(source=make_ci(), **times)
    if model is DiskReception:
        image = make(GoldenImage, author)
        return DiskReception.objects.create(
            ci=image.source, image=image, sha256="a" * 64, method="medium", requested_by=author, expires_at=NOW, **times
        )
    release = create_ticket(Release, actor=author, now=NOW, title="Paper 2.0")
    if model is Release:
        return release
    if model is TestRun:
        environment = make(TestEnvironment, author)
        return TestRun.objects.create(
            release=release, environment=environment, package_hash="x", soak_seconds=1, started_by=author, **times
        )
    rollout = Rollout.objects.create(
        release=release, policy={}, approved_hash="x", started_by=author, started_at=NOW, updated_at=NOW
    )
    if model is Rollout:
        return rollout
    batch = Batch.objects.create(label=rollout.number, purpose="forward", created_at=NOW)
    return Wave.objects.create(rollout=rollout, number=1, batch=batch)


def put(ticket: Any, state: str, verb: str, other: User) -> None:
    """Puts the object into a state behind the services' back, with what the constraints and the verb ask for."""
    values: dict[str, Any] = {"state": state}
    if isinstance(ticket, Incident):
        values["hold_reason"] = "release" if state == "on_hold" else ""
        values |= {"resolved_by_event": EVENT, "hold_reason_before": "release"} if verb == "withdraw_fix" else {}
    if isinstance(ticket, Problem):
        values["close_code"] = "duplicate" if state == "closed" else ""
        values |= {"resolved_by_event": EVENT} if verb == "withdraw_fix" else {}
    if isinstance(ticket, Change):
        values["close_code"] = "successful" if state == "closed" else ""
        values["change_type"] = "standard" if verb == "accept_standard" else "normal"
    if isinstance(ticket, GoldenImage):
        values |= {"source_sha256": "a" * 64, "image_sha256": "a" * 64}
    type(ticket)._base_manager.filter(pk=ticket.pk).update(**values)
    ticket.refresh_from_db()
    if isinstance(ticket, Change) and verb == "schedule":
        ChangeApproval.objects.get_or_create(
            change=ticket,
            approver=other,
            decision="approved",
            content_hash=change_services.change_hash(ticket),
            defaults={"created_at": NOW},
        )


def person_with(username: str, rights: set[str]) -> User:
    """Somebody with exactly these rights, without a role."""
    user = make_user(username)
    wanted = [
        p
        for p in Permission.objects.select_related("content_type")
        if f"{p.content_type.app_label}.{p.codename}" in rights
    ]
    assert len(wanted) == len(rights)
    user.user_permissions.set(wanted)
    return user
