"""The incident list."""

import django_tables2 as tables
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from incidents.models import Incident
from tickets.links import page_of_object
from tickets.tables import TicketTable


class IncidentTable(TicketTable):
    hidden_at_first = (*TicketTable.hidden_at_first, "hold_reason", "resolved_at")

    ci = tables.Column(verbose_name=_("CI"), default="–", attrs={"td": {"class": "text-nowrap"}})

    class Meta(TicketTable.Meta):
        model = Incident
        fields = (
            "choose", "number", "title", "state", "priority", "ci", "requester", "assignee", "updated_at", "team",
            "hold_reason", "created_at", "resolved_at", "activity",
        )  # fmt: skip
        sequence = fields

    def render_ci(self, record: Incident) -> str:
        return format_html('<a href="{}">{}</a>', page_of_object(record.ci), record.ci)
