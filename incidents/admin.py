from django.contrib import admin

from incidents.models import Incident
from tickets.admin import TicketAdmin


@admin.register(Incident)
class IncidentAdmin(TicketAdmin):
    list_filter = [*TicketAdmin.list_filter, "hold_reason", "is_major"]
