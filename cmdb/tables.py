"""The CI list."""

import django_tables2 as tables
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from cmdb.models import CIGroup, ConfigurationItem, GatewayToken, Registration
from tickets.tables import MomentColumn, NumberColumn, PersonColumn, PortalTable, StateColumn
from tickets.templatetags.portal import badge


class CITable(PortalTable):
    hidden_at_first = ("team", "channel", "created_at")

    number = NumberColumn()
    name = tables.Column(attrs={"td": {"class": "title"}})
    lifecycle = tables.Column()
    owner = PersonColumn(default="–")
    versions = tables.Column(empty_values=(), orderable=False, verbose_name=_("installed"))
    last_seen_at = MomentColumn(default=_("never"))
    created_at = MomentColumn()

    class Meta(PortalTable.Meta):
        model = ConfigurationItem
        fields = (
            "number", "name", "ci_class", "lifecycle", "owner", "versions", "last_seen_at", "team", "channel",
            "created_at",
        )  # fmt: skip
        sequence = fields
        order_by = "name"

    def value_lifecycle(self, record: ConfigurationItem) -> str:
        return str(record.get_lifecycle_display())

    def render_lifecycle(self, record: ConfigurationItem) -> str:
        return badge(record.lifecycle, record.get_lifecycle_display())

    def render_versions(self, record: ConfigurationItem) -> str:
        rows = record.current_versions  # type: ignore[attr-defined]
        text = ", ".join(f"{row.product.name} {row.label}" for row in rows) or "–"
        return format_html("{} {}", text, badge("drift", str(_("drift")))) if record.has_drift else text  # type: ignore[attr-defined]


class CIGroupTable(PortalTable):
    number = NumberColumn()
    name = tables.Column(attrs={"td": {"class": "title"}})

    class Meta(PortalTable.Meta):
        model = CIGroup
        fields = ("number", "name", "description")
        sequence = fields
        order_by = "name"


class RegistrationTable(PortalTable):
    number = NumberColumn()
    agent_id = tables.Column(attrs={"td": {"class": "title"}})
    state = StateColumn()
    admitted_by = tables.Column(orderable=False, verbose_name=_("let in by"))
    address = tables.Column(orderable=False)
    first_seen_at = MomentColumn()
    last_seen_at = MomentColumn()

    class Meta(PortalTable.Meta):
        model = Registration
        fields = ("number", "agent_id", "state", "admitted_by", "address", "first_seen_at", "last_seen_at")
        sequence = fields
        order_by = "-first_seen_at"


class GatewayTable(PortalTable):
    name = tables.Column(attrs={"td": {"class": "title"}})
    created_at = MomentColumn()
    revoked_at = tables.TemplateColumn(template_name="cmdb/_gateway_end.html", orderable=False)

    class Meta(PortalTable.Meta):
        model = GatewayToken
        fields = ("name", "group", "may_register", "ci_class", "agent_profile", "created_at", "revoked_at")
        sequence = fields
        order_by = "name"
