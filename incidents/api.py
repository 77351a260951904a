"""`/api/v1/incidents/`."""

from django_filters import rest_framework as filters

from cmdb.models import ConfigurationItem
from incidents import services
from incidents.models import Incident
from incidents.serializers import (
    EditIncidentSerializer,
    HoldSerializer,
    IncidentListSerializer,
    IncidentSerializer,
    ReportSerializer,
    ResolveSerializer,
)
from tickets.api import Call, NumberFilter, TicketFilter, TicketViewSet, comment_call, state_filter
from tickets.serializers import AssignSerializer, ReasonSerializer


class IncidentFilter(TicketFilter):
    state = state_filter(Incident)
    hold_reason = filters.ChoiceFilter(choices=Incident.HoldReason.choices)
    ci = NumberFilter(ConfigurationItem, "ci_id")
    is_major = filters.BooleanFilter()


class IncidentViewSet(TicketViewSet):
    """Unplanned interruptions: report one, work on it, resolve it."""

    model = Incident
    see_all = "incidents.see_all_incidents"
    serializer_class = IncidentSerializer
    list_serializer_class = IncidentListSerializer
    list_related = (*TicketViewSet.list_related, "ci")
    filterset_class = IncidentFilter
    creates = Call(services.report_incident, ReportSerializer, "incidents.report_incident")
    edits = Call(services.edit_incident, EditIncidentSerializer, services.WORK)
    calls = {
        "assign": Call(services.assign_incident, AssignSerializer),
        "start": Call(services.start_incident),
        "hold": Call(services.hold_incident, HoldSerializer),
        "resume": Call(services.resume_incident),
        "resolve": Call(services.resolve_incident, ResolveSerializer),
        "reopen": Call(services.reopen_incident, ReasonSerializer),
        "close": Call(services.close_incident),
        "cancel": Call(services.cancel_incident, ReasonSerializer),
        "declare_major": Call(services.declare_major, permission="incidents.manage_major_incident"),
        "comment": comment_call(services.comment_incident, see_all),
    }
