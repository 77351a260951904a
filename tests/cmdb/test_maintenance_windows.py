"""When a maintenance window is open: weekly, by the site's clock, through changes of that clock."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from cmdb.models import CIClass, ConfigurationItem, MaintenanceWindow
from cmdb.windows import occurrence
from tests.factories import make_ci

BERLIN = "Europe/Berlin"
ZONES = [
    "UTC",
    BERLIN,
    "America/New_York",
    "Asia/Kolkata",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    "Australia/Lord_Howe",
]


def at(text: str, zone: str = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def test_a_night_from_monday_to_friday() -> None:
    night = ("12345", time(22), timedelta(hours=6), BERLIN)
    friday = (at("2026-11-06 22:00"), at("2026-11-07 04:00"))
    assert occurrence(*night, at("2026-11-06 21:59")) == friday
    assert occurrence(*night, at("2026-11-06 22:00")) == friday
    assert occurrence(*night, at("2026-11-07 03:59")) == friday, "Saturday morning belongs to Friday's night"
    assert occurrence(*night, at("2026-11-07 04:00"))[0] == at("2026-11-09 22:00")


@pytest.mark.parametrize(
    ("day", "begin", "end"),
    [
        ("2026-03-29", "2026-03-29 01:30", "2026-03-29 05:30"),  # the clock goes forward at two
        ("2026-10-25", "2026-10-25 01:30", "2026-10-25 03:30"),  # and back at three
    ],
)
def test_three_hours_are_three_hours_when_the_clock_is_changed(day: str, begin: str, end: str) -> None:
    found = occurrence("1234567", time(1, 30), timedelta(hours=3), BERLIN, at(f"{day} 01:30"))
    assert found == (at(begin), at(end))
    assert found[1] - found[0] == timedelta(hours=3)


def test_a_start_that_the_clock_skips_is_moved_and_one_that_comes_twice_is_the_first() -> None:
    short = timedelta(minutes=10)
    assert occurrence("7", time(2, 30), short, BERLIN, at("2026-03-29 00:00"))[0] == at("2026-03-29 03:30")
    assert occurrence("7", time(2, 30), short, BERLIN, at("2026-10-25 00:00"))[0] == datetime(
        2026, 10, 25, 0, 30, tzinfo=UTC
    )


@given(
    weekdays=st.sets(st.sampled_from("1234567"), min_size=1).map(lambda days: "".join(sorted(days))),
    start=st.times().map(lambda value: value.replace(microsecond=0)),
    minutes=st.integers(1, 7 * 24 * 60),
    zone=st.sampled_from(ZONES),
    now=st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),
)
def test_the_occurrence_is_the_first_that_has_not_ended(
    weekdays: str, start: time, minutes: int, zone: str, now: datetime
) -> None:
    length = timedelta(minutes=minutes)
    begin, end = occurrence(weekdays, start, length, zone, now)

    days = (now.astimezone(ZoneInfo(zone)).date() + timedelta(days=n) for n in range(-20, 20))
    starts = [
        datetime.combine(day, start, tzinfo=ZoneInfo(zone)).astimezone(UTC)
        for day in days
        if str(day.isoweekday()) in weekdays
    ]
    assert begin == min(one for one in starts if one + length > now)
    assert end - begin == length
    assert begin - now < timedelta(days=8)


@pytest.mark.parametrize(
    "values",
    [{"weekdays": ""}, {"weekdays": "8"}, {"weekdays": "11"}, {"weekdays": "12 "}, {"zone": "Mars/Olympus"},
     {"zone": "../etc"}, {"zone": ""}, {"minutes": 0}, {"minutes": 10081}],
)  # fmt: skip
def test_what_is_no_window_is_refused(values: dict[str, object]) -> None:
    good = {"name": "night", "weekdays": "12345", "start": time(22), "minutes": 60, "zone": BERLIN}
    MaintenanceWindow(**good).clean_fields()
    with pytest.raises(ValidationError):
        MaintenanceWindow(**good | values).clean_fields()


@pytest.mark.django_db
def test_a_ci_has_its_own_window_or_that_of_its_class_and_a_copy_none() -> None:
    night, noon = (
        MaintenanceWindow.objects.create(name=name, start=start, minutes=60)
        for name, start in (("night", time(22)), ("noon", time(12)))
    )
    kind = CIClass.objects.create(name="Till", slug="till", maintenance_window=night)
    one, other = make_ci("one", ci_class=kind), make_ci("other", ci_class=kind, maintenance_window=noon)
    copy = make_ci("copy", ci_class=kind, copy_of=one)
    free = make_ci("free")
    assert [ConfigurationItem.objects.get(pk=ci.pk).window for ci in (one, other, copy, free)] == [
        night, noon, None, None,
    ]  # fmt: skip
