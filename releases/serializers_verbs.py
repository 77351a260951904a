"""What the verbs of releases and rollouts take, and what their previews give."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cmdb.models import ConfigurationItem
from distribution.serializers import DeploymentSerializer
from releases.models import FailureDecision
from releases.services.failures import DECISIONS
from releases.services.pausing import ACCEPT, FREEZE, PAUSE_MODES, RESUME_MODES
from releases.services.previews import PREVIEWS
from releases.services.start_preview import VERBS
from tickets.serializers import NumberField, OptionalReasonSerializer, PersonSerializer, ReasonSerializer


class PauseSerializer(ReasonSerializer):
    """`freeze` offers nothing any more; `let_run` lets open waves come to their end and opens no other one."""

    mode = serializers.ChoiceField(choices=PAUSE_MODES, default=FREEZE)


class ResumeSerializer(OptionalReasonSerializer):
    """After a stop for failures: `accept` them, `retry` them, or `skip` what still waits in the wave.

    `seen_round` is the rollout's `round` that the person had before him: if it has stopped again since, nothing is
    resumed (409).
    """

    mode = serializers.ChoiceField(choices=RESUME_MODES, default=ACCEPT)
    seen_round = serializers.IntegerField(min_value=1, required=False, allow_null=True)


class RollBackWaveSerializer(ReasonSerializer):
    """Which forward wave goes back."""

    wave = serializers.IntegerField(min_value=1, max_value=32_767, help_text="Number of the wave.")


class ContinueRollbackSerializer(ReasonSerializer):
    """What becomes of a rollback that was stopped: `go_on` with the rest, `retry` what failed as well, or `end` it."""

    choice = serializers.ChoiceField(choices=["go_on", "retry", "end"], default="go_on")


class NextWaveSerializer(ReasonSerializer):
    """Which wave's problem-free period ends now."""

    wave = serializers.IntegerField(min_value=1, max_value=32_767, help_text="Number of the present wave.")


class OneCISerializer(ReasonSerializer):
    ci = NumberField(ConfigurationItem)


class DecideFailureSerializer(OneCISerializer):
    """`fail` leaves it failed, `retry` tries again, `ignore` accepts it, `exclude` takes the CI out."""

    decision = serializers.ChoiceField(choices=list(DECISIONS))


class ScheduleStartSerializer(serializers.Serializer):
    start_at = serializers.DateTimeField()


class CIQuerySerializer(serializers.Serializer):
    ci = NumberField(ConfigurationItem)


class PreviewQuerySerializer(serializers.Serializer):
    """Which order; `ci` and `wave` for those that are about one."""

    verb = serializers.ChoiceField(choices=list(PREVIEWS))
    ci = NumberField(ConfigurationItem, required=False)
    wave = serializers.IntegerField(min_value=1, max_value=32_767, required=False)


class StartPreviewQuerySerializer(serializers.Serializer):
    verb = serializers.ChoiceField(choices=VERBS, default=VERBS[0])


class EffectSerializer(serializers.Serializer):
    """One thing that happens to so many CIs; `key` is stable, `text` is for people."""

    key = serializers.CharField(read_only=True)
    text = serializers.CharField(read_only=True)
    count = serializers.IntegerField(read_only=True)


class ChoiceSerializer(serializers.Serializer):
    """One way to give the order; `name` is its mode, if it has several. With a `refusal` it is not possible now."""

    name = serializers.CharField(read_only=True)
    effects = EffectSerializer(many=True, read_only=True)
    warnings = serializers.ListField(child=serializers.CharField(), read_only=True)
    refusal = serializers.CharField(read_only=True)


class PreviewSerializer(serializers.Serializer):
    """What an order would do now. `is_done`: it was given before, and giving it again changes nothing.

    So many seconds at most were needed by the half and by nine tenths of the `measured_on` newest CIs of the rollout.
    """

    verb = serializers.CharField(read_only=True)
    choices = ChoiceSerializer(many=True, read_only=True)
    in_flight = serializers.CharField(read_only=True)
    told = serializers.CharField(read_only=True)
    is_done = serializers.BooleanField(read_only=True)
    is_possible = serializers.BooleanField(read_only=True)
    seconds_p50 = serializers.IntegerField(read_only=True, allow_null=True)
    seconds_p90 = serializers.IntegerField(read_only=True, allow_null=True)
    measured_on = serializers.IntegerField(read_only=True)


class FailureDecisionSerializer(serializers.ModelSerializer):
    """What was decided about a CI whose deployment did not succeed, by whom and why."""

    ci = NumberField(ConfigurationItem, source="deployment.ci", read_only=True)
    wave = serializers.IntegerField(source="wave.number", read_only=True)
    decided_by = PersonSerializer(read_only=True)

    class Meta:
        model = FailureDecision
        fields = ["id", "ci", "wave", "deployment", "kind", "reason", "decided_by", "at"]


class OptionSerializer(serializers.Serializer):
    """One decision and what it means; with a `refusal` it is not possible now."""

    name = serializers.CharField(read_only=True)
    meaning = serializers.CharField(read_only=True)
    refusal = serializers.CharField(read_only=True)


class LogLineSerializer(serializers.Serializer):
    at = serializers.DateTimeField(read_only=True)
    text = serializers.CharField(read_only=True)


class FailureReportSerializer(serializers.Serializer):
    """What is known about one CI of the rollout: its attempts, newest first, what its device said, who else failed so.

    `others` are CIs of this rollout with the same error code; `named` those among them that the person may see.
    """

    attempts = DeploymentSerializer(many=True, read_only=True)
    log = serializers.SerializerMethodField()
    others = serializers.IntegerField(read_only=True)
    named = serializers.SerializerMethodField()
    decisions = FailureDecisionSerializer(many=True, read_only=True)
    options = OptionSerializer(many=True, read_only=True)

    @extend_schema_field(LogLineSerializer(many=True))
    def get_log(self, report: Any) -> list[dict[str, Any]]:
        return list(LogLineSerializer([{"at": at, "text": text} for at, text in report.log], many=True).data)

    @extend_schema_field({"type": "array", "items": {"type": "string"}, "example": ["CI-0000012"]})
    def get_named(self, report: Any) -> list[str]:
        return [deployment.ci.number for deployment in report.named]
