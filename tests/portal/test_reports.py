"""Reports: each figure from few rows that one can count by hand, who reads them, and what they cost."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import Team
from changes.models import Change
from incidents.models import Incident
from itsm_portal.reports.figures import REPORTS, TITLES
from itsm_portal.reports.period import asked_of
from itsm_portal.reports.report import UNITS, Asked, Report
from itsm_portal.views.reports import plain
from releases.models import Release, Rollout
from tests.factories import make_user

pytestmark = pytest.mark.django_db
# Mondays.
FIRST, SECOND = datetime(2026, 10, 5, tzinfo=UTC), datetime(2026, 10, 12, tzinfo=UTC)
ASKED = Asked(FIRST, FIRST + timedelta(days=14))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def author() -> Any:
    return make_user("author")


def ticket(model: Any, author: Any, at: datetime, **values: Any) -> Any:
    return model.objects.create(
        title="It is so", requester=author, created_by=author, created_at=at, updated_at=at, **values
    )


def closed(author: Any, at: datetime, code: str, **values: Any) -> Change:
    change: Change = ticket(Change, author, at - DAY, state="closed", close_code=code, **values)
    change.entries.create(kind="state", from_state="reviewed", to_state="closed", created_at=at, author=author)  # type: ignore[attr-defined]
    return change


def rolled_out(author: Any, at: datetime, state: str, *changes: Change) -> Release:
    release: Release = ticket(Release, author, at - DAY, state="completed")
    release.changes.set(changes)
    Rollout.objects.create(
        release=release, state=state, policy={}, approved_hash="a" * 64, started_by=author, started_at=at - HOUR,
        finished_at=at, updated_at=at,
    )  # fmt: skip
    return release


def column(report: Report, key: str) -> list[float | None]:
    place = [one.key for one in report.columns].index(key)
    return [row.values[place] for row in report.rows]


def test_changes_count_by_the_code_with_which_they_were_closed(author: Any) -> None:
    for code in ("successful", "successful", "with_issues", "backed_out"):
        closed(author, FIRST + DAY, code)
    closed(author, FIRST - HOUR, "unsuccessful")
    closed(author, ASKED.end, "unsuccessful")
    report = REPORTS["changes"](ASKED)
    assert column(report, "closed") == [4, 0]
    assert column(report, "backed_out") == [1, 0]
    assert column(report, "success_rate") == [75, None]
    assert column(report, "failure_rate") == [25, None]


def test_the_four_figures_of_dora(author: Any) -> None:
    quick, slow = closed(author, FIRST, "successful"), closed(author, FIRST - 8 * DAY, "successful")
    hurting = rolled_out(author, FIRST + DAY, "completed", quick, slow)
    rolled_out(author, FIRST + 2 * DAY, "completed")
    rolled_out(author, FIRST + 2 * DAY, "rolled_back")
    rolled_out(author, FIRST + 2 * DAY, "rolled_back_with_exceptions")
    rolled_out(author, FIRST + 2 * DAY, "aborted")
    for took in (1, 2, 9):
        reported = SECOND + DAY
        hurting.caused_incidents.add(
            ticket(Incident, author, reported, state="resolved", resolved_at=reported + took * HOUR)
        )
    ticket(Incident, author, SECOND, state="resolved", resolved_at=SECOND + 100 * HOUR)
    report = REPORTS["dora"](ASKED)
    assert column(report, "deployments") == [2, 0]
    assert column(report, "lead_hours") == [(2 * 24 + 10 * 24) / 2, None]
    assert column(report, "failure_rate") == [75, None]
    assert column(report, "restore_hours") == [None, 2]
    releases = REPORTS["releases"](ASKED)
    assert [row.values for row in releases.rows] == [[2, 1, 1, 1, 40], [0, 0, 0, 0, None]]


def test_time_to_restore_is_told_by_mean_and_median_and_for_urgent_ones(author: Any) -> None:
    for hours, priority in ((1, 1), (2, 3), (9, 2)):
        ticket(Incident, author, FIRST, state="closed", resolved_at=FIRST + hours * HOUR, priority=priority)
    report = REPORTS["restore"](ASKED)
    assert [row.values for row in report.rows] == [[3, 4, 2, 5], [0, None, None, None]]


def test_the_backlog_is_what_is_open_by_its_age(author: Any) -> None:
    for days in (0, 2, 3, 20, 60, 200):
        ticket(Incident, author, ASKED.end - days * DAY, state="new")
    ticket(Incident, author, ASKED.end - DAY, state="resolved", resolved_at=ASKED.end)
    ticket(Change, author, ASKED.end - 91 * DAY, state="draft")
    report = REPORTS["backlog"](ASKED)
    assert column(report, "incidents") == [1, 2, 1, 1, 1]
    assert column(report, "changes") == [0, 0, 0, 0, 1]


def test_a_team_sees_its_own_figures(author: Any) -> None:
    team = Team.objects.create(name="Billing")
    closed(author, FIRST, "successful", team=team)
    closed(author, FIRST, "backed_out")
    report = REPORTS["changes"](Asked(ASKED.start, ASKED.end, team=team))
    assert column(report, "closed") == [1, 0]


def test_months_begin_on_their_first_day_also_where_clocks_change() -> None:
    steps = Asked(datetime(2026, 9, 20, tzinfo=UTC), datetime(2026, 12, 2, tzinfo=UTC), "month").steps()
    assert [(step.month, step.day) for step in steps] == [(9, 1), (10, 1), (11, 1), (12, 1)]


def test_only_who_reads_all_tickets_reads_reports() -> None:
    for name, status in (("service desk", 200), ("auditor", 200), ("requester", 403), ("CI owner", 403)):
        user = make_user(name.replace(" ", "-"), name)
        client, api = Client(), APIClient()
        client.force_login(user)
        api.force_authenticate(user)
        for slug in REPORTS:
            assert client.get(f"/reports/{slug}/").status_code == status, (name, slug)
            assert api.get(f"/api/v1/reports/{slug}/").status_code == status, (name, slug)


def test_page_file_and_api_say_the_same(author: Any) -> None:
    closed(author, FIRST + DAY, "successful")
    desk = make_user("desk", "service desk")
    client, api = Client(), APIClient()
    client.force_login(desk)
    api.force_authenticate(desk)
    period = {"first": "2026-10-05", "last": "2026-10-18"}
    lines = client.get("/reports/changes/", {**period, "format": "csv"}).content.decode().splitlines()
    assert lines[0].startswith("\ufeffWeek of,closed,successful,")
    assert [line.split(",")[1] for line in lines[1:]] == ["1", "0"]
    assert [row["values"][0] for row in api.get("/api/v1/reports/changes/", period).json()["rows"]] == [1, 0]
    page = client.get("/reports/changes/", period)
    assert "What the figures mean" in page.content.decode()
    for wrong in ({"first": "x"}, {"first": "2026-10-05", "last": "2026-10-01"}, {"unit": "day"}, {"team": "0"}):
        assert client.get("/reports/changes/", wrong).status_code == 400
        assert client.get("/reports/changes/", {**wrong, "format": "csv"}).status_code == 400
        assert api.get("/api/v1/reports/changes/", wrong).status_code == 400
    assert client.get("/reports/nothing/").status_code == 404


@pytest.mark.parametrize("day", ["0001-01-01", "1969-12-31", "9999-12-31"])
@pytest.mark.parametrize("end", ["first", "last"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_any_day_of_the_calendar_is_a_day(day: str, end: str, zone: str) -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    with timezone.override(zone):
        for unit in UNITS:
            asked = asked_of({end: date.fromisoformat(day), "unit": unit}, now)
            assert asked.start <= asked.end <= now
            REPORTS["changes"](asked)


def test_figures_in_a_file_are_plain_numbers() -> None:
    figures = [None, 0, 100, 12_345_678, 1234567.5, 0.00001, 100 / 3]
    assert [plain(one) for one in figures] == ["", "0", "100", "12345678", "1234567.5", "0.00001", "33.333333"]


def test_a_report_costs_the_same_number_of_queries_at_any_size(author: Any) -> None:
    def costs() -> list[int]:
        found = []
        for slug in REPORTS:
            with CaptureQueriesContext(connection) as queries:
                REPORTS[slug](ASKED)
            found.append(len(queries))
        return found

    few = costs()
    for number in range(9):
        rolled_out(author, FIRST + number * DAY, "completed", closed(author, FIRST + number * DAY, "successful"))
    assert costs() == few == [1, 3, 1, 1, 4]
    assert list(TITLES) == list(REPORTS)
