"""The lists of releases and rollouts."""

import django_tables2 as tables
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from releases.models import Release, Rollout
from tickets.tables import MomentColumn, NumberColumn, PersonColumn, PortalTable, StateColumn, TicketTable
from tickets.templatetags.portal import number


class ReleaseTable(TicketTable):
    hidden_at_first = (*TicketTable.hidden_at_first, "priority", "assignee")

    package = tables.Column(empty_values=(), orderable=False, verbose_name=_("package"))

    class Meta(TicketTable.Meta):
        model = Release
        fields = (
            "choose", "number", "title", "state", "release_type", "package", "requester", "updated_at", "priority",
            "assignee", "team", "created_at", "activity",
        )  # fmt: skip
        sequence = fields

    def render_package(self, record: Release) -> str:
        return ", ".join(str(item.version) for item in record.items.all()) or "–"


class RolloutTable(PortalTable):
    number = NumberColumn()
    release = tables.Column(attrs={"td": {"class": "title"}})
    state = StateColumn()
    target_count = tables.Column(verbose_name=_("CIs"), default="–")
    started_by = PersonColumn()
    started_at = MomentColumn()
    finished_at = MomentColumn(default="–")

    class Meta(PortalTable.Meta):
        model = Rollout
        fields = ("number", "release", "state", "target_count", "started_by", "started_at", "finished_at")
        sequence = fields
        order_by = "-number"

    def render_release(self, record: Rollout) -> str:
        return format_html("{} {}", number(record.release), record.release.title)
