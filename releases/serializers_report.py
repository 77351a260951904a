"""A rollout's report in the API."""

from typing import Any

from rest_framework import serializers

from releases.report import OUTCOMES, WaveRow
from releases.serializers import ExceptionSerializer, ReleaseApprovalSerializer
from releases.serializers_rollout import CountsSerializer, TestRunSerializer, shown_counts
from releases.serializers_verbs import FailureDecisionSerializer
from tickets.serializers import ApprovalSerializer, PersonSerializer


class OutcomeSerializer(serializers.Serializer):
    name = serializers.ChoiceField(choices=list(OUTCOMES))
    count = serializers.IntegerField()


class WaveRowSerializer(serializers.Serializer):
    """A wave as it was planned (`takes`) and as it went; `seconds` from its opening to its end."""

    number = serializers.IntegerField(source="wave.number")
    kind = serializers.CharField(source="wave.kind")
    state = serializers.CharField(source="wave.state")
    takes = serializers.CharField()
    started_at = serializers.DateTimeField(source="wave.started_at", allow_null=True)
    finished_at = serializers.DateTimeField(source="wave.finished_at", allow_null=True)
    seconds = serializers.FloatField(allow_null=True)
    counts = CountsSerializer()

    def to_representation(self, instance: WaveRow) -> dict[str, Any]:
        return {**super().to_representation(instance), "counts": shown_counts(instance.counts)}


class FailureGroupSerializer(serializers.Serializer):
    """CIs whose newest attempt failed for the same reason; `message` only for who may see all CIs."""

    error_code = serializers.CharField()
    message = serializers.CharField()
    count = serializers.IntegerField()


class PauseOfRolloutSerializer(serializers.Serializer):
    """From when to when nothing new was offered; without `until` it lasts."""

    since = serializers.DateTimeField()
    until = serializers.DateTimeField(allow_null=True)
    seconds = serializers.FloatField(allow_null=True)
    reason = serializers.CharField()
    by = PersonSerializer(allow_null=True)
    resumed_by = PersonSerializer(allow_null=True)
    resumed_reason = serializers.CharField()


class ChangeApprovalOfReportSerializer(ApprovalSerializer):
    change = serializers.CharField(source="change.number")


class RolloutReportSerializer(serializers.Serializer):
    """What became of a rollout. The counts of `outcomes` add up to `total`: each CI counts once."""

    rollout = serializers.CharField(source="rollout.number")
    release = serializers.CharField(source="rollout.release.number")
    state = serializers.CharField(source="rollout.state")
    is_over = serializers.BooleanField()
    started_by = PersonSerializer(source="rollout.started_by")
    started_at = serializers.DateTimeField(source="rollout.started_at")
    finished_at = serializers.DateTimeField(source="rollout.finished_at", allow_null=True)
    seconds = serializers.FloatField(allow_null=True, help_text="From start to end.")
    paused_seconds = serializers.FloatField()
    lead_seconds = serializers.FloatField(allow_null=True, help_text="From the first of its RFCs to the end.")
    median_seconds = serializers.FloatField(allow_null=True, help_text="From offer to confirmation, half of the CIs.")
    p95_seconds = serializers.FloatField(allow_null=True, help_text="The same for 95 of 100 CIs.")
    total = serializers.IntegerField()
    outcomes = OutcomeSerializer(many=True)
    waves = WaveRowSerializer(many=True)
    failures = FailureGroupSerializer(many=True)
    pauses = PauseOfRolloutSerializer(many=True)
    decisions = FailureDecisionSerializer(many=True)
    release_approvals = ReleaseApprovalSerializer(many=True)
    change_approvals = ChangeApprovalOfReportSerializer(many=True)
    test = TestRunSerializer(allow_null=True)
    exceptions = ExceptionSerializer(many=True)
