"""Test environments as the API shows and takes them."""

from rest_framework import serializers

from cmdb.models import ConfigurationItem
from test_environments.models import TestEnvironment
from tickets.serializers import NumberField, PersonSerializer, ViewerMixin


class EnvironmentListSerializer(serializers.ModelSerializer):
    number = serializers.CharField(read_only=True)
    state_label = serializers.CharField(source="get_state_display", read_only=True)
    source = NumberField(ConfigurationItem, read_only=True)  # type: ignore[assignment]
    source_name = serializers.CharField(source="source.name", read_only=True)
    copy = NumberField(ConfigurationItem, read_only=True, allow_null=True)
    requested_by = PersonSerializer(read_only=True, allow_null=True)

    class Meta:
        model = TestEnvironment
        fields = [
            "id", "number", "state", "state_label", "source", "source_name", "copy", "purpose", "evidence",
            "requested_by", "created_at", "updated_at", "destroyed_at",
        ]  # fmt: skip


class EnvironmentSerializer(ViewerMixin, EnvironmentListSerializer):
    """A copy of a production CI; `baseline` is what the source ran when it was captured."""

    verbs = serializers.SerializerMethodField()

    class Meta(EnvironmentListSerializer.Meta):
        fields = [
            *EnvironmentListSerializer.Meta.fields, "driver", "error_from", "last_error", "baseline",
            "versions", "is_wanted_running", "observed_at", "verbs",
        ]  # fmt: skip


class RequestEnvironmentSerializer(serializers.Serializer):
    """Which production CI to copy. `versions` (short name of the product: label) makes the copy run others."""

    source = NumberField(ConfigurationItem)  # type: ignore[assignment]
    purpose = serializers.CharField(max_length=64, allow_blank=True, default="")
    versions = serializers.DictField(child=serializers.CharField(max_length=64), required=False)
