"""The change list."""

from changes.models import Change
from tickets.tables import MomentColumn, TicketTable


class ChangeTable(TicketTable):
    planned_start = MomentColumn(default="–")

    class Meta(TicketTable.Meta):
        model = Change
        fields = (
            "number", "title", "state", "change_type", "priority", "risk", "requester", "planned_start", "updated_at",
        )  # fmt: skip
        sequence = fields
        exclude = ("assignee",)
