"""Columns that lists share; each renders by the same functions as the pages."""

from typing import Any

import django_tables2 as tables
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from tickets.links import page_of_object
from tickets.templatetags.portal import moment, person, priority_badge, state_badge


class NumberColumn(tables.Column):
    """The number as the row's link; `j` and `k` walk over it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(verbose_name=_("number"), accessor="pk", **kwargs)

    def render(self, record: Any) -> str:
        return format_html('<a class="number row-link" href="{}">{}</a>', page_of_object(record), record.number)


class StateColumn(tables.Column):
    def render(self, record: Any) -> str:
        return state_badge(record)


class PriorityColumn(tables.Column):
    def render(self, record: Any) -> str:
        return priority_badge(record)


class PersonColumn(tables.Column):
    def render(self, value: Any) -> str:
        return person(value)


class MomentColumn(tables.Column):
    def render(self, value: Any) -> str:
        return moment(value)


class PortalTable(tables.Table):
    """Looks and pages like every list of the portal."""

    class Meta:
        template_name = "tables/table.html"
        attrs = {"class": "table table-vcenter card-table portal-table"}


class TicketTable(PortalTable):
    """Number, title, state, priority, people and time of any ticket."""

    number = NumberColumn()
    title = tables.Column(attrs={"td": {"class": "title"}})
    state = StateColumn()
    priority = PriorityColumn()
    requester = PersonColumn()
    assignee = PersonColumn(default="–")
    updated_at = MomentColumn()

    class Meta(PortalTable.Meta):
        order_by = "-number"
