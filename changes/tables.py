"""The change list."""

import django_tables2 as tables

from changes.models import Change, Freeze, StandardTemplate
from tickets.tables import MomentColumn, NumberColumn, PersonColumn, PortalTable, TicketTable


class ChangeTable(TicketTable):
    hidden_at_first = (*TicketTable.hidden_at_first, "planned_end", "assignee")

    planned_start = MomentColumn(default="–")
    planned_end = MomentColumn(default="–")

    class Meta(TicketTable.Meta):
        model = Change
        fields = (
            "choose", "number", "title", "state", "change_type", "priority", "risk", "requester", "planned_start",
            "updated_at", "planned_end", "assignee", "team", "created_at", "activity",
        )  # fmt: skip
        sequence = fields


class StandardTemplateTable(PortalTable):
    number = NumberColumn()
    name = tables.Column(attrs={"td": {"class": "title"}})
    updated_at = MomentColumn()

    class Meta(PortalTable.Meta):
        model = StandardTemplate
        fields = ("number", "name", "most_cis", "needs_test", "is_active", "updated_at")
        sequence = fields
        order_by = "name"


class FreezeTable(PortalTable):
    number = NumberColumn()
    name = tables.Column(attrs={"td": {"class": "title"}})
    starts_at = MomentColumn()
    ends_at = MomentColumn()
    created_by = PersonColumn()

    class Meta(PortalTable.Meta):
        model = Freeze
        fields = ("number", "name", "reason", "starts_at", "ends_at", "binds_emergencies", "created_by")
        sequence = fields
        order_by = "-starts_at"
