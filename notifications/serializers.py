"""Notices as their recipient sees them."""

from rest_framework import serializers

from notifications.models import Outbox


class NoticeSerializer(serializers.ModelSerializer):
    """A message to the person who asks; `state` says what became of the mail."""

    class Meta:
        model = Outbox
        fields = [
            "id",
            "event",
            "kind",
            "thread",
            "subject",
            "text",
            "path",
            "state",
            "created_at",
            "sent_at",
            "read_at",
        ]


class MarkReadSerializer(serializers.Serializer):
    """Which notices; without `ids`, all."""

    ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        required=False,
        allow_null=True,
        max_length=1000,
    )


class CountSerializer(serializers.Serializer):
    count = serializers.IntegerField(read_only=True)
