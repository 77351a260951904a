"""What stands in the calendar: changes, releases, rollouts, waves, freezes and maintenance windows of a period.

Each kind is read with a fixed number of queries, through `visible_to` of the person who looks.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.db.models import Max, Min, Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from changes.models import Change, Freeze
from changes.services import may_reschedule
from cmdb.models import ConfigurationItem, MaintenanceWindow
from distribution.models import Deployment
from itsm_portal.calendar.planned_waves import Span, earliest_waves
from releases.models import Release, Rollout, Wave, ran_between
from tickets.appearance import KINDS as KIND_ICONS
from tickets.appearance import Appearance, appearance_of
from tickets.links import page_of_object

# In this order they are drawn; freezes first, since they concern everything.
KINDS: dict[str, Any] = {
    "freeze": gettext_lazy("Freezes"),
    "change": gettext_lazy("Changes"),
    "release": gettext_lazy("Releases"),
    "rollout": gettext_lazy("Rollouts"),
    "wave": gettext_lazy("Waves"),
    "window": gettext_lazy("Maintenance windows"),
}
# What is read of a kind at most, the earliest first.
MOST = 3000
# How long something without an end is drawn.
POINT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing with a time. `key` is stable and unique; `is_actual`: it happened or happens, otherwise it is planned.

    `moves_to` is the address where this person may give it another time, empty: he may not. `release` is the id of the
    release that it belongs to, 0: none.
    """

    kind: str
    key: str
    number: str
    title: str
    state: str
    state_label: str
    start: datetime
    end: datetime
    url: str
    is_actual: bool = False
    is_cancelled: bool = False
    moves_to: str = ""
    updated_at: datetime | None = None
    pk: int = 0
    release: int = 0

    @property
    def look(self) -> Appearance:
        return appearance_of(self.state, self.kind)

    @property
    def kind_icon(self) -> str:
        return KIND_ICONS[self.kind]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of it somebody wants to see. `ci` keeps what concerns one CI; freezes concern all."""

    kinds: tuple[str, ...] = tuple(KINDS)
    states: tuple[str, ...] = ()
    text: str = ""
    only_mine: bool = False
    ci: int | None = None
    with_cancelled: bool = False


@dataclass(frozen=True, slots=True)
class _Question:
    user: Any
    start: datetime
    end: datetime
    now: datetime
    wanted: Wanted


def entries_between(user: Any, start: datetime, end: datetime, *, now: datetime, wanted: Wanted) -> list[Entry]:
    """All entries with a part in [start, end) that the person may see, by their start."""
    question = _Question(user, start, end, now, wanted)
    found = [entry for kind in KINDS if kind in wanted.kinds for entry in islice(_READERS[kind](question), MOST)]
    if wanted.states:
        found = [entry for entry in found if entry.state in wanted.states]
    if wanted.text:
        text = wanted.text.lower()
        found = [entry for entry in found if text in f"{entry.number} {entry.title}".lower()]
    order = list(KINDS)
    return sorted(found, key=lambda entry: (entry.start, order.index(entry.kind), entry.key))


def _mine(question: _Question, rows: Any) -> Any:
    user = question.user
    if not question.wanted.only_mine:
        return rows
    return rows.filter(Q(requester=user) | Q(assignee=user) | Q(created_by=user))


def _changes(question: _Question) -> Iterator[Entry]:
    rows = Change.objects.visible_to(question.user).planned_between(question.start, question.end)
    if not question.wanted.with_cancelled:
        rows = rows.exclude(state__in=[Change.State.CANCELLED, Change.State.REJECTED])
    if question.wanted.ci is not None:
        rows = rows.filter(affected_cis=question.wanted.ci)
    if question.wanted.states:
        rows = rows.filter(state__in=question.wanted.states)
    fields = ("title", "state", "planned_start", "planned_end", "updated_at")
    for change in _mine(question, rows).only(*fields).order_by("planned_start", "pk")[:MOST]:
        page = page_of_object(change)
        is_cancelled = change.state in {Change.State.CANCELLED, Change.State.REJECTED}
        yield _entry(
            "change", change, change.planned_start, change.planned_end, change.title, page, is_cancelled=is_cancelled,
            moves_to=f"{page}reschedule/" if may_reschedule(change, question.user) else "",
        )  # fmt: skip


def _releases(question: _Question) -> Iterator[Entry]:
    for release, start, end in _planned_releases(question):
        is_cancelled = release.state == Release.State.CANCELLED
        yield _entry(
            "release", release, start, end, release.title, page_of_object(release), is_cancelled=is_cancelled,
            release=release.pk,
        )  # fmt: skip


def _planned_releases(question: _Question) -> Iterator[tuple[Release, datetime, datetime | None]]:
    """Releases with the time that is planned for them: an ordered start, else by their RFCs."""
    of_changes = Release.changes.through.objects.filter(
        change__in=Change.objects.planned_between(question.start, question.end)
    )
    ordered = Q(start_at__gte=question.start, start_at__lt=question.end)
    rows = Release.objects.visible_to(question.user).filter(ordered | Q(pk__in=of_changes.values("release")))
    if not question.wanted.with_cancelled:
        rows = rows.exclude(state=Release.State.CANCELLED)
    if question.wanted.ci is not None:
        rows = rows.filter(changes__affected_cis=question.wanted.ci)
    found = list(_mine(question, rows).order_by("pk").distinct()[:MOST])
    times = Release.objects.filter(pk__in=[release.pk for release in found]).order_by()
    planned = times.annotate(first=Max("changes__planned_start"), last=Min("changes__planned_end"))
    by_key = {key: (first, last) for key, first, last in planned.values_list("pk", "first", "last")}
    for release in found:
        first, last = by_key.get(release.pk, (None, None))
        start = release.start_at or first
        if start is None:
            continue
        end = last if last is not None and last > start else start + POINT
        if start < question.end and end > question.start:
            yield release, start, end


def _rollouts(question: _Question) -> Iterator[Entry]:
    rows = _visible_rollouts(question).filter(ran_between(question.start, question.end))
    for rollout in rows.select_related("release").order_by("started_at", "pk")[:MOST]:
        end = rollout.finished_at or max(question.now, rollout.started_at)
        if end <= question.start:
            continue  # it runs now, and the period lies ahead
        page = page_of_object(rollout)
        yield _entry(
            "rollout", rollout, rollout.started_at, end, rollout.release.title, page, is_actual=True,
            release=rollout.release_id,
        )  # fmt: skip


def _visible_rollouts(question: _Question) -> Any:
    rows = Rollout.objects.visible_to(question.user)
    if question.wanted.only_mine:
        rows = rows.filter(release__in=_mine(question, Release.objects.all()))
    if question.wanted.ci is not None:
        there = Deployment.objects.filter(ci=question.wanted.ci, batch__wave__isnull=False)
        rows = rows.filter(pk__in=there.values("batch__wave__rollout"))
    return rows


def _waves(question: _Question) -> Iterator[Entry]:
    rows = Wave.objects.filter(ran_between(question.start, question.end), rollout__in=_visible_rollouts(question))
    if question.wanted.ci is not None:
        rows = rows.filter(batch__deployments__ci=question.wanted.ci).distinct()
    for wave in rows.select_related("rollout__release").order_by("started_at", "pk")[:MOST]:
        assert wave.started_at is not None
        end = wave.finished_at or max(question.now, wave.started_at)
        if end <= question.start:
            continue
        yield _of_wave(wave.rollout, wave.number, wave.kind, wave.state, wave.started_at, end, is_actual=True)
    if question.end <= question.now:
        return  # nothing is planned for what is over
    waiting = _visible_rollouts(question).active().select_related("release").prefetch_related("waves").order_by("pk")
    for rollout in waiting[:MOST]:
        for span in earliest_waves(rollout.policy, rollout.waves.all(), start=None, now=question.now):
            yield from _of_plan(rollout, rollout.release, span, question)
    if question.wanted.ci is not None:
        return  # whom a wave takes is known when it is frozen
    for release, start, _end in _planned_releases(question):
        if release.state in {Release.State.PLANNED, Release.State.BUILT, Release.State.TESTING, Release.State.READY}:
            for span in earliest_waves(release.policy, (), start=max(start, question.now), now=question.now):
                yield from _of_plan(release, release, span, question)


def _of_plan(owner: Any, release: Release, span: Span, question: _Question) -> Iterator[Entry]:
    if span.start < question.end and span.end > question.start:
        yield _of_wave(owner, span.number, "forward", "waiting", span.start, span.end)


def _of_wave(
    owner: Any, number: int, kind: str, state: str, start: datetime, end: datetime, *, is_actual: bool = False
) -> Entry:
    release = owner.release if isinstance(owner, Rollout) else owner
    texts = {"number": number, "title": release.title}
    title = _("Way back %(number)d: %(title)s") if kind == "rollback" else _("Wave %(number)d: %(title)s")
    label = str(Wave.State(state).label) if is_actual else _("earliest")
    key = f"wave-{owner.number.lower()}-{kind}-{number}"
    url = page_of_object(owner)
    return Entry(
        "wave", key, owner.number, title % texts, state, label, start, max(end, start), url, is_actual=is_actual,
        updated_at=owner.updated_at, release=release.pk,
    )  # fmt: skip


def _freezes(question: _Question) -> Iterator[Entry]:
    rows = Freeze.objects.visible_to(question.user)
    rows = rows.filter(starts_at__lt=question.end, ends_at__gt=question.start)
    changed = rows.annotate(changed_at=Max("history__pgh_created_at"))
    for freeze in changed.order_by("starts_at", "pk")[:MOST]:
        url, label = page_of_object(freeze), _("freeze")
        key = freeze.number.lower()
        yield Entry(
            "freeze", key, freeze.number, freeze.name, "freeze", label, freeze.starts_at, freeze.ends_at, url,
            is_actual=True, updated_at=freeze.changed_at or freeze.created_at, pk=freeze.pk,
        )  # fmt: skip


def windows_of(user: Any, ci: int | None = None) -> Any:
    """The maintenance windows that hold for CIs which the person may see."""
    cis = ConfigurationItem.objects.visible_to(user)
    return MaintenanceWindow.objects.of_cis(cis if ci is None else cis.filter(pk=ci))


def _windows(question: _Question) -> Iterator[Entry]:
    for window in windows_of(question.user, question.wanted.ci).order_by("pk")[:MOST]:
        yield from window_entries(window, window.occurrences(question.start, question.end))


def window_entries(window: MaintenanceWindow, times: Iterable[tuple[datetime, datetime]]) -> Iterator[Entry]:
    """A window's occurrences."""
    for start, end in times:
        key = f"window-{window.pk}-{start:%Y%m%dT%H%M}"
        yield Entry("window", key, "", window.name, "window", _("maintenance window"), start, end, "", pk=window.pk)


def _entry(kind: str, instance: Any, start: datetime, end: datetime | None, title: str, url: str, **more: Any) -> Entry:
    end = end if end is not None and end > start else start + POINT
    return Entry(
        kind, instance.number.lower(), instance.number, title, instance.state, str(instance.get_state_display()), start,
        end, url, updated_at=instance.updated_at, pk=instance.pk, **more,
    )  # fmt: skip


_READERS: dict[str, Callable[[_Question], Iterator[Entry]]] = {
    "freeze": _freezes,
    "change": _changes,
    "release": _releases,
    "rollout": _rollouts,
    "wave": _waves,
    "window": _windows,
}
