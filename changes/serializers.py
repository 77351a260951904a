"""RFCs as the API shows and takes them."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.models import Team
from changes.conflicts import KINDS as CONFLICT_KINDS
from changes.models import Change, StandardTemplate
from changes.services import change_hash
from changes.standard import template_hash
from cmdb.models import CIGroup, ConfigurationItem
from incidents.models import Incident
from problems.models import Problem
from software.models import Product
from tickets.activities import Activity
from tickets.models import Level
from tickets.serializers import (
    ApprovalSerializer,
    LinkSerializer,
    MomentField,
    NameField,
    NumbersField,
    OpinionSerializer,
    PersonSerializer,
    TicketListSerializer,
    TicketSerializer,
    ViewerMixin,
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


class RescheduleSerializer(ScheduleSerializer):
    """`seen_conflicts` is the `digest` of the conflicts that one accepts; others refuse the move (409)."""

    expected_version = serializers.IntegerField(required=False, min_value=1)
    seen_conflicts = serializers.CharField(max_length=64, allow_blank=True, default="")


class AskedTimeSerializer(serializers.Serializer):
    """A time for the change; its own if none is given."""

    planned_start = MomentField(required=False)
    planned_end = MomentField(required=False)


class ConflictingSerializer(serializers.Serializer):
    """What stands against a time. What one may not see has no number."""

    kind = serializers.ChoiceField(choices=CONFLICT_KINDS)
    number = serializers.CharField()
    title = serializers.CharField()
    state = serializers.CharField()
    start = serializers.DateTimeField(allow_null=True)
    end = serializers.DateTimeField(allow_null=True)
    cis = serializers.ListField(child=serializers.CharField())


class FindingsSerializer(serializers.Serializer):
    """Conflicts, and hints that hinder nobody. `digest` names the conflicts exactly; `reschedule` takes it."""

    conflicts = ConflictingSerializer(many=True)
    hints = ConflictingSerializer(many=True)
    digest = serializers.CharField()


class AskedSlotSerializer(serializers.Serializer):
    after = MomentField(required=False, help_text="Not before; now if it is not given.")
    minutes = serializers.IntegerField(
        required=False, min_value=1, max_value=60 * 24 * 60, help_text="How long; as planned if it is not given."
    )
    count = serializers.IntegerField(default=3, min_value=1, max_value=20)


class SlotSerializer(serializers.Serializer):
    planned_start = serializers.DateTimeField()
    planned_end = serializers.DateTimeField()


class CloseChangeSerializer(serializers.Serializer):
    close_code = serializers.ChoiceField(choices=Change.CloseCode.choices)


class StandardTemplateListSerializer(serializers.ModelSerializer):
    number = serializers.CharField(read_only=True)
    products: serializers.SlugRelatedField = serializers.SlugRelatedField(slug_field="slug", many=True, read_only=True)

    class Meta:
        model = StandardTemplate
        fields = ["id", "number", "name", "products", "most_cis", "needs_test", "is_active"]


class StandardTemplateSerializer(ViewerMixin, StandardTemplateListSerializer):
    """A standard change: what it is for, who may use it, and the decisions of the CAB."""

    groups = serializers.SerializerMethodField()
    users: serializers.SlugRelatedField = serializers.SlugRelatedField(slug_field="username", many=True, read_only=True)
    teams: serializers.SlugRelatedField = serializers.SlugRelatedField(slug_field="name", many=True, read_only=True)
    last_editor = PersonSerializer(read_only=True)
    content_hash = serializers.SerializerMethodField()
    approvals = serializers.SerializerMethodField()

    class Meta(StandardTemplateListSerializer.Meta):
        fields = [
            *StandardTemplateListSerializer.Meta.fields, "description", "implementation_plan", "backout_plan",
            "soak_seconds", "groups", "users", "teams", "last_editor", "content_hash", "approvals",
        ]  # fmt: skip

    def get_groups(self, template: StandardTemplate) -> list[str]:
        return [group.number for group in template.groups.order_by("pk")]

    def get_content_hash(self, template: StandardTemplate) -> str:
        """What an approval of the present content is bound to; give it back as `seen_hash`."""
        return template_hash(template)

    @extend_schema_field(ApprovalSerializer(many=True))
    def get_approvals(self, template: StandardTemplate) -> list[dict[str, Any]]:
        rows = template.approvals.select_related("approver")
        context = {**self.context, "content_hash": self.get_content_hash(template)}
        return list(ApprovalSerializer(rows, many=True, context=context).data)


class WriteTemplateSerializer(serializers.Serializer):
    name = serializers.CharField(max_length=100)
    description = serializers.CharField(max_length=20_000, allow_blank=True, required=False)
    implementation_plan = serializers.CharField(max_length=50_000)
    backout_plan = serializers.CharField(max_length=50_000)
    products = NameField(slug_field="slug", queryset=Product.objects.all(), many=True)
    groups = NumbersField(CIGroup)
    users = user_field(many=True, required=False)
    teams = NameField(slug_field="name", queryset=Team.objects.all(), many=True, required=False)
    most_cis = serializers.IntegerField(min_value=1, max_value=5000, required=False)
    soak_seconds = serializers.IntegerField(min_value=1, max_value=366 * 86400, required=False)
    needs_test = serializers.BooleanField(required=False)
    is_active = serializers.BooleanField(required=False)
