"""RFCs as the API shows and takes them."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from changes.models import Change
from changes.services import change_hash
from cmdb.models import ConfigurationItem
from incidents.models import Incident
from problems.models import Problem
from software.models import Product
from tickets.activities import Activity
from tickets.models import Level
from tickets.serializers import (
    ApprovalSerializer,
    LinkSerializer,
    NameField,
    NumbersField,
    OpinionSerializer,
    PersonSerializer,
    TicketListSerializer,
    TicketSerializer,
    level_field,
    user_field,
)


class ChangeListSerializer(TicketListSerializer):
    class Meta(TicketListSerializer.Meta):
        model = Change
        fields = [
            *TicketListSerializer.Meta.fields, "change_type", "risk", "planned_start", "planned_end",
        ]  # fmt: skip


class ChangeSerializer(TicketSerializer):
    """An RFC with its approvals; links only to what the person may see."""

    last_editor = PersonSerializer(read_only=True, allow_null=True)
    problems = serializers.SerializerMethodField()
    incidents = serializers.SerializerMethodField()
    products: serializers.SlugRelatedField = serializers.SlugRelatedField(slug_field="slug", many=True, read_only=True)
    affected_cis = serializers.SerializerMethodField()
    content_hash = serializers.SerializerMethodField()
    approvals = serializers.SerializerMethodField()

    class Meta(TicketSerializer.Meta):
        model = Change
        fields = [
            *TicketSerializer.Meta.fields, "change_type", "risk", "risk_reason", "problems", "incidents",
            "products", "affected_cis", "implementation_plan", "test_plan", "backout_plan", "planned_start",
            "planned_end", "last_editor", "close_code", "content_hash",
            "approvals",
        ]  # fmt: skip

    @extend_schema_field(LinkSerializer(many=True))
    def get_problems(self, change: Change) -> list[dict[str, Any]]:
        return self.visible_links(change.problems)

    @extend_schema_field(LinkSerializer(many=True))
    def get_incidents(self, change: Change) -> list[dict[str, Any]]:
        return self.visible_links(change.incidents)

    def get_affected_cis(self, change: Change) -> list[str]:
        rows = ConfigurationItem.objects.visible_to(self.viewer).filter(changes=change).order_by("pk").only("pk")
        return [ci.number for ci in rows]

    def get_content_hash(self, change: Change) -> str:
        """What an approval of the present content is bound to; give it back as `seen_hash`."""
        if getattr(self, "_hash_of", None) is not change:
            self._hash_of, self._hash = change, change_hash(change)
        return self._hash

    @extend_schema_field(ApprovalSerializer(many=True))
    def get_approvals(self, change: Change) -> list[dict[str, Any]]:
        rows = change.approvals.select_related("approver")
        context = {**self.context, "content_hash": self.get_content_hash(change)}
        return list(ApprovalSerializer(rows, many=True, context=context).data)


class ChangeContentSerializer(serializers.Serializer):
    """The content of an RFC."""

    title = serializers.CharField(min_length=3, max_length=200)
    description = serializers.CharField(max_length=50_000, allow_blank=True, required=False)
    change_type = serializers.ChoiceField(choices=Change.Type.choices, required=False)
    activity = serializers.ChoiceField(choices=Activity.choices, required=False)
    impact = level_field(required=False)
    urgency = level_field(required=False)
    problems = NumbersField(Problem, required=False)
    incidents = NumbersField(Incident, required=False)
    products = NameField(slug_field="slug", queryset=Product.objects.all(), many=True, required=False)
    affected_cis = NumbersField(ConfigurationItem, required=False)
    implementation_plan = serializers.CharField(max_length=50_000, allow_blank=True, required=False)
    test_plan = serializers.CharField(max_length=50_000, allow_blank=True, required=False)
    backout_plan = serializers.CharField(max_length=50_000, allow_blank=True, required=False)
    planned_start = serializers.DateTimeField(required=False, allow_null=True)
    planned_end = serializers.DateTimeField(required=False, allow_null=True)


class DraftChangeSerializer(ChangeContentSerializer):
    requester = user_field(required=False)


class EditChangeSerializer(ChangeContentSerializer):
    """What is left out stays. `expected_version` refuses the edit (409) when somebody else edited meanwhile."""

    expected_version = serializers.IntegerField(required=False, min_value=1)


class ApproveChangeSerializer(OpinionSerializer):
    """`seen_hash` is the `content_hash` that the approver read: another content is not approved (409)."""

    seen_hash = serializers.CharField(max_length=64, allow_blank=True, default="")


class AssessSerializer(serializers.Serializer):
    risk = serializers.ChoiceField(choices=Level.choices)
    risk_reason = serializers.CharField(max_length=20_000)


class ScheduleSerializer(serializers.Serializer):
    planned_start = serializers.DateTimeField()
    planned_end = serializers.DateTimeField()


class CloseChangeSerializer(serializers.Serializer):
    close_code = serializers.ChoiceField(choices=Change.CloseCode.choices)
