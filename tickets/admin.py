"""The priority matrix, and what the admin pages of all tickets share."""

from django.contrib import admin

from accounts.admin_classes import ReadOnlyAdmin, SetupAdmin
from tickets.models import PriorityRule


@admin.register(PriorityRule)
class PriorityRuleAdmin(SetupAdmin):
    list_display = ["impact", "urgency", "priority"]
    list_filter = ["priority"]


class TicketAdmin(ReadOnlyAdmin):
    """A ticket as it is; the portal and the API have its verbs."""

    list_display = ["number", "title", "state", "priority", "requester", "assignee", "created_at"]
    list_filter = ["state", "priority", "activity"]
    list_select_related = ["requester", "assignee"]
    search_fields = ["title", "description"]
    date_hierarchy = "created_at"
