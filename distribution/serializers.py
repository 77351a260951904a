"""Deployments as the API shows them; nobody writes them but the engine and the device."""

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cmdb.models import ConfigurationItem
from distribution.models import Deployment, DeploymentItem
from distribution.stragglers import REASONS
from tickets.serializers import NumberField


class DeploymentItemSerializer(serializers.ModelSerializer):
    """One product: from which version to which; empty `to_version` removes it, empty `from_version` is new."""

    product = serializers.CharField(source="product.slug", read_only=True)
    from_version = serializers.CharField(source="from_version.label", read_only=True, allow_null=True, default=None)
    to_version = serializers.CharField(source="to_version.label", read_only=True, allow_null=True, default=None)

    class Meta:
        model = DeploymentItem
        fields = ["product", "from_version", "to_version"]


class DeploymentSerializer(serializers.ModelSerializer):
    """A package on its way to one CI."""

    ci = NumberField(ConfigurationItem, read_only=True)
    ci_name = serializers.CharField(source="ci.name", read_only=True)
    label = serializers.CharField(source="batch.label", read_only=True)  # type: ignore[assignment]
    purpose = serializers.CharField(source="batch.purpose", read_only=True)
    is_overdue = serializers.SerializerMethodField()

    class Meta:
        model = Deployment
        fields = [
            "id", "batch", "label", "purpose", "ci", "ci_name", "attempt", "state", "is_overdue", "error_code",
            "message", "reason", "created_at", "offered_at", "moved_at", "reported_at", "finished_at", "overdue_at",
            "not_before",
        ]  # fmt: skip

    def get_is_overdue(self, deployment: Deployment) -> bool:
        return deployment.overdue_at is not None


class DeploymentDetailSerializer(DeploymentSerializer):
    items = serializers.SerializerMethodField()

    class Meta(DeploymentSerializer.Meta):
        fields = [*DeploymentSerializer.Meta.fields, "items"]

    @extend_schema_field(DeploymentItemSerializer(many=True))
    def get_items(self, deployment: Deployment) -> list[dict[str, object]]:
        rows = deployment.items.select_related("product", "from_version", "to_version")
        return list(DeploymentItemSerializer(rows, many=True).data)


class StragglerSerializer(serializers.Serializer):
    """A CI that does not have it: `code` for programs, `text` for people, since when it stands so."""

    ci = NumberField(ConfigurationItem, source="deployment.ci", read_only=True)
    ci_name = serializers.CharField(source="deployment.ci.name", read_only=True)
    deployment = serializers.IntegerField(source="deployment.pk", read_only=True)
    purpose = serializers.CharField(source="deployment.batch.purpose", read_only=True)
    state = serializers.CharField(source="deployment.state", read_only=True)
    attempt = serializers.IntegerField(source="deployment.attempt", read_only=True)
    overdue_at = serializers.DateTimeField(source="deployment.overdue_at", read_only=True, allow_null=True)
    code = serializers.ChoiceField(choices=sorted(REASONS), read_only=True)
    text = serializers.CharField(read_only=True)
    since = serializers.DateTimeField(read_only=True)
    last_seen_at = serializers.DateTimeField(read_only=True, allow_null=True)


class DeploymentEventSerializer(serializers.Serializer):
    """One step or report, in the order of `id`."""

    id = serializers.IntegerField(read_only=True)
    kind = serializers.CharField(read_only=True)
    from_state = serializers.CharField(read_only=True)
    to_state = serializers.CharField(read_only=True)
    at = serializers.DateTimeField(read_only=True)
    execution = serializers.CharField(read_only=True)
    result = serializers.CharField(read_only=True)
    details = serializers.ListField(child=serializers.CharField(), read_only=True, help_text=_("Texts of the device."))
    is_duplicate = serializers.BooleanField(read_only=True)
