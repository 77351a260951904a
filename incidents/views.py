"""Pages of incident management."""

from datetime import timedelta
from typing import Any

from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from incidents import services
from incidents.filters import IncidentFilter
from incidents.forms import EditIncidentForm, HoldForm, ReportForm, ResolveForm
from incidents.models import Incident
from incidents.tables import IncidentTable
from tickets.clock import now_of
from tickets.forms import AssignForm, CommentForm, ReasonForm
from tickets.verbs import BulkAction, VerbPage
from tickets.views import DetailPage, ServiceFormPage, VerbPageView
from tickets.views_bulk import BulkPage
from tickets.views_list import ListPage


def may_edit(incident: Incident, user: Any) -> bool:
    """Whoever works on incidents, as long as this one is open."""
    return incident.state in services.ASSIGNABLE and user.has_perm(services.WORK)


VERBS = {
    "assign": VerbPage(AssignForm, icon="user"),
    "start": VerbPage(icon="player-play"),
    "hold": VerbPage(HoldForm, icon="player-pause"),
    "resume": VerbPage(icon="player-play"),
    "resolve": VerbPage(ResolveForm, icon="check"),
    "reopen": VerbPage(ReasonForm, icon="rotate-clockwise"),
    "close": VerbPage(icon="lock"),
    "cancel": VerbPage(ReasonForm, icon="ban"),
    "declare_major": VerbPage(
        label=gettext_lazy("Declare major"),
        style="danger",
        icon="speakerphone",
        service="declare_major",
        allowed=lambda incident, user: (
            not incident.is_major
            and user.has_perm("incidents.manage_major_incident")
            and incident.state in {"new", "assigned", "in_progress", "on_hold"}
        ),
        preview=lambda incident: _("A major incident is seen and handled first; everybody concerned is told."),
    ),
    "edit": VerbPage(EditIncidentForm, label=gettext_lazy("Edit"), icon="edit", allowed=may_edit),
    "comment": VerbPage(CommentForm, allowed=lambda incident, user: True),
}


BULK = ("assign", "start", "hold", "resume", "resolve", "close", "cancel")


class IncidentList(ListPage):
    model = Incident
    table_class = IncidentTable
    filterset_class = IncidentFilter
    section = "incident_list"
    title = gettext_lazy("Incidents")
    related = ("requester", "assignee", "team", "ci")
    create_url_name = "incident_create"
    create_permission = "incidents.report_incident"
    create_label = gettext_lazy("Report an incident")
    wide_sorts = ("number", "priority", "updated_at")
    verbs = VERBS
    bulk = BULK
    bulk_url_name = "incident_bulk"

    @cached_property
    def actions(self) -> list[BulkAction]:
        """And one problem opened behind all of the chosen ones."""
        found = super().actions
        if self.request.user.has_perm("problems.open_problem"):
            found.append(BulkAction("problem", _("Open a problem"), "bug-off", reverse("problem_create")))
        return found


class IncidentDetail(DetailPage):
    model = Incident
    template_name = "incidents/incident_detail.html"
    section = "incident_list"
    list_url_name = "incident_list"
    verb_url_name = "incident_verb"
    related = ("requester", "assignee", "team", "created_by", "ci__ci_class", "ci__owner")
    verbs = VERBS

    def editable(self, instance: Incident) -> dict[str, str]:
        if not may_edit(instance, self.request.user):
            return {}
        fields = self.inline_of(instance, "edit", "title", "description", "impact", "urgency", "ci")
        return fields | self.inline_of(instance, "assign", "people")

    def details(self, instance: Incident) -> dict[str, Any]:
        user = self.request.user
        sees_ci = instance.ci is not None and (instance.ci.owner_id == user.pk or user.has_perm("cmdb.see_all_cis"))
        installed = []
        if sees_ci and instance.ci is not None:
            installed = list(instance.ci.installed_versions.filter(valid_to__isnull=True).select_related("product"))
        closes_at = instance.resolved_at + timedelta(days=services.CLOSES_AFTER_DAYS) if instance.resolved_at else None
        return {"sees_ci": sees_ci, "installed": installed, "closes_at": closes_at}


class IncidentVerb(VerbPageView):
    model = Incident
    section = "incident_list"
    list_url_name = "incident_list"
    verb_url_name = "incident_verb"
    detail_page = IncidentDetail
    related = ("requester", "assignee", "ci")
    verbs = VERBS
    services = services
    is_versioned = True
    noun = "incident"


class IncidentBulk(BulkPage, IncidentVerb):
    bulk = BULK
    bulk_url_name = "incident_bulk"


class IncidentCreate(ServiceFormPage):
    form_class = ReportForm
    template_name = "incidents/report.html"
    section = "incident_list"
    list_url_name = "incident_list"
    permission = "incidents.report_incident"
    title = gettext_lazy("Report an incident")
    intro = gettext_lazy("Something does not work, or not as it should. The service desk takes it from here.")

    def initial(self, instance: Any) -> dict[str, Any]:
        return {"ci": self.request.GET.get("ci", "")}

    def perform(self, instance: Any, data: dict[str, Any]) -> Incident:
        requester = data.pop("requester", None) or self.request.user
        incident: Incident = services.report_incident(
            actor=self.request.user, now=now_of(self.request), requester=requester, **data
        )
        return incident

    def done(self, result: Incident) -> str:
        return _("%(number)s is reported.") % {"number": result.number}

    def section_label(self) -> Any:
        return _("Incidents")
