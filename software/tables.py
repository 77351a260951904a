"""The list of products."""

import django_tables2 as tables
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from software.models import Product
from tickets.links import page_of_object
from tickets.tables import PersonColumn, PortalTable


class ProductTable(PortalTable):
    name = tables.Column(attrs={"td": {"class": "title"}})
    newest = tables.Column(verbose_name=_("newest ready version"), orderable=False, default="–")
    version_count = tables.Column(verbose_name=_("versions"))
    owner = PersonColumn(default="–")

    class Meta(PortalTable.Meta):
        model = Product
        fields = ("name", "slug", "newest", "version_count", "owner")
        sequence = fields
        order_by = "name"

    def render_name(self, record: Product) -> str:
        return format_html('<a class="row-link" href="{}">{}</a>', page_of_object(record), record.name)
