"""What stands against a planned time, moving it in spite of that, and when it would be free."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.db import connection

from changes.conflicts import find_conflicts, next_slots
from changes.freezes import declare_freeze
from changes.models import Change
from changes.services import approve_change, edit_change, reschedule_change, schedule_change
from changes.slots import common, first_fits, free_times, merged
from cmdb.models import MaintenanceWindow, Relation
from tests.factories import NOW, make_ci, make_user
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused, TransitionRefused
from tickets.services import create_ticket

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = NOW + DAY


@pytest.fixture
def cast(db: None) -> dict[str, Any]:
    """A change manager, an author, a stranger, and two CIs."""
    return {
        "manager": make_user("cora", "change manager"),
        "author": make_user("chris", "change requester"),
        "outsider": make_user("otto", "requester"),
        "ci": make_ci("srv-1"),
        "other_ci": make_ci("srv-2"),
    }


def planned(
    cast: dict[str, Any], title: str, start: datetime | None, hours: float = 2, *cis: Any, **more: Any
) -> Change:
    end = start + hours * HOUR if start is not None else None
    state = more.pop("state", Change.State.SCHEDULED)
    change = create_ticket(
        Change, actor=cast["author"], now=NOW, title=title, planned_start=start, planned_end=end, **more
    )
    Change.objects.filter(pk=change.pk).update(state=state)
    change.refresh_from_db()
    change.affected_cis.set(cis)
    return change


def numbers(change: Change, viewer: Any, start: datetime = START, hours: float = 2) -> list[str]:
    return [found.number for found in find_conflicts(change, start, start + hours * HOUR, viewer=viewer).conflicts]


def test_two_changes_conflict_when_they_share_a_ci_and_time(cast: dict[str, Any]) -> None:
    mine = planned(cast, "Mine", START, 2, cast["ci"])
    other = planned(cast, "Other", START + HOUR, 2, cast["ci"], cast["other_ci"])
    planned(cast, "Elsewhere", START, 2, cast["other_ci"])
    planned(cast, "Only a draft", START, 2, cast["ci"], state=Change.State.DRAFT)
    planned(cast, "Done", START, 2, cast["ci"], state=Change.State.IMPLEMENTED)
    found = find_conflicts(mine, START, START + 2 * HOUR, viewer=cast["manager"]).conflicts
    assert [(one.kind, one.number, one.cis) for one in found] == [("change", other.number, ("srv-1",))]


@pytest.mark.parametrize(("offset", "conflicts"), [(-2, False), (-1.99, True), (1.99, True), (2, False)])
def test_what_ends_when_the_other_begins_is_no_conflict(cast: dict[str, Any], offset: float, conflicts: bool) -> None:
    mine = planned(cast, "Mine", START, 2, cast["ci"])
    planned(cast, "Other", START + offset * HOUR, 2, cast["ci"])
    assert bool(numbers(mine, cast["manager"])) is conflicts


def test_a_freeze_conflicts_and_with_an_emergency_only_where_it_binds_it(cast: dict[str, Any]) -> None:
    times = {"starts_at": START, "ends_at": START + HOUR, "reason": "Books."}
    freeze = declare_freeze(actor=cast["manager"], now=NOW, name="Year end", **times)
    normal = planned(cast, "Normal", START)
    emergency = planned(cast, "Emergency", START, change_type=Change.Type.EMERGENCY)
    assert numbers(normal, cast["manager"]) == [freeze.number]
    assert numbers(emergency, cast["manager"]) == []
    strict = declare_freeze(actor=cast["manager"], now=NOW, name="All", binds_emergencies=True, **times)
    assert numbers(emergency, cast["manager"]) == [strict.number]


def test_who_may_not_see_the_other_change_learns_only_that_there_is_one(cast: dict[str, Any]) -> None:
    mine = planned(cast, "Mine", START, 2, cast["ci"], requester=cast["outsider"])
    other = planned(cast, "Secret name", START, 2, cast["ci"])
    found = find_conflicts(mine, START, START + HOUR, viewer=cast["outsider"])
    assert [(one.number, one.start, one.cis) for one in found.conflicts] == [("", None, ())]
    assert "Secret" not in str(found)
    assert other.number not in str(found)
    assert found.digest == find_conflicts(mine, START, START + HOUR, viewer=cast["manager"]).digest != ""


def test_services_above_a_ci_and_windows_are_hints(cast: dict[str, Any]) -> None:
    shop, web = make_ci("shop"), make_ci("web")
    Relation.objects.create(source=web, target=cast["ci"])
    Relation.objects.create(source=shop, target=web)
    window = MaintenanceWindow.objects.create(name="night", start=time(22), minutes=240, zone="UTC")
    type(cast["ci"]).objects.filter(pk=cast["ci"].pk).update(maintenance_window=window)
    mine = planned(cast, "Mine", START, 2, cast["ci"])
    near = planned(cast, "Shop window", START, 2, shop)
    found = find_conflicts(mine, START, START + 2 * HOUR, viewer=cast["manager"])
    assert found.conflicts == ()
    assert [(hint.kind, hint.number or hint.cis or hint.title) for hint in found.hints] == [
        ("window", "night"), ("service", ("shop", "web")), ("related", near.number),
    ]  # fmt: skip
    night = START.replace(hour=22)
    assert [hint.kind for hint in find_conflicts(mine, night, night + 4 * HOUR, viewer=cast["manager"]).hints] == [
        "service"
    ]


def test_moving_into_a_conflict_needs_that_one_saw_exactly_this_one(cast: dict[str, Any]) -> None:
    mine = planned(cast, "Mine", START + DAY, 2, cast["ci"])
    other = planned(cast, "Other", START, 2, cast["ci"])
    to = {"planned_start": START, "planned_end": START + HOUR}
    with pytest.raises(ConditionRefused, match=other.number) as refused:
        reschedule_change(mine, actor=cast["manager"], now=NOW, seen_conflicts="", **to)
    assert refused.value.code == "schedule_conflicts"
    mine.refresh_from_db()
    assert mine.planned_start == START + DAY
    seen = find_conflicts(mine, *to.values(), viewer=cast["manager"]).digest
    third = planned(cast, "Third", START, 1, cast["ci"])
    with pytest.raises(ConditionRefused, match=third.number):
        reschedule_change(mine, actor=cast["manager"], now=NOW, seen_conflicts=seen, **to)
    seen = find_conflicts(mine, *to.values(), viewer=cast["manager"]).digest
    reschedule_change(mine, actor=cast["manager"], now=NOW, seen_conflicts=seen, **to)
    mine.refresh_from_db()
    assert mine.planned_start == START
    said = list(mine.entries.order_by("pk").values_list("text", flat=True))
    assert said[-1] == f"Planned in spite of {other.number}, {third.number}."
    assert mine.history.filter(planned_start=START).exists()


def test_moving_obeys_rights_states_and_the_version_that_was_read(cast: dict[str, Any]) -> None:
    to = {"planned_start": START, "planned_end": START + HOUR, "seen_conflicts": ""}
    scheduled = planned(cast, "Mine", START + DAY, 2, cast["ci"])
    with pytest.raises(PermissionRefused):
        reschedule_change(scheduled, actor=cast["author"], now=NOW, **to)
    draft = planned(cast, "Draft", START + DAY, 2, state=Change.State.DRAFT)
    reschedule_change(draft, actor=cast["author"], now=NOW, expected_version=draft.version, **to)
    with pytest.raises(TransitionRefused) as refused:
        reschedule_change(
            draft, actor=cast["author"], now=NOW, expected_version=1, **{**to, "planned_end": START + DAY}
        )
    assert refused.value.code == "edit_conflict"
    done = planned(cast, "Done", START + DAY, 2, state=Change.State.IMPLEMENTED)
    with pytest.raises(TransitionRefused):
        reschedule_change(done, actor=cast["manager"], now=NOW, **to)
    with pytest.raises(InvalidInput):
        reschedule_change(scheduled, actor=cast["manager"], now=NOW, planned_start=START, planned_end=START)


def test_a_moved_change_keeps_its_approval(cast: dict[str, Any]) -> None:
    change = planned(cast, "Mine", START, 2, cast["ci"], state=Change.State.ASSESSED)
    approve_change(change, actor=make_user("cab", "CAB member"), now=NOW)
    schedule_change(change, actor=cast["manager"], now=NOW, planned_start=START, planned_end=START + HOUR)
    to = {"planned_start": START + DAY, "planned_end": START + DAY + HOUR}
    reschedule_change(change, actor=cast["manager"], now=NOW, seen_conflicts="", **to)
    assert change.state == Change.State.SCHEDULED
    edit_change(change, actor=cast["manager"], now=NOW, title="Something else")
    assert change.state == Change.State.DRAFT


def test_the_next_slot_avoids_freezes_and_other_changes_and_stays_in_the_windows(cast: dict[str, Any]) -> None:
    window = MaintenanceWindow.objects.create(name="night", start=time(22), minutes=360, zone="UTC")
    type(cast["ci"]).objects.filter(pk=cast["ci"].pk).update(maintenance_window=window)
    mine = planned(cast, "Mine", START, 3, cast["ci"], cast["other_ci"])
    tonight = NOW.replace(hour=22, minute=0)
    planned(cast, "Other", tonight + HOUR, 2, cast["other_ci"])
    declare_freeze(
        actor=cast["manager"],
        now=NOW,
        name="Books",
        reason="x",
        starts_at=tonight + DAY,
        ends_at=tonight + DAY + 2 * HOUR,
    )
    slots = next_slots(mine, now=NOW)
    # Tonight only 1 to 4 is left of 22 to 4; tomorrow 0 to 4; then the whole night.
    assert slots == [
        (tonight + 3 * HOUR, tonight + 6 * HOUR),
        (tonight + DAY + 2 * HOUR, tonight + DAY + 5 * HOUR),
        (tonight + 2 * DAY, tonight + 2 * DAY + 3 * HOUR),
    ]
    for start, end in slots:
        found = find_conflicts(mine, start, end, viewer=cast["manager"])
        assert found.conflicts == found.hints == ()
    assert next_slots(mine, now=NOW, length=7 * HOUR) == []
    assert next_slots(mine, now=NOW, after=datetime(2999, 6, 1, tzinfo=UTC)) == []
    with pytest.raises(InvalidInput):
        next_slots(mine, now=NOW, length=61 * DAY)


def test_conflicts_cost_the_same_number_of_queries_at_any_size(
    cast: dict[str, Any], django_assert_num_queries: Any
) -> None:
    mine = planned(cast, "Mine", START, 2, cast["ci"])
    Relation.objects.create(source=cast["other_ci"], target=cast["ci"])
    viewer = cast["manager"]
    viewer.get_all_permissions()
    for size in (1, 12):
        for n in range(size):
            planned(cast, f"Other {size} {n}", START, 2, cast["ci"])
            planned(cast, f"Near {size} {n}", START, 2, cast["other_ci"])
        with django_assert_num_queries(9):
            find_conflicts(mine, START, START + HOUR, viewer=viewer)


def test_planned_times_are_found_by_their_index(cast: dict[str, Any]) -> None:
    for n in range(50):
        planned(cast, f"Change {n}", START + n * DAY)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = Change.objects.planned_between(START, START + HOUR).order_by().explain()
    assert "change_planned_period" in plan, plan


def test_intervals() -> None:
    t = [NOW + n * HOUR for n in range(10)]
    assert merged([(t[2], t[3]), (t[0], t[1]), (t[1], t[2]), (t[5], t[6])]) == [(t[0], t[3]), (t[5], t[6])]
    assert common([(t[0], t[3]), (t[4], t[6])], [(t[2], t[5])]) == [(t[2], t[3]), (t[4], t[5])]
    assert free_times(t[1], t[8], busy=[(t[0], t[2]), (t[4], t[5])]) == [(t[2], t[4]), (t[5], t[8])]
    assert free_times(t[1], t[2], busy=[(t[0], t[9])]) == []
    odd = t[0] + timedelta(minutes=7)
    assert first_fits([(odd, t[2])], HOUR, count=3) == [(t[0] + timedelta(minutes=15), t[1] + timedelta(minutes=15))]
    assert len(first_fits([(t[0], t[0] + 9 * DAY)], HOUR, count=4)) == 4
