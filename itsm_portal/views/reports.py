"""Reports as pages and as files for spreadsheets."""

from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.generic import View

from accounts.models import Team
from accounts.roles import READ_TICKETS
from itsm_portal.reports.figures import REPORTS, TITLES
from itsm_portal.reports.period import MOST_DAYS, asked_of
from itsm_portal.reports.report import UNITS, Report
from tickets.clock import now_of
from tickets.csv_export import csv_line
from tickets.views import PortalPage


class DayInput(forms.DateInput):
    """The browser's own calendar."""

    input_type = "date"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%d")


class PeriodForm(forms.Form):
    """The period, both days included; in the reader's zone."""

    first = forms.DateField(label=_("From"), required=False, widget=DayInput)
    last = forms.DateField(label=_("To"), required=False, widget=DayInput)
    unit = forms.ChoiceField(label=_("Steps"), choices=list(UNITS.items()), required=False)
    team = forms.ModelChoiceField(Team.objects.all(), label=_("Team"), required=False, empty_label=_("all teams"))

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or self.cleaned_data
        first, last = data.get("first"), data.get("last")
        if first and last and not 0 <= (last - first).days <= MOST_DAYS:
            raise forms.ValidationError(_("Choose a period of up to three years that ends after it begins."))
        return data


class ReportPage(PortalPage, View):
    """One report: charts, the table, what each figure means. `?format=csv` is the table as a file."""

    section = "reports"

    def is_permitted(self, user: Any) -> bool:
        """Who may read all tickets: figures are about everybody's."""
        return bool(user.has_perms(READ_TICKETS))

    def crumbs(self) -> list[dict[str, str]]:
        return [{"label": str(_("Reports"))}]

    def get(self, request: HttpRequest, slug: str = "changes") -> HttpResponse:
        if slug not in REPORTS:
            raise Http404
        form = PeriodForm(request.GET)
        is_valid = form.is_valid()
        asked = asked_of(form.cleaned_data if is_valid else {}, now_of(request))
        report = REPORTS[slug](asked)
        if is_valid and request.GET.get("format") == "csv":
            return self.csv(report)
        tabs = [(name, title, reverse("report", args=[name])) for name, title in TITLES.items()]
        context = self.get_context_data(title=_("Reports"), report=report, form=form, tabs=tabs, asked=asked)
        return render(request, "portal/report.html", context, status=200 if is_valid else 400)

    def csv(self, report: Report) -> HttpResponse:
        heads = [str(report.first)]
        heads += [f"{column.label} ({column.unit})" if column.unit else str(column.label) for column in report.columns]
        lines = ["\ufeff" + csv_line(heads)]
        for row in report.rows:
            lines.append(csv_line([row.label, *(plain(value) for value in row.values)]))
        response = HttpResponse("".join(lines), content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="{report.slug}.csv"'
        return response


def plain(value: float | None) -> str:
    """A figure as spreadsheets take it: all its digits before the point, at most six behind, no exponent."""
    return "" if value is None else f"{value:.6f}".rstrip("0").rstrip(".")
