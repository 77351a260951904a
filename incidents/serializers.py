"""Incidents as the API shows and takes them."""

from rest_framework import serializers

from cmdb.models import ConfigurationItem
from incidents.models import Incident
from tickets.serializers import (
    EditSerializer,
    NumberField,
    TicketListSerializer,
    TicketSerializer,
    level_field,
    user_field,
)


class IncidentListSerializer(TicketListSerializer):
    ci = NumberField(ConfigurationItem, read_only=True, allow_null=True)

    class Meta(TicketListSerializer.Meta):
        model = Incident
        fields = [*TicketListSerializer.Meta.fields, "ci", "is_major", "hold_reason"]


class IncidentSerializer(TicketSerializer):
    """An incident. What stands behind it (problem, RFC, release) is at `/api/v1/chain/<number>/`."""

    ci = NumberField(ConfigurationItem, read_only=True, allow_null=True)
    ci_name = serializers.CharField(source="ci.name", read_only=True, allow_null=True, default=None)

    class Meta(TicketSerializer.Meta):
        model = Incident
        fields = [
            *TicketSerializer.Meta.fields, "ci", "ci_name", "is_major", "hold_reason", "resolution", "resolved_at",
        ]  # fmt: skip


class ReportSerializer(serializers.Serializer):
    title = serializers.CharField(min_length=3, max_length=200)
    description = serializers.CharField(max_length=50_000, allow_blank=True, default="")
    ci = NumberField(ConfigurationItem, required=False, allow_null=True)
    impact = level_field(default="medium")
    urgency = level_field(default="medium")
    requester = user_field(required=False)


class EditIncidentSerializer(EditSerializer):
    ci = NumberField(ConfigurationItem, required=False, allow_null=True)


class HoldSerializer(serializers.Serializer):
    reason = serializers.ChoiceField(choices=Incident.HoldReason.choices)
    note = serializers.CharField(max_length=20_000, allow_blank=True, default="")


class ResolveSerializer(serializers.Serializer):
    resolution = serializers.CharField(max_length=20_000)
