"""Disks that are received, as the API shows and takes them."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cmdb.models import ConfigurationItem
from test_environments.models import DiskReception, GoldenImage
from test_environments.serializers import EventSerializer
from test_environments.services.receptions import LONGEST
from tickets.serializers import NumberField, PersonSerializer, ViewerMixin


class DiskListSerializer(serializers.ModelSerializer):
    number = serializers.CharField(read_only=True)
    state_label = serializers.CharField(source="get_state_display", read_only=True)
    ci = NumberField(ConfigurationItem, read_only=True)  # type: ignore[assignment]
    ci_name = serializers.CharField(source="ci.name", read_only=True)
    image = NumberField(GoldenImage, read_only=True, allow_null=True)
    requested_by = PersonSerializer(read_only=True)

    class Meta:
        model = DiskReception
        fields = [
            "id", "number", "state", "state_label", "ci", "ci_name", "method", "format", "conversion", "size",
            "received_bytes", "image", "requested_by", "created_at", "expires_at", "arrived_at",
        ]  # fmt: skip


class DiskSerializer(ViewerMixin, DiskListSerializer):
    """A disk on its way to a golden image; `medium_bytes` is 0 while there is no medium."""

    verbs = serializers.SerializerMethodField()
    events = serializers.SerializerMethodField()

    class Meta(DiskListSerializer.Meta):
        fields = [
            *DiskListSerializer.Meta.fields, "reason", "port", "machine_address", "gateway", "disk", "medium_bytes",
            "sender", "inventory", "expected_sha256", "sha256", "last_error", "cleared_at", "events", "verbs",
        ]  # fmt: skip

    @extend_schema_field(EventSerializer(many=True))
    def get_events(self, disk: DiskReception) -> list[dict[str, Any]]:
        """The newest fifty."""
        return list(EventSerializer(disk.events.select_related("actor")[:50], many=True).data)


class OrderDiskSerializer(serializers.Serializer):
    """The disk of a CI. For one that is released for uploads: `filename` and `size` of the image.

    `conversion` `virt_v2v` needs that program on the test host.
    """

    ci = NumberField(ConfigurationItem)  # type: ignore[assignment]
    reason = serializers.CharField(max_length=255)
    hours = serializers.IntegerField(min_value=1, max_value=LONGEST, default=24)
    expected_sha256 = serializers.RegexField(r"^[0-9a-fA-F]{64}$", required=False, allow_blank=True)
    conversion = serializers.ChoiceField(choices=GoldenImage.Conversion.choices, required=False)
    filename = serializers.CharField(max_length=255, required=False)
    size = serializers.IntegerField(min_value=1, max_value=2**62, required=False)
    machine_address = serializers.CharField(max_length=18, required=False, allow_blank=True)
    gateway = serializers.CharField(max_length=15, required=False, allow_blank=True)
    disk = serializers.CharField(max_length=32, required=False, allow_blank=True)


class OrderedDiskSerializer(serializers.Serializer):
    """The order; `secret` is for the capture medium, stands in this answer only, and is empty for an upload."""

    disk = DiskSerializer()
    secret = serializers.CharField(allow_blank=True)


class SecretSerializer(serializers.Serializer):
    secret = serializers.CharField(max_length=64)


class OffsetSerializer(serializers.Serializer):
    """Where in the file the piece begins."""

    offset = serializers.IntegerField(min_value=0, max_value=2**62, default=0)
