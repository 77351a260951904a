from django.contrib import admin

from problems.models import Problem
from tickets.admin import TicketAdmin


@admin.register(Problem)
class ProblemAdmin(TicketAdmin):
    list_filter = [*TicketAdmin.list_filter, "is_known_error"]
