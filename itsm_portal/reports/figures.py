"""The reports: how changes, rollouts and incidents went, each in a few set-based queries over indexed times.

All count production only, because only production has tickets and rollouts. Times are those that the portal wrote when
it happened: the timeline entry of a closed RFC, the end of a rollout, the resolution of an incident.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Avg, Count, DurationField, Exists, ExpressionWrapper, F, OuterRef, Q
from django.utils.translation import gettext_lazy as _

from changes.models import Change, ChangeEntry
from incidents.models import Incident
from itsm_portal.reports.report import Asked, Column, Median, Report, Row, chart, hours, percent, values_of
from problems.models import Problem
from releases.models import Release, Rollout

WEEK, MONTH = _("Week of"), _("Month")
_SUCCESS = ("successful", "with_issues")
_BACK = ("rolled_back", "rolled_back_with_exceptions")


def _first(asked: Asked) -> Any:
    return WEEK if asked.unit == "week" else MONTH


def _steps(rows: Any) -> dict[datetime, dict[str, Any]]:
    return {row["step"]: row for row in rows}


def _took(start: str, end: str) -> ExpressionWrapper:
    return ExpressionWrapper(F(end) - F(start), output_field=DurationField())


def changes(asked: Asked) -> Report:
    """How RFCs ended: by the close code that their review gave them, in the step in which they were closed."""
    rows = ChangeEntry.objects.filter(kind="state", to_state="closed")
    if asked.team is not None:
        rows = rows.filter(ticket__team=asked.team)
    names = ("successful", "with_issues", "unsuccessful", "backed_out")
    counts = {name: Count("pk", filter=Q(ticket__close_code=name)) for name in names}
    found = _steps(asked.by_step(rows, "created_at").annotate(**counts))
    columns = [
        Column("closed", _("closed"), _("RFCs that were closed in the period.")),
        Column("successful", _("successful"), _("Closed as successful."), tone="green"),
        Column("with_issues", _("with issues"), _("Closed as successful with issues."), tone="amber"),
        Column("unsuccessful", _("unsuccessful"), _("Closed as unsuccessful."), tone="red"),
        Column("backed_out", _("backed out"), _("Closed as backed out."), tone="violet"),
        Column("success_rate", _("success rate"), _("Successful, also with issues, of all that were closed."), "%", 1,
               "green"),
        Column("failure_rate", _("failure rate"), _("Unsuccessful or backed out, of all that were closed."), "%", 1,
               "red"),
    ]  # fmt: skip
    table = []
    for step in asked.steps():
        counted = values_of(found, step, *names)
        total = sum(counted)
        good = counted[0] + counted[1]
        figures = [total, *counted, percent(good, total), percent(total - good, total)]
        table.append(asked.row(step, figures))
    first = _first(asked)
    charts = [
        chart(_("How changes ended"), table, columns, names, "bar", first),
        chart(_("Success and failure rate"), table, columns, ("success_rate", "failure_rate"), "line", first),
    ]
    return Report("changes", _("Changes"), first, columns, table, charts)


def _ended(asked: Asked) -> Any:
    rows = Rollout.objects.filter(finished_at__isnull=False)
    return rows if asked.team is None else rows.filter(release__team=asked.team)


def dora(asked: Asked) -> Report:
    """The four figures of DORA by our data; a deployment is a rollout to production.

    Deployment frequency: rollouts that completed. Lead time for changes: from the creation of an RFC to the completion
    of the rollout that brought it, the median. Change failure rate: of the rollouts that ended other than by an abort,
    those that went back or whose release caused an incident. Time to restore: from report to resolution of incidents
    that a release caused, the median, by the time of resolution.
    """
    caused = Exists(Release.caused_incidents.through.objects.filter(release=OuterRef("release")))
    is_back = Q(state__in=_BACK)
    ended = _ended(asked).exclude(state="aborted").annotate(has_caused=caused)
    found = _steps(
        asked.by_step(ended, "finished_at").annotate(
            ended=Count("pk"),
            completed=Count("pk", filter=Q(state="completed")),
            failed=Count("pk", filter=is_back | Q(has_caused=True)),
        )
    )
    carried = _ended(asked).filter(state="completed", release__changes__isnull=False)
    lead = _steps(
        asked.by_step(carried, "finished_at").annotate(
            lead=Median(_took("release__changes__created_at", "finished_at"))
        )
    )
    links = Release.caused_incidents.through.objects.filter(incident=OuterRef("pk"))
    hurt = Incident.objects.filter(Exists(links), resolved_at__isnull=False)
    if asked.team is not None:
        hurt = hurt.filter(team=asked.team)
    restore = _steps(
        asked.by_step(hurt, "resolved_at").annotate(restore=Median(_took("created_at", "resolved_at")), n=Count("pk"))
    )
    columns = [
        Column("deployments", _("deployments"), _("Deployment frequency: rollouts to production that completed."),
               tone="green"),
        Column("lead_hours", _("lead time"), _(
            "Lead time for changes: from the creation of an RFC to the end of its rollout; the median."), "h", 1),
        Column("failure_rate", _("change failure rate"), _(
            "Of the rollouts that ended (aborts are left out), those that went back or whose release caused an "
            "incident."), "%", 1, "red"),
        Column("restore_hours", _("time to restore"), _(
            "From report to resolution of incidents that a release caused; the median."), "h", 1, "amber"),
    ]  # fmt: skip
    table = []
    for step in asked.steps():
        all_ended, completed, failed = values_of(found, step, "ended", "completed", "failed")
        times = [hours(lead.get(step, {}).get("lead")), hours(restore.get(step, {}).get("restore"))]
        table.append(asked.row(step, [completed, times[0], percent(failed, all_ended), times[1]]))
    first = _first(asked)
    charts = [
        chart(_("Deployment frequency"), table, columns, ("deployments",), "bar", first),
        chart(_("Lead time for changes, median"), table, columns, ("lead_hours",), "line", first),
        chart(_("Change failure rate"), table, columns, ("failure_rate",), "line", first),
        chart(_("Time to restore, median"), table, columns, ("restore_hours",), "line", first),
    ]
    return Report("dora", _("DORA"), first, columns, table, charts)


def releases(asked: Asked) -> Report:
    """How rollouts ended, in the step in which they did."""
    names = ("completed", *_BACK, "aborted")
    counts = {name: Count("pk", filter=Q(state=name)) for name in names}
    found = _steps(asked.by_step(_ended(asked), "finished_at").annotate(**counts))
    columns = [
        Column("completed", _("completed"), _("Rollouts that completed."), tone="green"),
        Column("rolled_back", _("rolled back"), _("Rollouts that went back everywhere."), tone="violet"),
        Column("rolled_back_with_exceptions", _("with exceptions"), _("Went back, but not on every CI."), tone="red"),
        Column("aborted", _("aborted"), _("Stopped by a person before the end."), tone="neutral"),
        Column("success_rate", _("success rate"), _("Completed, of all that ended."), "%", 1, "green"),
    ]
    table = []
    for step in asked.steps():
        counted = values_of(found, step, *names)
        table.append(asked.row(step, [*counted, percent(counted[0], sum(counted))]))
    first = _first(asked)
    charts = [
        chart(_("How rollouts ended"), table, columns, names, "bar", first),
        chart(_("Success of releases"), table, columns, ("success_rate",), "line", first),
    ]
    return Report("releases", _("Releases"), first, columns, table, charts)


def restore(asked: Asked) -> Report:
    """How long it took until service was restored: from report to resolution, by the step of the resolution."""
    rows = Incident.objects.filter(resolved_at__isnull=False)
    if asked.team is not None:
        rows = rows.filter(team=asked.team)
    took = _took("created_at", "resolved_at")
    figures = {
        "n": Count("pk"),
        "mean": Avg(took),
        "median": Median(took),
        "urgent": Avg(took, filter=Q(priority__lte=2)),
    }
    found = _steps(asked.by_step(rows, "resolved_at").annotate(**figures))
    columns = [
        Column("resolved", _("resolved"), _("Incidents that were resolved in the period."), tone="green"),
        Column("mean_hours", _("mean (MTTR)"), _("From report to resolution: the mean."), "h", 1, "blue"),
        Column("median_hours", _("median"), _("The middle one: half took longer."), "h", 1, "cyan"),
        Column("urgent_hours", _("mean of P1 and P2"), _("The mean of critical and high ones."), "h", 1, "red"),
    ]
    table = []
    for step in asked.steps():
        row = found.get(step, {})
        times = [hours(row.get(name)) for name in ("mean", "median", "urgent")]
        table.append(asked.row(step, [row.get("n", 0), *times]))
    first = _first(asked)
    charts = [
        chart(
            _("Time to restore service"), table, columns, ("mean_hours", "median_hours", "urgent_hours"), "line", first
        ),
        chart(_("Resolved incidents"), table, columns, ("resolved",), "bar", first),
    ]
    return Report("restore", _("Time to restore"), first, columns, table, charts)


AGES: tuple[tuple[Any, int, int | None], ...] = (
    (_("up to a day"), 0, 1), (_("up to a week"), 1, 7), (_("up to 30 days"), 7, 30), (_("up to 90 days"), 30, 90),
    (_("older"), 90, None),
)  # fmt: skip


def backlog(asked: Asked) -> Report:
    """How old what is open is, at the end of the period or now: by the time of its creation. Knows only the present."""
    columns = [
        Column("incidents", _("incidents"), _("Open incidents that were created so long ago."), tone="red"),
        Column("problems", _("problems"), _("Open problems."), tone="violet"),
        Column("changes", _("changes"), _("Open RFCs."), tone="blue"),
        Column("releases", _("releases"), _("Open releases."), tone="green"),
    ]
    counted = []
    for model in (Incident, Problem, Change, Release):
        rows: Any = model.objects.open()
        if asked.team is not None:
            rows = rows.filter(team=asked.team)
        counted.append(rows.aggregate(**{f"age{n}": Count("pk", filter=_age(n, asked.end)) for n in range(len(AGES))}))
    table = [Row(str(label), [found[f"age{n}"] for found in counted]) for n, (label, _low, _high) in enumerate(AGES)]
    keys = [column.key for column in columns]
    charts = [chart(_("Age of what is open"), table, columns, keys, "bar", _("Age"))]
    return Report("backlog", _("Backlog"), _("Age"), columns, table, charts)


def _age(number: int, now: datetime) -> Q:
    _label, low, high = AGES[number]
    newest = Q(created_at__lte=now - timedelta(days=low)) if low else Q()
    return newest & Q(created_at__gt=now - timedelta(days=high)) if high else newest


REPORTS: dict[str, Callable[[Asked], Report]] = {
    "changes": changes, "dora": dora, "releases": releases, "restore": restore, "backlog": backlog,
}  # fmt: skip
TITLES = {
    "changes": _("Changes"), "dora": _("DORA"), "releases": _("Releases"), "restore": _("Time to restore"),
    "backlog": _("Backlog"),
}  # fmt: skip
