"""The calendar: month, week, day and time line of what is planned and of what happened."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.dates import WEEKDAYS_ABBR
from django.utils.formats import date_format
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import View

from changes.models import Change
from cmdb.forms import CIField, limit_cis
from itsm_portal.calendar import grid
from itsm_portal.calendar.entries import KINDS, Entry, Wanted, entries_between, window_entries
from itsm_portal.calendar.resources import ROWS_PER_PAGE, rows_of
from releases.models import Release
from tickets.clock import now_of
from tickets.forms import PortalForm
from tickets.views import PortalPage

VIEWS = {
    "month": gettext_lazy("Month"),
    "week": gettext_lazy("Week"),
    "timeline": gettext_lazy("Time line"),
    "day": gettext_lazy("Day"),
}
ROWS = {
    "ci": gettext_lazy("Configuration items"),
    "service": gettext_lazy("Services"),
    "group": gettext_lazy("Groups"),
}
# Windows recur every day or week: who wants to see them says so.
USUAL_KINDS = tuple(kind for kind in KINDS if kind != "window")
STATES = {**dict(Change.State.choices), **dict(Release.State.choices)}
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2199, 12, 31)
# A page of the list of a day.
LISTED = 500


class CalendarFilter(PortalForm):
    """What is shown; the view and the date stand in hidden fields, so that filtering keeps them."""

    view = forms.ChoiceField(choices=list(VIEWS.items()), widget=forms.HiddenInput)
    date = forms.DateField(widget=forms.HiddenInput, input_formats=["%Y-%m-%d"])
    kind = forms.MultipleChoiceField(
        label=gettext_lazy("Shows"), choices=list(KINDS.items()), widget=forms.CheckboxSelectMultiple
    )
    q = forms.CharField(
        label=gettext_lazy("Number or title"), max_length=100, widget=forms.TextInput(attrs={"type": "search"})
    )
    state = forms.ChoiceField(label=gettext_lazy("State"), choices=[("", gettext_lazy("any")), *STATES.items()])
    ci = CIField(label=gettext_lazy("Configuration item"))
    rows = forms.ChoiceField(choices=list(ROWS.items()), widget=forms.HiddenInput)
    mine = forms.BooleanField(label=gettext_lazy("Only mine"))

    def prepare(self) -> None:
        for field in self.fields.values():
            field.required = False
        limit_cis(self, self.user)


class CalendarPage(PortalPage, View):
    """Everybody has one; it shows what he may see."""

    section = "calendar"
    title = gettext_lazy("Calendar")

    def get(self, request: HttpRequest) -> HttpResponse:
        now = now_of(request)
        zone = timezone.get_current_timezone()
        today = now.astimezone(zone).date()
        form, chosen = self.chosen(today)
        builder = {"month": self.month, "week": self.week, "timeline": self.timeline, "day": self.day}[chosen["view"]]
        context = builder(chosen, today, now)
        context = self.get_context_data(
            form=form, chosen=chosen, today=today, views=VIEWS, now=now, zone=timezone.get_current_timezone_name(),
            back=self.address(chosen),
            **self.steps(chosen, today), **context,
        )  # fmt: skip
        return render(request, "portal/calendar.html", context)

    def chosen(self, today: date) -> tuple[CalendarFilter, dict[str, Any]]:
        """What the address asks for; what makes no sense is as if it were not there."""
        given = self.request.GET.copy()
        given.setdefault("view", "month")
        given.setdefault("date", today.isoformat())
        if "kind" not in given:
            given.setlist("kind", list(USUAL_KINDS))
        form = CalendarFilter(given, user=self.person)
        form.is_valid()
        values: dict[str, Any] = {"view": "month", "date": today, "kind": list(USUAL_KINDS), "rows": "ci"}
        values.update({name: value for name, value in form.cleaned_data.items() if value})
        values["date"] = min(max(values["date"], FIRST_DAY), LAST_DAY)
        return form, values

    def entries(self, chosen: dict[str, Any], first: date, days: int, now: datetime) -> list[Entry]:
        zone = timezone.get_current_timezone()
        start, end = grid.day_start(first, zone), grid.day_start(first + timedelta(days=days), zone)
        ci = chosen.get("ci")
        wanted = Wanted(
            kinds=tuple(chosen["kind"]), states=(chosen["state"],) if chosen.get("state") else (),
            text=chosen.get("q", ""), only_mine=bool(chosen.get("mine")), ci=ci.pk if ci is not None else None,
            with_cancelled=chosen.get("state") in {Change.State.CANCELLED, Change.State.REJECTED},
        )  # fmt: skip
        return entries_between(self.person, start, end, now=now, wanted=wanted)

    def month(self, chosen: dict[str, Any], today: date, now: datetime) -> dict[str, Any]:
        mondays = grid.month_days(chosen["date"])
        entries = self.entries(chosen, mondays[0], 7 * len(mondays), now)
        zone, month = timezone.get_current_timezone(), chosen["date"].month
        weeks = [grid.month_week(monday, entries, zone, today=today, month=month) for monday in mondays]
        return {"weeks": weeks, "weekdays": list(WEEKDAYS_ABBR.values()), "count": len(entries)}

    def week(self, chosen: dict[str, Any], today: date, now: datetime) -> dict[str, Any]:
        monday = grid.monday_of(chosen["date"])
        entries = self.entries(chosen, monday, 7, now)
        week = grid.week(monday, entries, timezone.get_current_timezone(), today=today)
        return {"week": week, "hours": [f"{hour:02}:00" for hour in range(24)], "count": len(entries)}

    def day(self, chosen: dict[str, Any], today: date, now: datetime) -> dict[str, Any]:
        entries = self.entries(chosen, chosen["date"], 1, now)
        return {"listed": entries[:LISTED], "count": len(entries), "unlisted": max(0, len(entries) - LISTED)}

    def timeline(self, chosen: dict[str, Any], today: date, now: datetime) -> dict[str, Any]:
        monday, zone = grid.monday_of(chosen["date"]), timezone.get_current_timezone()
        kinds = [kind for kind in chosen["kind"] if kind != "window"]  # those stand in the rows of their CIs
        entries = self.entries({**chosen, "kind": kinds}, monday, grid.LINE_DAYS, now)
        page = self.page_number()
        found = rows_of(chosen["rows"], entries, self.person, page=page)
        freezes = [entry for entry in entries if entry.kind == "freeze"]
        rows = [grid.line_row(_("Everything"), "", monday, freezes, (), zone)]
        start, end = grid.day_start(monday, zone), grid.day_start(monday + timedelta(days=grid.LINE_DAYS), zone)
        for row in found.rows:
            windows: Iterable[Entry] = ()
            if row.window is not None and "window" in chosen["kind"]:
                windows = window_entries(row.window, row.window.occurrences(start, end))
            rows.append(grid.line_row(row.label, row.url, monday, row.entries, windows, zone))
        days = [grid.Day(day, day == today) for day in (monday + timedelta(days=n) for n in range(grid.LINE_DAYS))]
        pages = -(-found.total // ROWS_PER_PAGE)
        kinds_of_rows = [(name, text, self.address({**chosen, "rows": name})) for name, text in ROWS.items()]
        return {
            "days": days, "rows": rows, "count": len(entries), "page_number": page, "pages": pages,
            "row_addresses": kinds_of_rows,
        }  # fmt: skip

    def page_number(self) -> int:
        text = self.request.GET.get("page", "1")
        return int(text) if text.isdecimal() and 0 < len(text) < 6 and int(text) > 0 else 1

    def steps(self, chosen: dict[str, Any], today: date) -> dict[str, Any]:
        """The addresses of the time before and after, and what the shown time is called."""
        day: date = chosen["date"]
        monday = grid.monday_of(day)
        if chosen["view"] == "month":
            before, after = day.replace(day=1) - timedelta(days=1), day.replace(day=28) + timedelta(days=4)
            before, after = before.replace(day=1), after.replace(day=1)
            label = date_format(day, "F Y")
        elif chosen["view"] == "day":
            before, after = day - timedelta(days=1), day + timedelta(days=1)
            label = date_format(day, "l, j F Y")
        else:
            length = 7 if chosen["view"] == "week" else grid.LINE_DAYS
            before, after = monday - timedelta(days=length), monday + timedelta(days=length)
            last = monday + timedelta(days=length - 1)
            label = f"{date_format(monday, 'MONTH_DAY_FORMAT')} – {date_format(last, 'SHORT_DATE_FORMAT')}"
            label = _("Week %(number)d: %(days)s") % {"number": monday.isocalendar().week, "days": label}
        return {
            "label": label,
            "before": self.address({**chosen, "date": before}),
            "after": self.address({**chosen, "date": after}),
            "now_address": self.address({**chosen, "date": today}),
            "view_addresses": [(name, text, self.address({**chosen, "view": name})) for name, text in VIEWS.items()],
        }

    def query(self, chosen: dict[str, Any]) -> str:
        """The choice as a query string without what is usual."""
        found: list[tuple[str, Any]] = [("view", chosen["view"]), ("date", chosen["date"].isoformat())]
        if set(chosen["kind"]) != set(USUAL_KINDS):
            found += [("kind", kind) for kind in chosen["kind"]]
        found += [(name, chosen[name]) for name in ("q", "state") if chosen.get(name)]
        if chosen.get("ci") is not None:
            found.append(("ci", chosen["ci"].name))
        if chosen.get("mine"):
            found.append(("mine", "on"))
        if chosen["rows"] != "ci":
            found.append(("rows", chosen["rows"]))
        return urlencode(found)

    def address(self, chosen: dict[str, Any]) -> str:
        return f"{reverse('calendar')}?{self.query(chosen)}"
