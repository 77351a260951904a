"""Freezes as the API shows and takes them."""

from rest_framework import serializers

from changes.models import Freeze
from tickets.serializers import PersonSerializer


class FreezeSerializer(serializers.ModelSerializer):
    """A time in which rollouts offer nothing new."""

    number = serializers.CharField(read_only=True)
    created_by = PersonSerializer(read_only=True)

    class Meta:
        model = Freeze
        fields = [
            "id", "number", "name", "reason", "starts_at", "ends_at", "binds_emergencies", "created_by", "created_at",
        ]  # fmt: skip


class WriteFreezeSerializer(serializers.Serializer):
    """`ends_at` in the past ends one that has begun at once."""

    name = serializers.CharField(max_length=100)
    reason = serializers.CharField(max_length=2000)
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    binds_emergencies = serializers.BooleanField(required=False)
