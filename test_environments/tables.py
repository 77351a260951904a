"""The list of test environments."""

import django_tables2 as tables
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from test_environments.models import TestEnvironment
from tickets.links import page_of_object
from tickets.tables import MomentColumn, NumberColumn, PersonColumn, PortalTable, StateColumn
from tickets.templatetags.portal import linked_number


class EnvironmentTable(PortalTable):
    number = NumberColumn()
    source = tables.Column(verbose_name=_("copy of"), attrs={"td": {"class": "title"}})
    state = StateColumn()
    purpose = tables.Column(default="–")
    requested_by = PersonColumn(default="–")
    updated_at = MomentColumn(verbose_name=_("updated"))

    class Meta(PortalTable.Meta):
        model = TestEnvironment
        fields = ("number", "source", "state", "evidence", "purpose", "requested_by", "updated_at")
        sequence = fields
        order_by = "-number"

    def render_source(self, record: TestEnvironment) -> str:
        return format_html('<a href="{}">{}</a>', page_of_object(record.source), record.source.name)

    def render_purpose(self, value: str) -> str:
        return str(linked_number(value))
