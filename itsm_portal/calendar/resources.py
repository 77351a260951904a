"""The rows of the time line: CIs, the services that stand on them, or groups, each with what concerns it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Value

from changes.models import Change
from cmdb.impact import services_above
from cmdb.models import CIGroup, ConfigurationItem, MaintenanceWindow
from itsm_portal.calendar.entries import Entry
from releases.models import Release
from tickets.links import page_of_object

ROWS_PER_PAGE = 25
# How far up the relations a service is still said to stand on a CI.
DEPTH = 3

_changed = Change.affected_cis.through.objects
_released = Release.changes.through.objects


@dataclass(slots=True)
class Row:
    """A resource and what concerns it; `window` is when a CI may be changed, None: at any time."""

    label: str
    url: str
    entries: list[Entry] = field(default_factory=list)
    window: MaintenanceWindow | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """One page of rows; `total` over all pages."""

    rows: list[Row]
    total: int


def rows_of(kind: str, entries: Sequence[Entry], user: Any, *, page: int) -> Rows:
    """Rows of this kind (ci, service, group) for the entries, a page of those that the person may see."""
    by_ci = _entries_by_ci(entries)
    keys = sorted(by_ci)
    if kind == "group":
        return _groups(by_ci, keys, user, page)
    if kind == "service":
        by_ci = _of_services(by_ci, keys)
    return _page_of_cis(by_ci, user, page)


def _entries_by_ci(entries: Sequence[Entry]) -> dict[int, set[Entry]]:
    """By the CIs of the RFCs: of a change its own, of a release, rollout or wave those of its RFCs."""
    changes = {entry.pk: entry for entry in entries if entry.kind == "change"}
    found: dict[int, set[Entry]] = defaultdict(set)
    links = _changed.filter(change__in=list(changes))
    for change, ci in links.values_list("change_id", "configurationitem_id"):
        found[ci].add(changes[change])
    by_release = defaultdict(list)
    for entry in entries:
        if entry.release:
            by_release[entry.release].append(entry)
    rows = _released.filter(release__in=list(by_release), change__affected_cis__isnull=False)
    for release, ci in rows.values_list("release_id", "change__affected_cis").distinct():
        found[ci].update(by_release[release])
    return found


def _page_of_cis(by_ci: dict[int, set[Entry]], user: Any, page: int) -> Rows:
    cis = ConfigurationItem.objects.visible_to(user).filter(pk__in=list(by_ci)).order_by("name")
    total = cis.count()
    shown = cis.select_related("maintenance_window", "ci_class__maintenance_window")
    shown = shown[(page - 1) * ROWS_PER_PAGE : page * ROWS_PER_PAGE]
    return Rows([Row(ci.name, page_of_object(ci), _sorted(by_ci[ci.pk]), ci.window) for ci in shown], total)


def _of_services(by_ci: dict[int, set[Entry]], keys: list[int]) -> dict[int, set[Entry]]:
    """What a service is: a CI that depends on others. It has what concerns it or what it stands on."""
    found: dict[int, set[Entry]] = defaultdict(set)
    for service, base in services_above(keys, depth=DEPTH):
        found[service] |= by_ci[base]
    return found


def _groups(by_ci: dict[int, set[Entry]], keys: list[int], user: Any, page: int) -> Rows:
    groups = CIGroup.objects.visible_to(user).order_by("name")
    total = groups.count()
    shown = list(groups[(page - 1) * ROWS_PER_PAGE : page * ROWS_PER_PAGE])
    found: dict[int, set[Entry]] = {group.pk: set() for group in shown}
    members = [
        group.members().filter(pk__in=keys).order_by().annotate(group=Value(group.pk)).values_list("group", "pk")
        for group in shown
    ]
    if members and keys:
        # All groups with one statement.
        for group, ci in members[0].union(*members[1:], all=True):
            found[group] |= by_ci[ci]
    return Rows([Row(group.name, page_of_object(group), _sorted(found[group.pk])) for group in shown], total)


def _sorted(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry.start, entry.key))
