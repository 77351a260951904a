"""The filter bar of the incident list."""

from incidents.models import Incident
from tickets.filters import TicketFilter, state_filter


class IncidentFilter(TicketFilter):
    state = state_filter(Incident)

    class Meta:
        model = Incident
        fields = ("q", "scope", "state", "priority")
