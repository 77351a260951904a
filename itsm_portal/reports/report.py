"""What a report is: columns with what they mean, one row for each period, and charts of the same figures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Aggregate, DurationField
from django.db.models.functions import TruncMonth, TruncWeek
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _

from tickets.charts import Chart, Series

UNITS = {"week": _("by week"), "month": _("by month")}
TRUNCATE: dict[str, Any] = {"week": TruncWeek, "month": TruncMonth}


class Median(Aggregate):
    """The middle of some durations; None of nothing."""

    function = "PERCENTILE_CONT"
    template = "%(function)s(0.5) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = DurationField()


@dataclass(frozen=True, slots=True)
class Row:
    """One period or group with its figures, in the order of the columns; None where there is nothing to divide."""

    label: str
    values: Sequence[float | None]
    # As few letters as fit below a chart.
    short: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """From when to when (in the reader's zone), in what steps, and of which team's tickets (None: of all)."""

    start: datetime
    end: datetime
    unit: str = "week"
    team: Any = None

    def steps(self) -> list[datetime]:
        """The beginning of each week or month of the period, in the reader's zone."""
        first = timezone.localtime(self.start).replace(hour=0, minute=0, second=0, microsecond=0)
        first = first - timedelta(days=first.weekday()) if self.unit == "week" else first.replace(day=1)
        found = []
        day = first.replace(tzinfo=None)
        zone = timezone.get_current_timezone()
        while (moment := day.replace(tzinfo=zone)) < self.end:
            found.append(moment)
            day = day + timedelta(days=7) if self.unit == "week" else (day + timedelta(days=32)).replace(day=1)
        return found

    def row(self, step: datetime, values: Sequence[float | None]) -> Row:
        """The figures of a step."""
        if self.unit == "week":
            return Row(date_format(step, "SHORT_DATE_FORMAT"), values, date_format(step, "MONTH_DAY_FORMAT"))
        return Row(date_format(step, "F Y"), values, date_format(step, "M y"))

    def by_step(self, rows: Any, moment: str) -> Any:
        """The rows of the period, grouped by the step in which `moment` lies; annotate what is to be counted."""
        found = rows.filter(**{f"{moment}__gte": self.start, f"{moment}__lt": self.end})
        step = TRUNCATE[self.unit](moment, tzinfo=timezone.get_current_timezone())
        return found.annotate(step=step).order_by().values("step")


@dataclass(frozen=True, slots=True)
class Column:
    """One figure: `definition` says how it comes from our data. `unit` stands behind the numbers."""

    key: str
    label: Any
    definition: Any
    unit: str = ""
    decimals: int = 0
    tone: str = "blue"


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that page, CSV and API show."""

    slug: str
    title: Any
    first: Any
    columns: Sequence[Column]
    rows: list[Row]
    charts: list[Chart] = field(default_factory=list)


def values_of(found: dict[Any, dict[str, Any]], step: datetime, *names: str) -> list[Any]:
    """The figures of a step, 0 where nothing was counted."""
    row = found.get(step, {})
    return [row.get(name) or 0 for name in names]


def percent(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole else None


def hours(duration: timedelta | None) -> float | None:
    return duration.total_seconds() / 3600 if duration is not None else None


def chart(title: Any, rows: list[Row], columns: Sequence[Column], keys: Sequence[str], shape: str, first: Any) -> Chart:
    """A chart of some columns of the same unit."""
    places = {column.key: place for place, column in enumerate(columns)}
    chosen = [columns[places[key]] for key in keys]
    series = [
        Series(str(column.label), column.tone, [row.values[places[column.key]] for row in rows], shape)
        for column in chosen
    ]
    return Chart(
        str(title), [row.short or row.label for row in rows], series, unit=chosen[0].unit, decimals=chosen[0].decimals,
        first=str(first),
    )  # fmt: skip
