"""The CI list."""

import django_tables2 as tables
from django.utils.translation import gettext_lazy as _

from cmdb.models import CIGroup, ConfigurationItem
from tickets.tables import MomentColumn, NumberColumn, PersonColumn, PortalTable
from tickets.templatetags.portal import badge


class CITable(PortalTable):
    number = NumberColumn()
    name = tables.Column(attrs={"td": {"class": "title"}})
    lifecycle = tables.Column()
    owner = PersonColumn(default="–")
    versions = tables.Column(empty_values=(), orderable=False, verbose_name=_("installed"))
    last_seen_at = MomentColumn(default=_("never"))

    class Meta(PortalTable.Meta):
        model = ConfigurationItem
        fields = ("number", "name", "ci_class", "lifecycle", "owner", "versions", "last_seen_at")
        sequence = fields
        order_by = "name"

    def render_lifecycle(self, record: ConfigurationItem) -> str:
        return badge(record.lifecycle, record.get_lifecycle_display())

    def render_versions(self, record: ConfigurationItem) -> str:
        rows = record.current_versions  # type: ignore[attr-defined]
        return ", ".join(f"{row.product.name} {row.label}" for row in rows) or "–"


class CIGroupTable(PortalTable):
    number = NumberColumn()
    name = tables.Column(attrs={"td": {"class": "title"}})

    class Meta(PortalTable.Meta):
        model = CIGroup
        fields = ("number", "name", "description")
        sequence = fields
        order_by = "name"
