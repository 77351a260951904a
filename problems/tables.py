"""The problem list."""

import django_tables2 as tables
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from problems.models import Problem
from tickets.tables import TicketTable
from tickets.templatetags.portal import icon


class ProblemTable(TicketTable):
    hidden_at_first = (*TicketTable.hidden_at_first, "requester")

    is_known_error = tables.Column(verbose_name=_("known error"))
    incident_count = tables.Column(verbose_name=_("incidents"), orderable=True)

    class Meta(TicketTable.Meta):
        model = Problem
        fields = (
            "choose", "number", "title", "state", "priority", "is_known_error", "incident_count", "assignee",
            "updated_at", "requester", "team", "created_at", "activity",
        )  # fmt: skip
        sequence = fields

    def render_is_known_error(self, value: bool) -> str:
        return format_html('<span class="state tone-violet">{}{}</span>', icon("bulb"), _("yes")) if value else "–"
