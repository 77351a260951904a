"""Test environments and golden images as the API shows and takes them."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cmdb.models import ConfigurationItem
from test_environments.drivers.interface import MOST_ENDPOINTS
from test_environments.models import EnvironmentEvent, EnvironmentSnapshot, GoldenImage, TestEnvironment
from tickets.serializers import NumberField, PersonSerializer, ViewerMixin


class SnapshotSerializer(serializers.ModelSerializer):
    taken_by = PersonSerializer(read_only=True, allow_null=True)

    class Meta:
        model = EnvironmentSnapshot
        fields = ["name", "versions", "taken_by", "created_at", "kept_at"]


class EventSerializer(serializers.ModelSerializer):
    actor = PersonSerializer(read_only=True, allow_null=True)

    class Meta:
        model = EnvironmentEvent
        fields = ["at", "text", "is_problem", "actor"]


class EnvironmentListSerializer(serializers.ModelSerializer):
    number = serializers.CharField(read_only=True)
    state_label = serializers.CharField(source="get_state_display", read_only=True)
    source = NumberField(ConfigurationItem, read_only=True)  # type: ignore[assignment]
    source_name = serializers.CharField(source="source.name", read_only=True)
    copy = NumberField(ConfigurationItem, read_only=True, allow_null=True)
    image = NumberField(GoldenImage, read_only=True, allow_null=True)
    requested_by = PersonSerializer(read_only=True, allow_null=True)

    class Meta:
        model = TestEnvironment
        fields = [
            "id", "number", "state", "state_label", "source", "source_name", "copy", "image", "purpose", "evidence",
            "is_wanted_running", "observed_power", "stop_at", "delete_at", "requested_by", "created_at", "updated_at",
            "destroyed_at",
        ]  # fmt: skip


class EnvironmentSerializer(ViewerMixin, EnvironmentListSerializer):
    """A copy of a production CI; `baseline` is what the source ran when it was captured. Its evidence is empty until
    a start has shown it."""

    verbs = serializers.SerializerMethodField()
    snapshots = serializers.SerializerMethodField()
    events = serializers.SerializerMethodField()
    console = serializers.SerializerMethodField()

    class Meta(EnvironmentListSerializer.Meta):
        fields = [
            *EnvironmentListSerializer.Meta.fields, "uuid", "driver", "clone", "network", "allowed_endpoints",
            "endpoints_reason", "memory_mb", "processors", "disk_growth_mb", "accelerator", "isolation", "neutralised",
            "error_from", "last_error", "baseline", "versions", "observed_at", "task", "task_started_at",
            "task_deadline", "snapshots", "events", "console", "verbs",
        ]  # fmt: skip

    @extend_schema_field(SnapshotSerializer(many=True))
    def get_snapshots(self, environment: TestEnvironment) -> list[dict[str, Any]]:
        return list(SnapshotSerializer(environment.snapshots.select_related("taken_by"), many=True).data)

    @extend_schema_field(EventSerializer(many=True))
    def get_events(self, environment: TestEnvironment) -> list[dict[str, Any]]:
        """The newest fifty."""
        return list(EventSerializer(environment.events.select_related("actor")[:50], many=True).data)

    def get_console(self, environment: TestEnvironment) -> str:
        """The end of what it said on its console."""
        console = getattr(environment, "console", None)
        return console.text if console is not None else ""


class RequestEnvironmentSerializer(serializers.Serializer):
    """Which production CI to copy. `versions` (short name of the product: label) makes the copy run others.

    Without an `image` a new one is taken, and goes with the copy. Sizes of 0 are the driver's own measure. Machines
    reach the portal and `allowed_endpoints` (host:port); those that are production CIs need an `endpoints_reason`.
    """

    source = NumberField(ConfigurationItem)  # type: ignore[assignment]
    image = NumberField(GoldenImage, required=False, allow_null=True)
    purpose = serializers.CharField(max_length=64, allow_blank=True, default="")
    versions = serializers.DictField(child=serializers.CharField(max_length=64), required=False)
    clone = serializers.ChoiceField(choices=TestEnvironment.Clone.choices, required=False)
    network = serializers.ChoiceField(choices=TestEnvironment.Network.choices, required=False)
    allowed_endpoints = serializers.ListField(
        child=serializers.CharField(max_length=260), max_length=MOST_ENDPOINTS, required=False
    )
    endpoints_reason = serializers.CharField(max_length=255, required=False, allow_blank=True)
    memory_mb = serializers.IntegerField(min_value=0, max_value=1_000_000, required=False)
    processors = serializers.IntegerField(min_value=0, max_value=256, required=False)
    disk_growth_mb = serializers.IntegerField(min_value=0, max_value=10_000_000, required=False)


class TakeSnapshotSerializer(serializers.Serializer):
    name = serializers.CharField(max_length=64)


class RevertSerializer(serializers.Serializer):
    """The name of a snapshot; empty: what it was when it was made."""

    snapshot = serializers.CharField(max_length=64, allow_blank=True, default="")


class ImageListSerializer(serializers.ModelSerializer):
    number = serializers.CharField(read_only=True)
    state_label = serializers.CharField(source="get_state_display", read_only=True)
    source = NumberField(ConfigurationItem, read_only=True)  # type: ignore[assignment]
    source_name = serializers.CharField(source="source.name", read_only=True)
    requested_by = PersonSerializer(read_only=True, allow_null=True)
    approved_by = PersonSerializer(read_only=True, allow_null=True)

    class Meta:
        model = GoldenImage
        fields = [
            "id", "number", "state", "state_label", "source", "source_name", "driver", "kind", "method", "conversion",
            "consistency",
            "classification", "approval", "approved_by", "approved_at", "references", "is_kept", "retain_until",
            "requested_by", "created_at", "captured_at", "deleted_at",
        ]  # fmt: skip


class ImageSerializer(ViewerMixin, ImageListSerializer):
    """What a production CI was when it was captured; never changed."""

    verbs = serializers.SerializerMethodField()
    events = serializers.SerializerMethodField()

    class Meta(ImageListSerializer.Meta):
        fields = [
            *ImageListSerializer.Meta.fields, "uuid", "reason", "source_snapshot", "location", "format",
            "expected_sha256", "source_sha256", "image_sha256", "source_bytes", "image_bytes", "baseline", "versions",
            "inventory", "masked", "masked_with", "masked_at", "last_error", "error_from", "task", "task_started_at",
            "task_deadline", "events", "verbs",
        ]  # fmt: skip

    @extend_schema_field(EventSerializer(many=True))
    def get_events(self, image: GoldenImage) -> list[dict[str, Any]]:
        """The newest fifty."""
        return list(EventSerializer(image.events.select_related("actor")[:50], many=True).data)


class RequestImageSerializer(serializers.Serializer):
    """Which production CI to capture, and what for. `expected_sha256` is of the source, where it is known.

    `conversion`: what is done to the system on the disk of another machine; `virt_v2v` needs that program on the test
    host.
    """

    source = NumberField(ConfigurationItem)  # type: ignore[assignment]
    reason = serializers.CharField(max_length=255, allow_blank=True, default="")
    consistency = serializers.ChoiceField(choices=GoldenImage.Consistency.choices, required=False)
    expected_sha256 = serializers.RegexField(r"^[0-9a-f]{64}$", required=False, allow_blank=True)
    conversion = serializers.ChoiceField(choices=GoldenImage.Conversion.choices, required=False)
