from django.contrib import admin

from accounts.admin_classes import ReadOnlyAdmin, SetupAdmin
from incidents.models import DriftIncident, DriftRule, Incident
from tickets.admin import TicketAdmin


@admin.register(Incident)
class IncidentAdmin(TicketAdmin):
    list_filter = [*TicketAdmin.list_filter, "hold_reason", "is_major"]


@admin.register(DriftRule)
class DriftRuleAdmin(SetupAdmin):
    list_display = ["name", "product", "ci_class", "impact", "urgency", "is_active"]
    list_filter = ["is_active"]
    list_select_related = ["product", "ci_class"]
    search_fields = ["name"]
    autocomplete_fields = ["product", "ci_class", "requester", "team"]


@admin.register(DriftIncident)
class DriftIncidentAdmin(ReadOnlyAdmin):
    list_display = ["drift", "incident", "is_told"]
    list_select_related = ["drift", "incident"]
