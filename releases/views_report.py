"""The page of a rollout's report: to read, to print, and as CSV with every CI."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from releases.live import numbers_text
from releases.models import Rollout
from releases.release_notes import release_notes
from releases.report import CIRow, report_of, rows_of
from tickets.clock import now_of
from tickets.csv_export import csv_line
from tickets.views import ObjectPage

HEADS = {
    "number": gettext_lazy("Number"),
    "name": gettext_lazy("CI"),
    "wave": gettext_lazy("Wave"),
    "outcome": gettext_lazy("Outcome"),
    "attempts": gettext_lazy("Attempts"),
    "error_code": gettext_lazy("Error"),
    "message": gettext_lazy("Message"),
    "reason": gettext_lazy("Reason"),
    "moved_at": gettext_lazy("Since"),
}


class RolloutReport(ObjectPage):
    model = Rollout
    section = "rollout_list"
    list_url_name = "rollout_list"
    related = ("release__requester", "started_by", "breach_incident")

    def get(self, request: HttpRequest, number: str) -> HttpResponse | StreamingHttpResponse:
        rollout: Rollout = self.find(number)
        if request.GET.get("as") == "csv":
            answer = StreamingHttpResponse(_lines(rollout, request.user), content_type="text/csv; charset=utf-8")
            answer["Content-Disposition"] = f'attachment; filename="{rollout.number}.csv"'
            return answer
        report = report_of(rollout, request.user, now=now_of(request))
        context = self.get_context_data(
            object=rollout,
            report=report,
            made_at=now_of(request),
            waves=[
                (row, [(verdict, numbers_text(verdict.numbers)) for verdict in row.verdicts]) for row in report.waves
            ],
            notes=release_notes(rollout.release, request.user),
            title=_("Report of %(rollout)s") % {"rollout": rollout.number},
            breadcrumbs=self.crumbs_of(rollout, _("Report")),
        )
        return render(request, "releases/rollout_report.html", context)


def _lines(rollout: Rollout, user: Any) -> Iterator[str]:
    yield "\ufeff" + csv_line([str(HEADS[field.name]) for field in fields(CIRow)])
    for row in rows_of(rollout, user):
        values = {**asdict(row), "moved_at": row.moved_at.isoformat()}
        yield csv_line([str(value) for value in values.values()])
