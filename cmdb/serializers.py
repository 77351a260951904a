"""Configuration items as the API shows and takes them. A token's text leaves in one answer only: that of its issue."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cmdb.impact import MAX_DEPTH, MAX_NODES, Node
from cmdb.models import (
    AgentProfile,
    AgentToken,
    AttributeChange,
    CIClass,
    CIGroup,
    ConfigurationItem,
    Drift,
    InstalledVersion,
    MaintenanceWindow,
    Relation,
)
from software.models import Product
from tickets.appearance import appearance_of
from tickets.links import page_of_object
from tickets.serializers import (
    NameField,
    NumberField,
    NumbersField,
    PersonSerializer,
    ViewerMixin,
    team_field,
    user_field,
)


class CIClassSerializer(serializers.ModelSerializer):
    class Meta:
        model = CIClass
        fields = ["id", "name", "slug", "maintenance_window"]

    maintenance_window = serializers.CharField(
        source="maintenance_window.name", read_only=True, allow_null=True, default=None
    )


class MaintenanceWindowSerializer(serializers.ModelSerializer):
    """When CIs may be changed: weekly, by the clock of `zone`. `weekdays` are digits from 1 (Monday) to 7."""

    class Meta:
        model = MaintenanceWindow
        fields = ["id", "name", "weekdays", "start", "minutes", "zone"]


class AgentProfileSerializer(serializers.ModelSerializer):
    class Meta:
        model = AgentProfile
        fields = [
            "id", "name", "takes", "proof", "attribute_key", "can_remove", "one_file_only", "can_wait", "notes",
        ]  # fmt: skip


class CIListSerializer(serializers.ModelSerializer):
    number = serializers.CharField(read_only=True)
    ci_class = serializers.CharField(source="ci_class.slug", read_only=True)
    owner = PersonSerializer(read_only=True, allow_null=True)
    team = serializers.CharField(source="team.name", read_only=True, allow_null=True, default=None)
    copy_of = NumberField(ConfigurationItem, read_only=True, allow_null=True)
    has_drift = serializers.BooleanField(read_only=True, help_text="Runs something else than what was expected.")

    class Meta:
        model = ConfigurationItem
        fields = [
            "id", "number", "name", "ci_class", "lifecycle", "owner", "team", "agent_id", "copy_of", "last_seen_at",
            "has_drift",
        ]  # fmt: skip


class InstalledSerializer(serializers.ModelSerializer):
    """A version on a CI: since when, by what, instead of what. The current one has no `valid_to`."""

    product = serializers.CharField(source="product.slug", read_only=True)
    replaced = serializers.CharField(source="replaced.label", read_only=True, allow_null=True, default=None)

    class Meta:
        model = InstalledVersion
        fields = [
            "id", "product", "label", "version", "replaced", "valid_from", "valid_to", "source", "is_drift", "changes",
        ]  # fmt: skip


class AttributeChangeSerializer(serializers.ModelSerializer):
    """An attribute took this value (null: it was removed)."""

    class Meta:
        model = AttributeChange
        fields = ["id", "key", "value", "at"]


class DriftSerializer(serializers.ModelSerializer):
    """What was expected and what was reported instead; empty: not installed. An open one has no `ended_at`."""

    product = serializers.CharField(source="product.slug", read_only=True)
    end = serializers.CharField(read_only=True)

    class Meta:
        model = Drift
        fields = ["id", "product", "expected", "reported", "since", "ended_at", "end"]


class ImpactDepthSerializer(serializers.Serializer):
    """How many steps to look, and at most how many CIs to tell."""

    up = serializers.IntegerField(min_value=0, max_value=MAX_DEPTH, default=2)
    down = serializers.IntegerField(min_value=0, max_value=MAX_DEPTH, default=2)
    limit = serializers.IntegerField(min_value=1, max_value=MAX_NODES, default=300)


class ImpactNodeSerializer(serializers.Serializer):
    """A CI; `depth` is negative for what depends on the one in the middle, 0 for that one itself."""

    id = serializers.IntegerField(source="ci.pk")
    number = serializers.CharField(source="ci.number")
    name = serializers.CharField(source="ci.name")
    ci_class = serializers.CharField(source="ci.ci_class.slug")
    lifecycle = serializers.CharField(source="ci.lifecycle")
    has_drift = serializers.BooleanField(source="ci.has_drift")
    depth = serializers.IntegerField()
    tone = serializers.SerializerMethodField(help_text="The colour that its state has in the portal.")
    page = serializers.SerializerMethodField()

    def get_tone(self, node: Node) -> str:
        return "amber" if node.ci.has_drift else appearance_of(node.ci.lifecycle).tone  # type: ignore[attr-defined]

    def get_page(self, node: Node) -> str:
        return page_of_object(node.ci)


class ImpactEdgeSerializer(serializers.Serializer):
    """The CI `source` depends on the CI `target`."""

    source = serializers.IntegerField()  # type: ignore[assignment]
    target = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=Relation.Kind.choices)


class ImpactSerializer(serializers.Serializer):
    """The CI in the middle comes first. `more` CIs are further away; at least that many when `is_counted` is false."""

    nodes = ImpactNodeSerializer(many=True, source="all_nodes")
    edges = ImpactEdgeSerializer(many=True)
    more = serializers.IntegerField()
    is_counted = serializers.BooleanField()


class WhichProductSerializer(serializers.Serializer):
    product = NameField(slug_field="slug", queryset=Product.objects.all())


class RelationSerializer(serializers.Serializer):
    kind = serializers.CharField(read_only=True)
    ci = serializers.CharField(read_only=True)
    name = serializers.CharField(read_only=True)


class CISerializer(ViewerMixin, CIListSerializer):
    """A CI with what it runs now; `/installed/` has the history."""

    agent_profile = serializers.CharField(source="agent_profile.name", read_only=True, allow_null=True, default=None)
    maintenance_window = serializers.CharField(
        source="window.name", read_only=True, allow_null=True, default=None, help_text=_("Its own, or its class's.")
    )
    installed = serializers.SerializerMethodField()
    depends_on = serializers.SerializerMethodField()
    supports = serializers.SerializerMethodField()
    chain = serializers.SerializerMethodField()

    class Meta(CIListSerializer.Meta):
        fields = [
            *CIListSerializer.Meta.fields, "description", "agent_profile", "maintenance_window", "attributes",
            "attributes_at", "created_at", "installed", "depends_on", "supports", "chain",
        ]  # fmt: skip

    @extend_schema_field(InstalledSerializer(many=True))
    def get_installed(self, ci: ConfigurationItem) -> list[dict[str, object]]:
        rows = ci.installed_versions.filter(valid_to__isnull=True).select_related("product", "replaced")
        return list(InstalledSerializer(rows.order_by("product__slug"), many=True).data)

    def _relations(self, ci: ConfigurationItem, mine: str, other: str) -> list[dict[str, object]]:
        visible = ConfigurationItem.objects.visible_to(self.viewer).values("pk")
        rows = Relation.objects.filter(**{mine: ci, f"{other}__in": visible}).select_related(other)
        found = [(row.kind, getattr(row, other)) for row in rows.order_by(f"{other}__name")]
        return [{"kind": kind, "ci": one.number, "name": one.name} for kind, one in found]

    @extend_schema_field(RelationSerializer(many=True))
    def get_depends_on(self, ci: ConfigurationItem) -> list[dict[str, object]]:
        return self._relations(ci, "source", "target")

    @extend_schema_field(RelationSerializer(many=True))
    def get_supports(self, ci: ConfigurationItem) -> list[dict[str, object]]:
        return self._relations(ci, "target", "source")


class RegisterSerializer(serializers.Serializer):
    name = serializers.CharField(max_length=128)
    ci_class = NameField(slug_field="slug", queryset=CIClass.objects.all())
    owner = user_field(required=False, allow_null=True)
    team = team_field(required=False, allow_null=True)
    description = serializers.CharField(max_length=20_000, allow_blank=True, required=False)
    agent_id = serializers.CharField(max_length=128, required=False, allow_null=True)
    agent_profile = NameField(slug_field="name", queryset=AgentProfile.objects.all(), required=False, allow_null=True)
    maintenance_window = NameField(
        slug_field="name", queryset=MaintenanceWindow.objects.all(), required=False, allow_null=True
    )


class BulkSerializer(serializers.Serializer):
    """Up to 1000 CIs, each as for a single one."""

    items = serializers.ListField(child=RegisterSerializer())

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Each item is checked for itself when it is registered."""
        items = data.get("items") if isinstance(data, dict) else None
        if not isinstance(items, list):
            raise serializers.ValidationError({"items": _("Give a list of CIs.")})
        return {"items": items}


class RowErrorSerializer(serializers.Serializer):
    code = serializers.CharField()
    detail = serializers.CharField(source="message")
    attr = serializers.CharField(source="field")


class RegisteredRowSerializer(serializers.Serializer):
    """One row: its CI's number, or why there is none. `line` is that of a CSV file."""

    index = serializers.IntegerField()
    line = serializers.IntegerField(allow_null=True)
    number = serializers.CharField(source="ci.number", allow_null=True, default=None)
    error = RowErrorSerializer(source="refusal", allow_null=True)


class RegisteredSerializer(serializers.Serializer):
    created = serializers.IntegerField()
    refused = serializers.IntegerField()
    results = RegisteredRowSerializer(many=True)


class TokenSerializer(serializers.ModelSerializer):
    """A token without its text."""

    class Meta:
        model = AgentToken
        fields = ["id", "created_at", "revoked_at"]


class IssuedTokenSerializer(serializers.Serializer):
    """The token's text: shown this once, kept by the portal only as a digest."""

    token = serializers.SerializerMethodField()

    def get_token(self, text: str) -> str:
        return text


class WhichTokenSerializer(serializers.Serializer):
    token = serializers.IntegerField(min_value=1, max_value=2**63 - 1, help_text="Id of the token.")


class CIGroupListSerializer(serializers.ModelSerializer):
    number = serializers.CharField(read_only=True)

    class Meta:
        model = CIGroup
        fields = ["id", "number", "name", "description", "filter"]


class CIGroupSerializer(CIGroupListSerializer):
    """A group; `/members/` lists who belongs to it now, `static_members` only those that are named."""

    static_members = serializers.SerializerMethodField()
    member_count = serializers.SerializerMethodField()

    class Meta(CIGroupListSerializer.Meta):
        fields = [*CIGroupListSerializer.Meta.fields, "static_members", "member_count"]

    def get_static_members(self, group: CIGroup) -> list[str]:
        """The first 1000 of them."""
        return [ci.number for ci in group.static_members.order_by("pk").only("pk")[:1000]]

    def get_member_count(self, group: CIGroup) -> int:
        return group.members().count()


class WriteGroupSerializer(serializers.Serializer):
    """A group: named CIs, a filter, or both. The filter's keys are described in docs/api.md."""

    name = serializers.CharField(max_length=100)
    description = serializers.CharField(max_length=20_000, allow_blank=True, required=False)
    filter = serializers.DictField(required=False)
    static_members = NumbersField(ConfigurationItem, required=False)


class WhichCIsSerializer(serializers.Serializer):
    cis = NumbersField(ConfigurationItem)
