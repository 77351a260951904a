"""Gateways and waiting devices as the API shows and takes them."""

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from cmdb.models import AgentProfile, CIClass, CIGroup, ConfigurationItem, GatewayToken, Registration
from tickets.serializers import NameField, NumberField, PersonSerializer, team_field, user_field


class RegistrationSerializer(serializers.ModelSerializer):
    """A device that a gateway or a certificate let in. `attributes` are what it says about itself."""

    number = serializers.CharField(read_only=True)
    gateway = serializers.CharField(source="gateway_token.name", read_only=True, allow_null=True, default=None)
    authority = serializers.CharField(source="authority.name", read_only=True, allow_null=True, default=None)
    decided_by = PersonSerializer(read_only=True, allow_null=True)
    ci = NumberField(ConfigurationItem, read_only=True, allow_null=True)

    class Meta:
        model = Registration
        fields = [
            "id", "number", "agent_id", "state", "gateway", "authority", "address", "attributes", "first_seen_at",
            "last_seen_at", "decided_by", "decided_at", "reason", "ci",
        ]  # fmt: skip


class ApproveSerializer(serializers.Serializer):
    """What is left out is proposed by the gateway or the authority; the name is the agent's id."""

    name = serializers.CharField(max_length=128, required=False)
    ci_class = NameField(slug_field="slug", queryset=CIClass.objects.all(), required=False)
    agent_profile = NameField(slug_field="name", queryset=AgentProfile.objects.all(), required=False, allow_null=True)
    owner = user_field(required=False, allow_null=True)
    team = team_field(required=False, allow_null=True)


class RejectSerializer(serializers.Serializer):
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class GatewayTokenSerializer(serializers.ModelSerializer):
    """A gateway's token without its text."""

    number = serializers.CharField(read_only=True)
    group = NumberField(CIGroup, read_only=True)
    ci_class = serializers.CharField(source="ci_class.slug", read_only=True, allow_null=True, default=None)
    agent_profile = serializers.CharField(source="agent_profile.name", read_only=True, allow_null=True, default=None)

    class Meta:
        model = GatewayToken
        fields = [
            "id", "number", "name", "group", "may_register", "ci_class", "agent_profile", "created_at", "revoked_at",
        ]  # fmt: skip


class IssueGatewaySerializer(serializers.Serializer):
    name = serializers.CharField(max_length=100)
    group = NumberField(CIGroup, help_text=_("The group that it speaks for."))
    may_register = serializers.BooleanField(required=False)
    ci_class = NameField(slug_field="slug", queryset=CIClass.objects.all(), required=False, allow_null=True)
    agent_profile = NameField(slug_field="name", queryset=AgentProfile.objects.all(), required=False, allow_null=True)
