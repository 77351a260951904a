"""Releases as the API shows and takes them."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from changes.models import Change
from cmdb.models import ConfigurationItem
from releases.live import visible_exceptions
from releases.models import PackageItem, Release, RolloutException
from releases.serializers_rollout import RolloutListSerializer, TestRunSerializer
from releases.services import release_hash
from releases.services.generations import history
from software.models import Version
from test_environments.models import GoldenImage
from tickets.activities import Activity
from tickets.serializers import (
    ApprovalSerializer,
    LinkSerializer,
    NumberField,
    NumbersField,
    OpinionSerializer,
    PersonSerializer,
    TicketListSerializer,
    TicketSerializer,
    is_storable,
    key_of,
    level_field,
    user_field,
)


class ReleaseListSerializer(TicketListSerializer):
    class Meta(TicketListSerializer.Meta):
        model = Release
        fields = [*TicketListSerializer.Meta.fields, "release_type"]


class PackageItemSerializer(serializers.ModelSerializer):
    product = serializers.CharField(source="product.slug", read_only=True)
    label = serializers.CharField(source="version.label", read_only=True)  # type: ignore[assignment]
    state = serializers.CharField(source="version.state", read_only=True)

    class Meta:
        model = PackageItem
        fields = ["position", "product", "label", "version", "state", "way_back"]


class LeftOutSerializer(serializers.Serializer):
    change = serializers.CharField(source="change.number", read_only=True)
    reason = serializers.CharField(read_only=True)


class ReleaseApprovalSerializer(ApprovalSerializer):
    target_count = serializers.IntegerField(read_only=True)


class ExceptionSerializer(serializers.ModelSerializer):
    ci = NumberField(ConfigurationItem, read_only=True, allow_null=True)
    recorded_by = PersonSerializer(read_only=True, allow_null=True)

    class Meta:
        model = RolloutException
        fields = ["id", "kind", "ci", "reason", "recorded_by", "created_at"]


class DifferenceSerializer(serializers.Serializer):
    """One field of the plan and what it said before and after."""

    field = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class GenerationSerializer(serializers.Serializer):
    """One version of the plan, and what it changed."""

    number = serializers.IntegerField()
    made_by = PersonSerializer(allow_null=True)
    made_at = serializers.DateTimeField()
    changes = DifferenceSerializer(many=True)


class ReleaseSerializer(TicketSerializer):
    """A release: package, plan, tests, approvals, rollouts."""

    last_editor = PersonSerializer(read_only=True, allow_null=True)
    start_for = PersonSerializer(read_only=True, allow_null=True)
    changes = serializers.SerializerMethodField()
    items = serializers.SerializerMethodField()
    left_out = serializers.SerializerMethodField()
    caused_incidents = serializers.SerializerMethodField()
    content_hash = serializers.SerializerMethodField()
    approvals = serializers.SerializerMethodField()
    exceptions = serializers.SerializerMethodField()
    test_runs = serializers.SerializerMethodField()
    generations = serializers.SerializerMethodField()
    rollouts = serializers.SerializerMethodField()

    class Meta(TicketSerializer.Meta):
        model = Release
        fields = [
            *TicketSerializer.Meta.fields, "release_type", "changes", "items", "left_out", "policy", "targets",
            "last_editor", "caused_incidents", "content_hash", "approvals", "exceptions", "test_runs",
            "generations", "rollouts", "start_at", "start_for",
        ]  # fmt: skip

    @extend_schema_field(LinkSerializer(many=True))
    def get_changes(self, release: Release) -> list[dict[str, Any]]:
        return self.visible_links(release.changes)

    @extend_schema_field(PackageItemSerializer(many=True))
    def get_items(self, release: Release) -> list[dict[str, Any]]:
        return list(PackageItemSerializer(release.items.select_related("product", "version"), many=True).data)

    @extend_schema_field(LeftOutSerializer(many=True))
    def get_left_out(self, release: Release) -> list[dict[str, Any]]:
        visible = Change.objects.visible_to(self.viewer).values("pk")
        rows = release.left_out.filter(change__in=visible).select_related("change").order_by("change")
        return list(LeftOutSerializer(rows, many=True).data)

    @extend_schema_field(LinkSerializer(many=True))
    def get_caused_incidents(self, release: Release) -> list[dict[str, Any]]:
        return self.visible_links(release.caused_incidents)

    def get_content_hash(self, release: Release) -> str:
        """What an approval of the present content is bound to; give it back as `seen_hash`."""
        if getattr(self, "_hash_of", None) is not release:
            self._hash_of, self._hash = release, release_hash(release)
        return self._hash

    @extend_schema_field(ReleaseApprovalSerializer(many=True))
    def get_approvals(self, release: Release) -> list[dict[str, Any]]:
        rows = release.approvals.select_related("approver")
        context = {**self.context, "content_hash": self.get_content_hash(release)}
        return list(ReleaseApprovalSerializer(rows, many=True, context=context).data)

    @extend_schema_field(ExceptionSerializer(many=True))
    def get_exceptions(self, release: Release) -> list[dict[str, Any]]:
        rows = visible_exceptions(release, self.viewer)
        return list(ExceptionSerializer(rows, many=True, context=self.context).data)

    @extend_schema_field(TestRunSerializer(many=True))
    def get_test_runs(self, release: Release) -> list[dict[str, Any]]:
        rows = release.test_runs.select_related("environment__source", "started_by").prefetch_related("earlier_periods")
        return list(TestRunSerializer(rows, many=True, context=self.context).data)

    @extend_schema_field(GenerationSerializer(many=True))
    def get_generations(self, release: Release) -> list[dict[str, Any]]:
        """The versions of the plan, the newest first."""
        rows = [
            {"number": row.number, "made_by": row.made_by, "made_at": row.made_at, "changes": changes}
            for row, changes in history(release)
        ]
        return list(GenerationSerializer(rows, many=True, context=self.context).data)

    @extend_schema_field(RolloutListSerializer(many=True))
    def get_rollouts(self, release: Release) -> list[dict[str, Any]]:
        rows = release.rollouts.select_related("release", "started_by")
        return list(RolloutListSerializer(rows, many=True, context=self.context).data)


@extend_schema_field({"type": "array", "items": {"type": "string"}, "example": ["billing/2.0"]})
class VersionsField(serializers.Field):
    """Versions as `product/label` or by id, in the order in which they are installed."""

    default_error_messages = {
        "not_a_list": "Give a list of versions.",
        "too_many": "At most 100 versions.",
        "does_not_exist": "There is no version “{value}”. Write it as product/label.",
    }

    def to_internal_value(self, data: Any) -> list[Version]:
        if not isinstance(data, list):
            self.fail("not_a_list")
        if len(data) > 100:
            self.fail("too_many")
        return [self._version(text) for text in data]

    def _version(self, text: Any) -> Version:
        rows = Version.objects.select_related("product")
        slug, slash, label = str(text).partition("/") if is_storable(str(text)) else ("", "", "")
        key = key_of(Version, text)
        found = rows.filter(product__slug=slug, label=label).first() if slash else None
        found = found or (rows.filter(pk=key).first() if key is not None else None)
        if found is None:
            self.fail("does_not_exist", value=str(text)[:64])
        return found  # type: ignore[return-value]

    def to_representation(self, value: Any) -> list[str]:
        return [f"{version.product.slug}/{version.label}" for version in value]


class ReleaseContentSerializer(serializers.Serializer):
    """Package and plan. `policy` and `targets` are described in docs/api.md; what they leave out has its default.

    `ways_back` says for products (short names) how a CI leaves their version again: `reinstall` (also where a product
    is not named) or `impossible`.
    """

    title = serializers.CharField(min_length=3, max_length=200)
    description = serializers.CharField(max_length=50_000, allow_blank=True, required=False)
    release_type = serializers.ChoiceField(choices=Release.Type.choices, required=False)
    changes = NumbersField(Change, required=False)
    versions = VersionsField(required=False)
    ways_back = serializers.DictField(child=serializers.CharField(max_length=10), required=False)
    policy = serializers.JSONField(required=False)
    targets = serializers.JSONField(required=False)


class DraftReleaseSerializer(ReleaseContentSerializer):
    activity = serializers.ChoiceField(choices=Activity.choices, required=False)
    impact = level_field(required=False)
    urgency = level_field(required=False)
    requester = user_field(required=False)


class EditReleaseSerializer(ReleaseContentSerializer):
    """What is left out stays. `expected_version` refuses the edit (409) when somebody else edited meanwhile.

    `left_out_reason` says why planned changes are taken out of a release that was planned already.
    """

    left_out_reason = serializers.CharField(max_length=2000, allow_blank=True, required=False)
    expected_version = serializers.IntegerField(required=False, min_value=1)


class PlanSerializer(serializers.Serializer):
    """Authorised RFCs of the same products that the release leaves out: their numbers, each with the reason."""

    left_out = serializers.DictField(child=serializers.CharField(max_length=2000), default=dict)

    def validate_left_out(self, value: dict[str, str]) -> dict[int, str]:
        reasons = {}
        for text, reason in value.items():
            key = key_of(Change, text)
            if key is None:
                raise serializers.ValidationError(f"“{text[:64]}” is no number of an RFC.")
            reasons[key] = reason
        return reasons


class ApproveReleaseSerializer(OpinionSerializer):
    """`seen_hash` is the `content_hash` that the approver read: another content is not approved (409)."""

    seen_hash = serializers.CharField(max_length=64, allow_blank=True, default="")


class StartTestSerializer(serializers.Serializer):
    """The production CI that is copied, and the image of it to use; without one a new image is taken."""

    source_ci = NumberField(ConfigurationItem)
    image = NumberField(GoldenImage, required=False, allow_null=True)


class RecordExceptionSerializer(serializers.Serializer):
    kind = serializers.ChoiceField(choices=RolloutException.Kind.choices)
    ci = NumberField(ConfigurationItem, required=False, allow_null=True)
    reason = serializers.CharField(max_length=2000)
