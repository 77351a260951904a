"""What stands against the planned time of a change, what one should know about it, and when it would be free.

A conflict is another change with a CI in common at the same time, or a freeze. Services that depend on a CI, changes to
those, and maintenance windows that the time leaves are hints: they hinder nobody.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from changes.models import Change, Freeze
from changes.slots import Interval, common, first_fits, free_times, merged
from cmdb.impact import dependents_of
from cmdb.models import ConfigurationItem, MaintenanceWindow
from tickets.exceptions import InvalidInput
from tickets.links import page_of_object

KINDS = ("change", "freeze", "window", "service", "related")
# How many of a kind are named.
SHOWN = 20
# How far ahead a free slot is looked for.
HORIZON = timedelta(days=90)
LONGEST = timedelta(days=60)
USUAL = timedelta(hours=1)

# Where reckoning with times ends.
FIRST, LAST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)

_links = Change.affected_cis.through.objects


@dataclass(frozen=True, slots=True)
class Conflict:
    """One thing that stands against a time, or, as a hint, belongs to it.

    `kind`: change, freeze; window, service, related (another change to a CI that depends on one of ours). `number` is
    empty for what the reader may not see; `cis` are names that he may.
    """

    kind: str
    number: str
    title: str
    state: str = ""
    state_label: str = ""
    start: datetime | None = None
    end: datetime | None = None
    url: str = ""
    cis: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """All about one planned time, as one person may see it. `digest` names the conflicts exactly, whoever reads."""

    conflicts: tuple[Conflict, ...] = ()
    hints: tuple[Conflict, ...] = ()
    digest: str = ""


def find_conflicts(change: Change, start: datetime | None, end: datetime | None, *, viewer: Any) -> Findings:
    """What stands against this time for the change. A constant number of queries; without a start, nothing."""
    if start is None or not FIRST < start < LAST:
        return Findings()
    end = _end_of(start, end)
    freezes, others = _freezes(change, start, end), _others(change, start, end)
    cis = list(_links.filter(change=change).values_list("configurationitem_id", flat=True))
    dependents = dependents_of(cis) if cis else []
    related = _changes_on(dependents, start, end).exclude(pk__in=[change.pk, *(other.pk for other in others)])
    near = list(related.order_by("planned_start", "pk")[:SHOWN])
    visible = Change.objects.visible_to(viewer).filter(pk__in=[other.pk for other in [*others, *near]])
    seen = set(visible.values_list("pk", flat=True))
    shared = _shared_names(others, cis, viewer)
    conflicts = [_of_freeze(freeze) for freeze in freezes]
    conflicts += [_of_change("change", other, other.pk in seen, shared.get(other.pk, ())) for other in others]
    hints = _outside_windows(cis, start, end)
    if dependents:
        names = ConfigurationItem.objects.visible_to(viewer).filter(pk__in=dependents).order_by("name")
        found = tuple(names.values_list("name", flat=True)[:SHOWN])
        text = ngettext("%(count)d CI depends on them", "%(count)d CIs depend on them", len(dependents))
        hints.append(Conflict("service", "", text % {"count": len(dependents)}, cis=found))
    hints += [_of_change("related", other, True) for other in near if other.pk in seen]
    return Findings(tuple(conflicts), tuple(hints), _digest(freezes, others))


def conflicts_digest(change: Change, start: datetime, end: datetime) -> str:
    """Names what conflicts with this time, exactly; empty: nothing. Other times of the others give another one."""
    return _digest(_freezes(change, start, end), _others(change, start, end))


def conflicts_text(change: Change, start: datetime, end: datetime) -> str:
    """The numbers of what conflicts with this time, for a sentence."""
    found: list[Freeze | Change] = [*_freezes(change, start, end), *_others(change, start, end)]
    return ", ".join(one.number for one in found[:SHOWN]) + (" …" if len(found) > SHOWN else "")


def next_slots(
    change: Change, *, now: datetime, after: datetime | None = None, length: timedelta | None = None, count: int = 3
) -> list[Interval]:
    """The next free times for the change, from `after` (at least now) on, within 90 days; none: an empty list.

    So long as `length`, else as its planned time, else an hour. Free is a time without a freeze that binds it and
    without another change to one of its CIs, inside the maintenance windows of all of them.
    """
    if length is None:
        has_both = change.planned_start is not None and change.planned_end is not None
        length = change.planned_end - change.planned_start if has_both else USUAL  # type: ignore[operator]
    if not timedelta(0) < length <= LONGEST:
        raise InvalidInput(_("A slot lasts from a minute to 60 days."), field="minutes")
    after = max(after or now, now)
    if after > LAST:
        return []
    until = after + HORIZON + length
    busy: list[Interval] = [(freeze.starts_at, freeze.ends_at) for freeze in _freezes(change, after, until)]
    for other in _others(change, after, until):
        assert other.planned_start is not None
        busy.append((other.planned_start, _end_of(other.planned_start, other.planned_end)))
    free = free_times(after, until, busy=busy)
    cis = _links.filter(change=change).values_list("configurationitem_id", flat=True)
    for window in _windows(list(cis)):
        free = common(free, merged(window.occurrences(after, until)))
    return first_fits(free, length, count=count)


def _end_of(start: datetime, end: datetime | None) -> datetime:
    return end if end is not None and end > start else start + USUAL


def _freezes(change: Change, start: datetime, end: datetime) -> list[Freeze]:
    rows = Freeze.objects.filter(starts_at__lt=end, ends_at__gt=start).order_by("starts_at", "pk")
    if change.change_type == Change.Type.EMERGENCY:
        rows = rows.filter(binds_emergencies=True)
    return list(rows)


def _others(change: Change, start: datetime, end: datetime) -> list[Change]:
    mine = _links.filter(change=change).values("configurationitem")
    return list(_changes_on(mine, start, end).exclude(pk=change.pk).order_by("planned_start", "pk"))


def _changes_on(cis: Any, start: datetime, end: datetime) -> Any:
    """Planned changes to one of these CIs that somebody counts on, at that time."""
    on_one = _links.filter(change=OuterRef("pk"), configurationitem__in=cis)
    rows = Change.objects.occupying().planned_between(start, end).filter(Exists(on_one))
    return rows.only("title", "state", "planned_start", "planned_end")


def _shared_names(others: Sequence[Change], cis: Sequence[int], viewer: Any) -> dict[int, tuple[str, ...]]:
    if not others:
        return {}
    rows = _links.filter(change__in=others, configurationitem__in=cis)
    visible = rows.filter(configurationitem__in=ConfigurationItem.objects.visible_to(viewer).values("pk"))
    found: dict[int, tuple[str, ...]] = {}
    for key, name in visible.order_by("configurationitem__name").values_list("change", "configurationitem__name")[:200]:
        found[key] = (*found.get(key, ()), name)
    return found


def _windows(cis: Sequence[int]) -> list[MaintenanceWindow]:
    if not cis:
        return []
    return list(MaintenanceWindow.objects.of_cis(ConfigurationItem.objects.filter(pk__in=cis)))


def _outside_windows(cis: Sequence[int], start: datetime, end: datetime) -> list[Conflict]:
    found = []
    for window in _windows(cis) if end - start <= LONGEST else ():
        open_times = merged(window.occurrences(start, end))
        if not any(begin <= start and end <= close for begin, close in open_times):
            found.append(Conflict("window", "", window.name))
    return found


def _of_freeze(freeze: Freeze) -> Conflict:
    url = page_of_object(freeze)
    return Conflict("freeze", freeze.number, freeze.name, "freeze", "", freeze.starts_at, freeze.ends_at, url)


def _of_change(kind: str, other: Change, is_visible: bool, cis: tuple[str, ...] = ()) -> Conflict:
    if not is_visible:
        return Conflict(kind, "", _("a change that you may not see"), cis=cis)
    label, url = other.get_state_display(), page_of_object(other)
    return Conflict(
        kind, other.number, other.title, other.state, label, other.planned_start, other.planned_end, url, cis
    )


def _digest(freezes: Sequence[Freeze], others: Sequence[Change]) -> str:
    keys = [f"{one.number} {one.starts_at.isoformat()} {one.ends_at.isoformat()}" for one in freezes]
    keys += [f"{one.number} {one.planned_start} {one.planned_end}" for one in others]
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32] if keys else ""
