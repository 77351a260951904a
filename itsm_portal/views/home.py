"""The first page: what waits for this person."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.generic import View

from changes.models import Change
from cmdb.models import ConfigurationItem, InstalledVersion
from distribution.counting import Counts, counts
from incidents.models import Incident
from notifications.models import Outbox
from problems.models import Problem
from releases.live import segments_of
from releases.models import Release, Rollout, Wave
from releases.services import has_valid_approval
from tickets.views import PortalPage

SHOWN = 8
DECIDES = ("changes.approve_change", "changes.approve_emergency_change", "releases.approve_release")


class Home(PortalPage, View):
    """Staff: my work, approvals, running rollouts. End users: report, my tickets, my CIs and their versions."""

    section = "home"

    def get(self, request: HttpRequest) -> HttpResponse:
        user = self.person
        works = user.has_perm("incidents.work_incident") or user.has_perm("problems.work_problem")
        builds = user.has_perm("releases.build_release") or user.has_perm("changes.request_change")
        decides = any(user.has_perm(right) for right in DECIDES)
        handles = user.has_perm("changes.assess_change") or user.has_perm("releases.pause_rollout")
        is_staff = works or builds or decides or handles
        context = self.get_context_data(
            title=_("Home"),
            breadcrumbs=[],
            is_staff_page=is_staff,
            notices=list(Outbox.objects.filter(recipient=user).order_by("-created_at")[:SHOWN]),
            **self.requests(user),
            **(self.work(user) if is_staff else {}),
        )
        return render(request, "portal/home.html", context)

    def requests(self, user: Any) -> dict[str, Any]:
        """What every person has: his incidents and his CIs."""
        mine = Incident.objects.filter(requester=user).select_related("ci").order_by("-pk")
        cis = list(ConfigurationItem.objects.production().filter(owner=user).select_related("ci_class")[:SHOWN])
        versions: dict[int, list[InstalledVersion]] = {}
        rows = InstalledVersion.objects.filter(ci__in=cis, valid_to__isnull=True).select_related("product")
        for row in rows:
            versions.setdefault(row.ci_id, []).append(row)
        planned = Change.objects.visible_to(user).filter(state__in=["authorised", "scheduled", "implementing"])
        return {
            "my_incidents": list(mine[:SHOWN]),
            "my_cis": [(ci, versions.get(ci.pk, [])) for ci in cis],
            "planned_changes": list(planned.filter(affected_cis__owner=user).distinct()[:SHOWN]),
        }

    def work(self, user: Any) -> dict[str, Any]:
        """What waits for somebody who works on tickets."""
        assigned: list[Any] = []
        for model in (Incident, Problem, Change, Release):
            rows = model.objects.visible_to(user).filter(assignee=user).open()
            assigned += list(rows.order_by("priority", "pk")[:SHOWN])
        assigned.sort(key=lambda ticket: (ticket.priority, ticket.created_at))
        unassigned = Incident.objects.visible_to(user).filter(state=Incident.State.NEW, assignee__isnull=True)
        return {
            "assigned": assigned[:SHOWN],
            "unassigned": list(unassigned.select_related("ci").order_by("priority", "pk")[:SHOWN]),
            "approvals": self.approvals(user),
            "to_handle": self.to_handle(user),
            "rollouts": running(user),
        }

    def to_handle(self, user: Any) -> list[Change]:
        """RFCs whose next step is the change manager's: to be assessed, scheduled, reviewed or closed."""
        if not user.has_perm("changes.assess_change"):
            return []
        states = [Change.State.SUBMITTED, Change.State.AUTHORISED, Change.State.IMPLEMENTED, Change.State.REVIEWED]
        rows = Change.objects.visible_to(user).filter(state__in=states)
        return list(rows.order_by("priority", "pk")[:SHOWN])

    def approvals(self, user: Any) -> list[Any]:
        """RFCs and releases that wait for a decision of this person: not his own."""
        waiting: list[Any] = []
        may_all = user.has_perm("changes.approve_change")
        is_emergency = user.has_perm("changes.approve_emergency_change")
        if may_all or is_emergency:
            rows = Change.objects.visible_to(user).filter(state=Change.State.ASSESSED)
            rows = rows if may_all else rows.filter(change_type=Change.Type.EMERGENCY)
            waiting += list(_of_others(rows, user)[:SHOWN])
        if user.has_perm("releases.approve_release") or is_emergency:
            releases = Release.objects.visible_to(user).filter(state=Release.State.READY)
            if not user.has_perm("releases.approve_release"):
                releases = releases.filter(release_type=Release.Type.EMERGENCY)
            # An approval of an earlier content does not count, whoever gave it.
            waiting += [release for release in _of_others(releases, user)[:SHOWN] if not has_valid_approval(release)]
        return waiting


def _of_others(rows: Any, user: Any) -> Any:
    return rows.exclude(created_by=user).exclude(requester=user).exclude(last_editor=user).order_by("priority", "pk")


def running(user: Any) -> list[dict[str, Any]]:
    """Active rollouts that the person may see, each with a stacked bar over its forward waves."""
    rollouts = list(Rollout.objects.visible_to(user).active().select_related("release").order_by("-pk")[:SHOWN])
    waves = list(
        Wave.objects.filter(rollout__in=rollouts, kind=Wave.Kind.FORWARD).values_list("rollout_id", "batch_id")
    )
    found = counts(batch for _rollout, batch in waves)
    shown = []
    for rollout in rollouts:
        total = sum((found[batch] for key, batch in waves if key == rollout.pk), Counts())
        shown.append({"rollout": rollout, "counts": total, "segments": segments_of(total)})
    return shown
