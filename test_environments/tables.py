"""The lists of test environments and golden images."""

import django_tables2 as tables
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from test_environments.models import DiskReception, GoldenImage, TestEnvironment
from tickets.links import page_of_object
from tickets.tables import MomentColumn, NumberColumn, PersonColumn, PortalTable, StateColumn
from tickets.templatetags.portal import badge, linked_number


class EnvironmentTable(PortalTable):
    number = NumberColumn()
    source = tables.Column(verbose_name=_("copy of"), attrs={"td": {"class": "title"}})
    state = StateColumn()
    observed_power = tables.Column(verbose_name=_("runs"))
    evidence = tables.Column(default="–")
    purpose = tables.Column(default="–")
    requested_by = PersonColumn(default="–")
    updated_at = MomentColumn(verbose_name=_("updated"))

    class Meta(PortalTable.Meta):
        model = TestEnvironment
        fields = ("number", "source", "state", "observed_power", "evidence", "purpose", "requested_by", "updated_at")
        sequence = fields
        order_by = "-number"

    def render_source(self, record: TestEnvironment) -> str:
        return format_html('<a href="{}">{}</a>', page_of_object(record.source), record.source.name)

    def render_observed_power(self, record: TestEnvironment) -> str:
        return badge(record.observed_power, record.get_observed_power_display(), "power")

    def render_evidence(self, record: TestEnvironment) -> str:
        return badge(record.evidence, record.get_evidence_display(), "evidence")

    def render_purpose(self, value: str) -> str:
        return str(linked_number(value))


class ImageTable(PortalTable):
    number = NumberColumn()
    source = tables.Column(verbose_name=_("image of"), attrs={"td": {"class": "title"}})
    state = StateColumn()
    references = tables.Column(verbose_name=_("environments"))
    requested_by = PersonColumn(default="–")
    created_at = MomentColumn(verbose_name=_("asked for"))

    class Meta(PortalTable.Meta):
        model = GoldenImage
        fields = ("number", "source", "state", "kind", "classification", "references", "requested_by", "created_at")
        sequence = fields
        order_by = "-number"

    def render_source(self, record: GoldenImage) -> str:
        return format_html('<a href="{}">{}</a>', page_of_object(record.source), record.source.name)


class DiskTable(PortalTable):
    number = NumberColumn()
    ci = tables.Column(verbose_name=_("disk of"), attrs={"td": {"class": "title"}})
    state = StateColumn()
    image = tables.Column(default="–")
    requested_by = PersonColumn()
    created_at = MomentColumn(verbose_name=_("ordered"))

    class Meta(PortalTable.Meta):
        model = DiskReception
        fields = ("number", "ci", "state", "method", "image", "requested_by", "created_at")
        sequence = fields
        order_by = "-number"

    def render_ci(self, record: DiskReception) -> str:
        return format_html('<a href="{}">{}</a>', page_of_object(record.ci), record.ci.name)

    def render_image(self, value: GoldenImage) -> str:
        return str(linked_number(value.number))
