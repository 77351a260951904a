"""Connections and push logs as the API shows and takes them. A credential is a name; its secret never leaves."""

from typing import Any

from rest_framework import serializers

from cmdb.models import ConfigurationItem, Connection, Credential
from distribution.channels.ansible.models import PushTarget
from tickets.serializers import NameField


class ConnectionSerializer(serializers.ModelSerializer):
    credential = serializers.CharField(source="credential.name", read_only=True, allow_null=True, default=None)

    class Meta:
        model = Connection
        fields = ["kind", "address", "port", "user", "credential", "host_key", "folder", "python"]


class ConnectedCISerializer(serializers.ModelSerializer):
    """A CI with the channel that serves it and its connection, if it has one."""

    number = serializers.CharField(read_only=True)
    connection = ConnectionSerializer(read_only=True, allow_null=True)

    class Meta:
        model = ConfigurationItem
        fields = ["id", "number", "name", "channel", "connection"]

    def to_representation(self, instance: Any) -> dict[str, Any]:
        # A one-to-one that is not there is an error to Django; here it is nothing.
        if not hasattr(instance, "connection"):
            instance.connection = None
        return dict(super().to_representation(instance))


class ConnectSerializer(serializers.Serializer):
    kind = serializers.ChoiceField(choices=Connection.Kind.choices, required=False)
    address = serializers.CharField(max_length=253, required=False, allow_blank=True)
    port = serializers.IntegerField(min_value=1, max_value=65535, required=False)
    user = serializers.CharField(max_length=64, required=False, allow_blank=True)
    credential = NameField(slug_field="name", queryset=Credential.objects.all(), required=False, allow_null=True)
    host_key = serializers.CharField(max_length=8000, required=False, allow_blank=True)
    folder = serializers.CharField(max_length=255)
    python = serializers.CharField(max_length=255, required=False)


class PushLogSerializer(serializers.ModelSerializer):
    """A deployment in one push run."""

    kind = serializers.CharField(source="run.kind", read_only=True)
    outcome = serializers.CharField(source="run.outcome", read_only=True)
    note = serializers.CharField(source="run.note", read_only=True)
    started_at = serializers.DateTimeField(source="run.started_at", read_only=True)

    class Meta:
        model = PushTarget
        fields = ["run", "kind", "outcome", "note", "started_at", "ended_at", "log"]
