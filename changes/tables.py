"""The change list."""

import django_tables2 as tables

from changes.models import Change, StandardTemplate
from tickets.tables import MomentColumn, NumberColumn, PortalTable, TicketTable


class ChangeTable(TicketTable):
    planned_start = MomentColumn(default="–")

    class Meta(TicketTable.Meta):
        model = Change
        fields = (
            "number", "title", "state", "change_type", "priority", "risk", "requester", "planned_start", "updated_at",
        )  # fmt: skip
        sequence = fields
        exclude = ("assignee",)


class StandardTemplateTable(PortalTable):
    number = NumberColumn()
    name = tables.Column(attrs={"td": {"class": "title"}})
    updated_at = MomentColumn()

    class Meta(PortalTable.Meta):
        model = StandardTemplate
        fields = ("number", "name", "most_cis", "needs_test", "is_active", "updated_at")
        sequence = fields
        order_by = "name"
