"""Tells the tickets behind a release what became of it, each in its own words and for its own CI.

On completion: RFCs implemented, problems resolved, incidents that waited for the fix resolved where their CI runs it.
On a rollback the inverse. Ticket by ticket through their verbs, some in a step, with a mark of the progress on the
rollout; every step may be repeated.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from django.db.models import Exists, OuterRef, QuerySet
from django.utils.translation import gettext as _

from changes.models import Change
from changes.services import back_out_change, finish_change, note_on_change
from cmdb.impact import dependencies_of
from cmdb.models import ConfigurationItem, InstalledVersion
from distribution.models import Batch, Deployment, DeploymentItem, DeploymentState
from distribution.services import ended
from failpoints import failpoint
from incidents.models import Incident
from incidents.services import note_on_incident, resolve_incident_by_fix, withdraw_fix_from_incident
from problems.models import Problem
from problems.services import resolve_problem_by_fix, withdraw_fix_from_problem
from releases.models import Rollout
from releases.services import notices
from releases.services.rollbacks import forward_deployments
from tickets.notices import concerned

# Tickets that one step tells, and owners, to whom it only writes: less than a tenth of a second.
CHUNK, OWNERS = 8, 40
COMPLETED, ROLLED_BACK, PARTIAL = "completed", "rolled_back", "partial"
PHASES = ("changes", "problems", "incidents", "owners")
IMPLEMENTED = (Change.State.IMPLEMENTED, Change.State.REVIEWED, Change.State.CLOSED)


def begin(rollout: Rollout, kind: str, *, now: datetime) -> None:
    """Orders the cascade (again, for CIs that caught up): the ticks do it."""
    Rollout.objects.filter(pk=rollout.pk).update(cascade=kind, cascade_mark="", settled_at=None, updated_at=now)
    rollout.refresh_from_db(fields=["cascade", "cascade_mark", "settled_at", "updated_at"])


def advance(rollout: Rollout, *, now: datetime) -> bool:
    """Goes on for one step, in the caller's transaction. True while there is more to do."""
    if not rollout.cascade:
        return False
    phase, _sep, mark = (rollout.cascade_mark or f"{PHASES[0]}:0").partition(":")
    steps: dict[str, Callable[[Rollout, int, datetime], int | None]] = {
        "changes": _tell_changes,
        "problems": _tell_problems,
        "incidents": _tell_incidents,
        "owners": _tell_owners,
    }
    if phase == PHASES[0] and mark == "0":
        # What ends from here on is told by the next run of the cascade.
        rollout.cascade_ended = ended_of(rollout)
    last = steps[phase](rollout, int(mark), now)
    failpoint("cascade.told")
    if last is not None:
        rollout.cascade_mark = f"{phase}:{last}"
    elif phase != PHASES[-1]:
        rollout.cascade_mark = f"{PHASES[PHASES.index(phase) + 1]}:0"
    else:
        rollout.cascade, rollout.cascade_mark = "", ""
    rollout.save(update_fields=["cascade", "cascade_mark", "cascade_ended"])
    failpoint("cascade.marked")
    return bool(rollout.cascade)


def ended_of(rollout: Rollout) -> int:
    """How many deployments of the rollout have ended, there and back."""
    return ended(rollout.waves.values_list("batch", flat=True))


def completion_event(rollout: Rollout) -> str:
    """The name of the event that resolved tickets; a rollback takes back exactly what it did."""
    return f"rollout:{rollout.pk}:completed"


def rollback_event(rollout: Rollout) -> str:
    return f"rollout:{rollout.pk}:rolled_back"


def _chunk(rows: QuerySet, mark: int, size: int) -> list:  # type: ignore[type-arg]
    return list(rows.filter(pk__gt=mark).order_by("pk")[:size])


def _last(rows: list, size: int) -> int | None:  # type: ignore[type-arg]
    """The key to go on after, None when the chunk was the last one."""
    return rows[-1].pk if len(rows) == size else None


def _tell_changes(rollout: Rollout, mark: int, now: datetime) -> int | None:
    if rollout.cascade == PARTIAL:
        return None
    changes = _chunk(rollout.release.changes.select_related("requester").prefetch_related("watchers"), mark, CHUNK)
    for change in changes:
        people = concerned(change)
        if rollout.cascade == COMPLETED:
            text = notices.completed_text(rollout)
            finish_change(change, now=now, event=completion_event(rollout), text=text)
            notices.tell_completed(rollout, people, thread=change.number, path="changes", now=now)
            continue
        text = notices.rolled_back_text(rollout)
        moved = back_out_change(change, now=now, event=rollback_event(rollout), text=text)
        if not moved and change.state == Change.State.CLOSED:
            text = _("For the post-implementation review: %s") % text
            note_on_change(change, now=now, key=rollback_event(rollout), text=text)
        notices.tell_rolled_back(rollout, people, thread=change.number, path="changes", now=now)
    return _last(changes, CHUNK)


def _tell_problems(rollout: Rollout, mark: int, now: datetime) -> int | None:
    if rollout.cascade == PARTIAL:
        return None
    problems = Problem.objects.filter(
        Exists(Problem.changes.through.objects.filter(problem=OuterRef("pk"), change__releases=rollout.release))
    )
    rows = _chunk(problems.select_related("requester").prefetch_related("watchers"), mark, CHUNK)
    for problem in rows:
        people = concerned(problem)
        if rollout.cascade == COMPLETED:
            text = notices.completed_text(rollout)
            if is_fixed(problem) and resolve_problem_by_fix(
                problem, now=now, event=completion_event(rollout), text=text
            ):
                notices.tell_completed(rollout, people, thread=problem.number, path="problems", now=now)
        # Perhaps another release's completion resolved it, as the last one of several.
        elif problem.resolved_by_event and not is_fixed(problem):
            text = notices.rolled_back_text(rollout)
            if withdraw_fix_from_problem(problem, now=now, event=problem.resolved_by_event, text=text):
                notices.tell_rolled_back(rollout, people, thread=problem.number, path="problems", now=now)
    return _last(rows, CHUNK)


def is_fixed(problem: Problem) -> bool:
    """Whether every RFC that is to fix it is implemented; given up ones do not count."""
    rfcs = problem.changes.exclude(state__in=[Change.State.CANCELLED, Change.State.REJECTED]).exclude(
        state=Change.State.CLOSED, close_code__in=[Change.CloseCode.UNSUCCESSFUL, Change.CloseCode.BACKED_OUT]
    )
    return rfcs.exists() and not rfcs.exclude(state__in=IMPLEMENTED).exists()


def linked_incidents(rollout: Rollout) -> QuerySet[Incident]:
    """Incidents behind the release: through their problem's RFC, or named by the RFC itself."""
    release = rollout.release
    through_problem = Incident.problems.through.objects.filter(  # type: ignore[attr-defined]
        incident=OuterRef("pk"), problem__changes__releases=release
    )
    direct = Incident.changes.through.objects.filter(  # type: ignore[attr-defined]
        incident=OuterRef("pk"), change__releases=release
    )
    return Incident.objects.filter(Exists(through_problem) | Exists(direct)).exclude(state=Incident.State.CANCELLED)


def _tell_incidents(rollout: Rollout, mark: int, now: datetime) -> int | None:
    incidents = _chunk(
        linked_incidents(rollout).select_related("requester", "ci").prefetch_related("watchers"), mark, CHUNK
    )
    named = _targets(rollout, {incident.ci_id for incident in incidents if incident.ci_id is not None})
    fix_cis = {incident.pk: _fix_cis(rollout, incident, named) for incident in incidents}
    wanted = {ci for cis in fix_cis.values() for ci in cis}
    unfixed = not_running(rollout, wanted)
    names = dict(ConfigurationItem.objects.filter(pk__in=wanted).values_list("pk", "name"))
    touched = _touched(rollout, wanted)
    undone = _undone(rollout, wanted)
    for incident in incidents:
        cis = fix_cis[incident.pk]
        missing = [names[ci] for ci in cis if ci in unfixed]
        if rollout.cascade == COMPLETED:
            _tell_completed(rollout, incident, [names[ci] for ci in cis], missing, now)
        elif (missing and undone & set(cis)) or (rollout.cascade == ROLLED_BACK and (missing or not cis)):
            _tell_withdrawn(rollout, incident, missing, now, is_concerned=bool(touched & set(cis)))
    return _last(incidents, CHUNK)


def _fix_cis(rollout: Rollout, incident: Incident, targets: set[int]) -> list[int]:
    """The incident's CI if it is a target, else the targets that its CI depends on."""
    if incident.ci_id is None:
        return []
    if incident.ci_id in targets:
        return [incident.ci_id]
    return sorted(_targets(rollout, dependencies_of(incident.ci_id, depth=3)))


def _targets(rollout: Rollout, cis: Iterable[int]) -> set[int]:
    return set(forward_deployments(rollout).filter(ci__in=list(cis)).values_list("ci", flat=True))


def _touched(rollout: Rollout, cis: Iterable[int]) -> set[int]:
    """Those to which the package was offered."""
    return set(
        forward_deployments(rollout)
        .filter(ci__in=list(cis))
        .filter(offered_at__isnull=False)
        .values_list("ci", flat=True)
    )


def _undone(rollout: Rollout, cis: Iterable[int]) -> set[int]:
    """Those that a rollback of a part or of the whole was for."""
    back = Deployment.objects.filter(batch__wave__rollout=rollout, batch__purpose=Batch.Purpose.ROLLBACK)
    return set(back.filter(ci__in=list(cis)).values_list("ci", flat=True))


def not_running(rollout: Rollout, cis: Iterable[int]) -> set[int]:
    """Those of the targets that do not run every item of their deployment in its version or a later one."""
    current = InstalledVersion.objects.filter(
        ci=OuterRef("deployment__ci"),
        product=OuterRef("product"),
        valid_to__isnull=True,
        version__order__gte=OuterRef("to_version__order"),
    )
    items = DeploymentItem.objects.filter(
        deployment__in=forward_deployments(rollout).filter(ci__in=list(cis)).values("pk")
    )
    return set(items.exclude(Exists(current)).values_list("deployment__ci", flat=True))


def _tell_completed(rollout: Rollout, incident: Incident, cis: list[str], missing: list[str], now: datetime) -> None:
    event = completion_event(rollout)
    if not cis:
        text = _("%s is rolled out, but it does not apply to the CI of this incident.") % rollout.release
        note_on_incident(incident, now=now, key=event, text=text)
        return
    if missing:
        text = _("%(release)s is rolled out, but not yet on %(cis)s: this incident goes on waiting.") % {
            "release": rollout.release,
            "cis": ", ".join(missing),
        }
        note_on_incident(incident, now=now, key=f"{event}:waiting", text=text)
        return
    text, people = notices.completed_text(rollout, cis), concerned(incident)
    is_resolved = resolve_incident_by_fix(incident, now=now, event=event, text=text)
    if not is_resolved and incident.resolved_by_event != event:
        note_on_incident(incident, now=now, key=event, text=text)
    if incident.state != Incident.State.CLOSED:
        notices.tell_completed(
            rollout,
            people,
            thread=incident.number,
            path="incidents",
            now=now,
            cis=cis,
            is_resolved=is_resolved,
        )


def _tell_withdrawn(
    rollout: Rollout, incident: Incident, missing: list[str], now: datetime, *, is_concerned: bool
) -> None:
    text, people = notices.rolled_back_text(rollout, missing), concerned(incident)
    moved = incident.resolved_by_event == completion_event(rollout) and withdraw_fix_from_incident(
        incident, now=now, event=completion_event(rollout), text=text
    )
    if not moved:
        note_on_incident(incident, now=now, key=rollback_event(rollout), text=text)
    if moved or (is_concerned and incident.state != Incident.State.CLOSED):
        notices.tell_rolled_back(rollout, people, thread=incident.number, path="incidents", now=now, cis=missing)


def _tell_owners(rollout: Rollout, mark: int, now: datetime) -> int | None:
    """The owners of the CIs, in the CI's thread, unless a ticket of their own told them about this very CI."""
    forward = forward_deployments(rollout).filter(offered_at__isnull=False)
    if rollout.cascade == COMPLETED:
        forward = forward.filter(state=DeploymentState.SUCCEEDED)
    if rollout.cascade == PARTIAL:
        undone = Deployment.objects.filter(
            batch__wave__rollout=rollout, batch__purpose=Batch.Purpose.ROLLBACK, ci=OuterRef("ci")
        )
        forward = forward.filter(Exists(undone))
    cis = ConfigurationItem.objects.filter(pk__in=forward.values("ci"), owner__isnull=False).select_related("owner")
    rows = _chunk(cis, mark, OWNERS)
    keys = [ci.pk for ci in rows]
    incidents = linked_incidents(rollout).exclude(state=Incident.State.CLOSED).filter(ci__in=keys)
    told = {*incidents.values_list("requester", "ci"), *incidents.values_list("watchers", "ci")}
    what = COMPLETED if rollout.cascade == COMPLETED else ROLLED_BACK
    knows = notices.told(rollout, what, {ci.owner_id for ci in rows})
    is_back = not_running(rollout, keys)
    for ci in rows:
        if (ci.owner_id, ci.pk) in told or (ci.owner_id, ci.number) in knows:
            continue
        if rollout.cascade != COMPLETED:
            tell = notices.tell_rolled_back if ci.pk in is_back else notices.tell_not_back
        elif ci.pk in is_back:
            continue  # taken back before the rollout completed
        else:
            tell = notices.tell_completed
        tell(rollout, [ci.owner], thread=ci.number, path="cis", now=now, cis=[ci.name])
    return _last(rows, OWNERS)
