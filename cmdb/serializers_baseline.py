"""Baselines in the API."""

from typing import Any

from rest_framework import serializers

from cmdb.baselines import PARTS
from cmdb.models import Baseline


class BaselineSerializer(serializers.ModelSerializer):
    """A baseline without what it holds."""

    recorded_by = serializers.CharField(source="recorded_by.username", read_only=True)

    class Meta:
        model = Baseline
        fields = ["id", "name", "recorded_at", "recorded_by"]


class BaselineDifferenceSerializer(serializers.Serializer):
    """Something that is not what it was; null: it did not exist."""

    part = serializers.ChoiceField(choices=list(PARTS))
    name = serializers.CharField()
    then = serializers.CharField(allow_null=True)
    now = serializers.CharField(allow_null=True)


class ComparedBaselineSerializer(BaselineSerializer):
    """A baseline with what it holds, part by part, and what is different now. `look` of the context compares."""

    state = serializers.DictField(child=serializers.DictField(child=serializers.CharField()))
    differences = BaselineDifferenceSerializer(many=True)

    class Meta(BaselineSerializer.Meta):
        fields = [*BaselineSerializer.Meta.fields, "state", "differences"]

    def to_representation(self, instance: Baseline) -> dict[str, Any]:
        seen = self.context["look"].compare(instance)
        return {
            **BaselineSerializer(instance).data,
            "state": seen.state,
            "differences": BaselineDifferenceSerializer(seen.differences, many=True).data,
        }


class RecordBaselineSerializer(serializers.Serializer):
    name = serializers.CharField(max_length=100)


class WhichBaselineSerializer(serializers.Serializer):
    baseline = serializers.IntegerField(min_value=1, max_value=2**63 - 1, help_text="Id of the baseline.")
