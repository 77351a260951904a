"""The panels of the first page: what waits for this person. Whom each one serves, and one function that reads it.

Every function reads a fixed number of rows by an index, however many tickets there are: nothing is counted.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from changes.models import Change, ChangeApproval
from changes.models.change import OVER as CHANGES_OVER
from cmdb.impact import bases_of
from cmdb.models import ConfigurationItem, InstalledVersion, Registration
from distribution.counting import Counts, counts
from incidents.models import Incident
from itsm_portal.calendar.entries import Entry, Wanted, entries_between
from itsm_portal.calendar.grid import day_start
from notifications.models import Outbox
from problems.known_errors import known_errors
from problems.models import Problem
from releases.live import segments_of
from releases.models import Release, ReleaseApproval, Rollout, Wave
from releases.models.release import OVER as RELEASES_OVER
from releases.services import has_valid_approval
from test_environments.models import GoldenImage
from tickets.timeline import sees_notes

TICKETS: tuple[Any, ...] = (Incident, Problem, Change, Release)
SHOWN = 8
# Of the tickets that concern somebody, so many of each sort are looked at for what is new in them.
CONCERNED = 200
# Entries that are read to find the newest of different tickets.
ENTRIES_READ = 40
# Windows recur; rollouts and their waves have a panel of their own.
SCHEDULED = ("freeze", "change", "release")


@dataclass(frozen=True, slots=True)
class Reader:
    """Who looks at the page, and when."""

    user: Any
    now: datetime

    def may(self, *rights: str) -> bool:
        """Whether one of these rights is enough."""
        return any(self.user.has_perm(right) for right in rights)

    @property
    def is_staff(self) -> bool:
        """Whether he does something with other people's tickets, or runs the portal."""
        return self.may("incidents.see_all_incidents", "releases.see_operations", *_work_rights())


@dataclass(frozen=True, slots=True)
class Panel:
    """One card of the page, `templates/portal/home/_<name>.html`.

    `is_aside`: in the narrow column; `is_quiet`: staff see it only when there is something in it.
    """

    name: str
    serves: Callable[[Reader], bool]
    read: Callable[[Reader], Any]
    is_aside: bool = False
    is_quiet: bool = False

    @property
    def template(self) -> str:
        return f"portal/home/_{self.name}.html"


def panels_for(user: Any, *, now: datetime) -> list[tuple[Panel, Any]]:
    """The panels that serve this person, with what stands in them."""
    reader = Reader(user, now)
    found = [(panel, panel.read(reader)) for panel in PANELS if panel.serves(reader)]
    return [(panel, rows) for panel, rows in found if rows or not (panel.is_quiet and reader.is_staff)]


def _work_rights() -> list[str]:
    return [right for model in TICKETS for right in model.WORKERS]


def _decides(reader: Reader) -> bool:
    rights = ("changes.approve_change", "changes.approve_emergency_change", "releases.approve_release")
    return not reader.user.is_service_account and reader.may(*rights, "test_environments.approve_copies")


def approvals(reader: Reader) -> list[Any]:
    """RFCs, releases and copies of production that wait for this person: those in which he took no part."""
    return [*_changes_to_decide(reader), *_releases_to_decide(reader), *_copies_to_decide(reader)]


def _changes_to_decide(reader: Reader) -> list[Change]:
    rows = _of_others(Change.objects.visible_to(reader.user).filter(state=Change.State.ASSESSED), reader.user)
    if not reader.may("changes.approve_change"):
        is_emergency = reader.may("changes.approve_emergency_change")
        rows = rows.filter(change_type=Change.Type.EMERGENCY) if is_emergency else rows.none()
    return list(rows[:SHOWN])


def _releases_to_decide(reader: Reader) -> list[Release]:
    """Those that nobody decided on, then those whose approval is of an earlier content, whoever gave it."""
    rows = _of_others(Release.objects.visible_to(reader.user).filter(state=Release.State.READY), reader.user)
    if not reader.may("releases.approve_release"):
        is_emergency = reader.may("changes.approve_emergency_change")
        rows = rows.filter(release_type=Release.Type.EMERGENCY) if is_emergency else rows.none()
    is_decided = Exists(ReleaseApproval.objects.filter(release=OuterRef("pk")))
    fresh = list(rows.filter(~is_decided)[:SHOWN])
    decided = rows.filter(is_decided)[:SHOWN]
    return [*fresh, *(release for release in decided if not has_valid_approval(release))][:SHOWN]


def _copies_to_decide(reader: Reader) -> list[GoldenImage]:
    if not reader.may("test_environments.approve_copies"):
        return []
    rows = GoldenImage.objects.visible_to(reader.user).filter(state=GoldenImage.State.REQUESTED)
    return list(rows.exclude(requested_by=reader.user).select_related("source").order_by("pk")[:SHOWN])


def _of_others(rows: Any, user: Any) -> Any:
    """As the services refuse it: an author, a requester and whoever ever edited it are no second person."""
    rows = rows.exclude(created_by=user).exclude(requester=user).exclude(last_editor=user)
    return rows.exclude(history__last_editor=user).order_by("priority", "pk")


def my_work(reader: Reader) -> list[Any]:
    """Open tickets that this person has, or that his teams have and nobody in them; the most urgent first."""
    mine = Q(assignee=reader.user) | Q(team__in=_teams(reader), assignee__isnull=True)
    found: list[Any] = []
    for model in TICKETS:
        found += model.objects.visible_to(reader.user).open().filter(mine).order_by("priority", "pk")[:SHOWN]
    return sorted(found, key=lambda ticket: (ticket.priority, ticket.created_at))[:SHOWN]


def _teams(reader: Reader) -> list[int]:
    return list(reader.user.teams.values_list("pk", flat=True))


def unassigned(reader: Reader) -> list[Incident]:
    """New incidents that neither a person nor a team has."""
    rows = Incident.objects.visible_to(reader.user).open().filter(state=Incident.State.NEW)
    rows = rows.filter(assignee__isnull=True, team__isnull=True)
    return list(rows.select_related("ci").order_by("priority", "pk")[:SHOWN])


def to_handle(reader: Reader) -> list[Change]:
    """RFCs whose next step is the change manager's: to be assessed, scheduled, reviewed or closed."""
    states = [Change.State.SUBMITTED, Change.State.AUTHORISED, Change.State.IMPLEMENTED, Change.State.REVIEWED]
    rows = Change.objects.visible_to(reader.user).open().filter(state__in=states)
    return list(rows.order_by("priority", "pk")[:SHOWN])


def releases(reader: Reader) -> list[Release]:
    """Releases that are being built or tested, or are ready and wait for their approval or start."""
    state = Release.State
    states = [state.PLANNED, state.BUILT, state.TESTING, state.TEST_FAILED, state.READY]
    rows = Release.objects.visible_to(reader.user).open().filter(state__in=states)
    return list(rows.order_by("priority", "pk")[:SHOWN])


def rollouts(reader: Reader) -> list[dict[str, Any]]:
    """Active rollouts that the person may see, each with a stacked bar over its forward waves."""
    active = list(Rollout.objects.visible_to(reader.user).active().select_related("release").order_by("-pk")[:SHOWN])
    waves = list(Wave.objects.filter(rollout__in=active, kind=Wave.Kind.FORWARD).values_list("rollout_id", "batch_id"))
    found = counts(batch for _rollout, batch in waves)
    shown = []
    for rollout in active:
        total = sum((found[batch] for key, batch in waves if key == rollout.pk), Counts())
        shown.append({"rollout": rollout, "counts": total, "segments": segments_of(total)})
    return shown


def schedule(reader: Reader) -> list[Entry]:
    """What the calendar has for the rest of the reader's day: what begins now or later, then what is under way."""
    zone = timezone.get_current_timezone()
    tomorrow = day_start(reader.now.astimezone(zone).date() + timedelta(days=1), zone)
    found = entries_between(reader.user, reader.now, tomorrow, now=reader.now, wanted=Wanted(kinds=SCHEDULED))
    ahead = [entry for entry in found if entry.state not in (*CHANGES_OVER, *RELEASES_OVER)]
    return sorted(ahead, key=lambda entry: entry.start < reader.now)[:SHOWN]


def changed(reader: Reader) -> list[Any]:
    """The newest entry since yesterday by somebody else, of each ticket that concerns this person."""
    zone = timezone.get_current_timezone()
    since = day_start(reader.now.astimezone(zone).date() - timedelta(days=1), zone)
    teams = _teams(reader)
    found: list[Any] = []
    for model in TICKETS:
        found += _newest_entries(model, reader.user, _concerning(model, reader.user, teams), since)
    return sorted(found, key=lambda entry: entry.created_at, reverse=True)[:SHOWN]


def _concerning(model: Any, user: Any, teams: list[int]) -> list[int]:
    """Tickets that he asked for, has or watches, and open ones of his teams: the latest of each sort."""
    visible = model.objects.visible_to(user)
    sorts = [visible.filter(Q(**{who: user})) for who in ("requester", "assignee", "watchers")]
    if teams:
        sorts.append(visible.open().filter(team__in=teams))
    first, *others = (rows.order_by("-updated_at", "-pk").values("pk", "updated_at")[:CONCERNED] for rows in sorts)
    return [row["pk"] for row in first.union(*others)]


def _newest_entries(model: Any, user: Any, keys: list[int], since: datetime) -> list[Any]:
    rows = model.entries.rel.related_model.objects.filter(ticket__in=keys, created_at__gte=since).exclude(author=user)
    if not sees_notes(model(), user):
        rows = rows.filter(is_public=True)
    newest: dict[int, Any] = {}
    for entry in rows.select_related("ticket", "author").order_by("-created_at", "-pk")[:ENTRIES_READ]:
        newest.setdefault(entry.ticket_id, entry)
    states = dict(model.State.choices)
    for entry in newest.values():
        entry.to_label = states.get(entry.to_state, "")
    return list(newest.values())[:SHOWN]


def my_tickets(reader: Reader) -> list[Incident]:
    """The person's own incidents: those that wait for his word whether it works again, then those under way."""
    mine = Incident.objects.filter(requester=reader.user).select_related("ci").order_by("-pk")
    resolved = mine.filter(state=Incident.State.RESOLVED)[:SHOWN]
    return [*resolved, *mine.open()[:SHOWN]][:SHOWN]


def my_cis(reader: Reader) -> list[tuple[ConfigurationItem, list[InstalledVersion]]]:
    """The person's CIs with what is installed on them."""
    cis = list(ConfigurationItem.objects.production().filter(owner=reader.user).select_related("ci_class")[:SHOWN])
    versions: dict[int, list[InstalledVersion]] = {}
    for row in InstalledVersion.objects.filter(ci__in=cis, valid_to__isnull=True).select_related("product"):
        versions.setdefault(row.ci_id, []).append(row)
    return [(ci, versions.get(ci.pk, [])) for ci in cis]


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """A change ahead, and which of the person's CIs it concerns, because it is made there or because they stand on it.

    Of a change that he may not read (`change` is None) he learns when it is, and nothing else.
    """

    start: datetime | None
    end: datetime | None
    cis: list[str]
    change: Change | None


def planned(reader: Reader) -> list[PlannedChange]:
    """Changes that are decided and not done, of the person's CIs and of what these stand on; the next one first."""
    own = ConfigurationItem.objects.production().filter(owner=reader.user).order_by("pk")
    names = dict(own.values_list("pk", "name")[:CONCERNED])
    if not names:
        return []
    stands_on: dict[int, set[int]] = {key: {key} for key in names}
    for mine, base in bases_of(list(names)):
        stands_on.setdefault(base, set()).add(mine)
    states = [Change.State.AUTHORISED, Change.State.SCHEDULED, Change.State.IMPLEMENTING]
    touched = Change.affected_cis.through.objects.filter(configurationitem__in=stands_on)
    changes = Change.objects.filter(state__in=states, pk__in=touched.values("change"))
    # Of what he may not read, only what has a time.
    is_visible = Exists(Change.objects.visible_to(reader.user).filter(pk=OuterRef("pk")))
    changes = changes.annotate(is_visible=is_visible).filter(Q(is_visible=True) | Q(planned_start__isnull=False))
    ahead = list(changes.order_by("planned_start", "pk")[:SHOWN])
    concerned: dict[int, set[int]] = {}
    for change, ci in touched.filter(change__in=ahead).values_list("change", "configurationitem"):
        concerned.setdefault(change, set()).update(stands_on[ci])
    return [
        PlannedChange(
            change.planned_start,
            change.planned_end,
            sorted(names[key] for key in concerned[change.pk]),
            change if change.is_visible else None,  # type: ignore[attr-defined]
        )
        for change in ahead
    ]


def notices(reader: Reader) -> list[Outbox]:
    """The latest that the portal told the person."""
    return list(Outbox.objects.shown_to(reader.user).order_by("-created_at")[:SHOWN])


def decisions(reader: Reader) -> list[tuple[Any, Any]]:
    """The latest approvals and rejections, each with its ticket."""
    found: list[Any] = []
    for model, name in ((ChangeApproval, "change"), (ReleaseApproval, "release")):
        for approval in model.objects.select_related(name, "approver").order_by("-pk")[:SHOWN]:
            found.append((getattr(approval, name), approval))
    return sorted(found, key=lambda pair: pair[1].created_at, reverse=True)[:SHOWN]


def devices(reader: Reader) -> Iterable[Registration]:
    """Devices that ask to be let in, the longest waiting first."""
    return list(Registration.objects.filter(state=Registration.State.WAITING).order_by("pk")[:SHOWN])


# In this order they stand in their column.
PANELS = (
    Panel("approvals", _decides, approvals),
    Panel("my_work", lambda reader: reader.may(*_work_rights()), my_work),
    Panel("unassigned", lambda reader: reader.may("incidents.work_incident"), unassigned),
    Panel("to_handle", lambda reader: reader.may("changes.assess_change"), to_handle),
    Panel("devices", lambda reader: reader.may("cmdb.manage_cis"), devices),
    Panel("releases", lambda reader: reader.may("releases.build_release", "releases.start_rollout"), releases),
    Panel("rollouts", lambda reader: reader.may("releases.see_all_releases", "releases.see_operations"), rollouts),
    Panel("decisions", lambda reader: reader.may("changes.view_changeapproval"), decisions),
    Panel("my_tickets", lambda reader: reader.may("incidents.report_incident"), my_tickets, is_quiet=True),
    Panel("my_cis", lambda reader: reader.may("incidents.report_incident"), my_cis, is_quiet=True),
    Panel("schedule", lambda reader: reader.may("changes.see_all_changes"), schedule, is_aside=True),
    Panel("changed", lambda reader: reader.may(*_work_rights()), changed, is_aside=True),
    Panel("planned", lambda reader: reader.may("incidents.report_incident"), planned, is_aside=True, is_quiet=True),
    Panel("known_errors", lambda reader: not reader.is_staff, lambda reader: known_errors(reader.user), is_aside=True),
    Panel("notices", lambda reader: not reader.may(*_work_rights()), notices, is_aside=True),
)
