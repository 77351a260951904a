"""The incident list."""

import django_tables2 as tables
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from incidents.models import Incident
from tickets.links import page_of_object
from tickets.tables import TicketTable


class IncidentTable(TicketTable):
    """With a box per row, to open a problem from several incidents at once."""

    choose = tables.Column(accessor="pk", orderable=False, verbose_name="")
    ci = tables.Column(verbose_name=_("CI"), default="–", attrs={"td": {"class": "text-nowrap"}})

    class Meta(TicketTable.Meta):
        model = Incident
        fields = ("choose", "number", "title", "state", "priority", "ci", "requester", "assignee", "updated_at")
        sequence = fields

    def render_choose(self, record: Incident) -> str:
        return format_html(
            '<input class="form-check-input" type="checkbox" form="bulk" name="incidents" value="{}" aria-label="{}">',
            record.number,
            _("Choose %(number)s") % {"number": record.number},
        )

    def render_ci(self, record: Incident) -> str:
        return format_html('<a href="{}">{}</a>', page_of_object(record.ci), record.ci)
