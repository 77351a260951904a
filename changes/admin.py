from django.contrib import admin

from accounts.admin_classes import ReadOnlyAdmin
from changes.models import Change, ChangeApproval
from tickets.admin import TicketAdmin


@admin.register(Change)
class ChangeAdmin(TicketAdmin):
    list_display = [*TicketAdmin.list_display, "change_type", "planned_start"]
    list_filter = [*TicketAdmin.list_filter, "change_type", "risk"]


@admin.register(ChangeApproval)
class ChangeApprovalAdmin(ReadOnlyAdmin):
    list_display = ["change", "approver", "decision", "created_at"]
    list_filter = ["decision"]
    list_select_related = ["change", "approver"]
