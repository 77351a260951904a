"""The priority matrix, and what the admin pages of all tickets share."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import ngettext

from accounts.admin_classes import ReadOnlyAdmin, SetupAdmin
from tickets.clock import now_of
from tickets.models import PriorityRule
from tickets.services import reprioritise


@admin.register(PriorityRule)
class PriorityRuleAdmin(SetupAdmin):
    list_display = ["impact", "urgency", "priority"]
    list_filter = ["priority"]

    def save_model(self, request: HttpRequest, obj: PriorityRule, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        changed = reprioritise(obj, now=now_of(request))
        text = ngettext("%d open ticket has a new priority.", "%d open tickets have a new priority.", changed)
        self.message_user(request, text % changed)


class TicketAdmin(ReadOnlyAdmin):
    """A ticket as it is; the portal and the API have its verbs."""

    list_display = ["number", "title", "state", "priority", "requester", "assignee", "created_at"]
    list_filter = ["state", "priority", "activity"]
    list_select_related = ["requester", "assignee"]
    search_fields = ["title", "description"]
    date_hierarchy = "created_at"
