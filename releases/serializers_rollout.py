"""Rollouts and test runs as the API shows and takes them."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from distribution.services import Counts, counts
from incidents.models import Incident
from releases.models import ProbeSample, Rollout, RolloutEvent, TestPeriod, TestRun, Verdict, Wave
from releases.probes import name_of
from tickets.serializers import PersonSerializer, VerbSerializer, ViewerMixin

COUNTED = [
    "queued", "offered", "downloading", "installing", "confirming", "cancelling", "unknown", "succeeded", "failed",
    "cancelled", "superseded", "excluded", "skipped", "overdue", "total",
]  # fmt: skip

CountsSerializer = type(
    "CountsSerializer",
    (serializers.Serializer,),
    {
        "__doc__": "CIs by the state of their latest deployment; `overdue` are counted in their state, too.",
        **{name: serializers.IntegerField(read_only=True) for name in COUNTED},
    },
)


def shown_counts(found: Counts | None) -> dict[str, int]:
    """The counts of a batch; a batch without deployments has zeros."""
    return {name: int(getattr(found, name, 0)) for name in COUNTED}


class TestPeriodSerializer(serializers.ModelSerializer):
    """A problem-free period that began anew before its end."""

    __test__ = False

    class Meta:
        model = TestPeriod
        fields = ["seconds", "ended_at", "why"]


class TestRunSerializer(serializers.ModelSerializer):
    """A try of the package on a copy; `soak_started_at` and `soak_seconds` say how long it still has to hold."""

    __test__ = False

    environment = serializers.CharField(source="environment.number", read_only=True)
    source_ci = serializers.CharField(source="environment.source.number", read_only=True)
    evidence = serializers.CharField(source="environment.evidence", read_only=True)
    earlier_periods = TestPeriodSerializer(many=True, read_only=True)
    started_by = PersonSerializer(read_only=True)

    def to_representation(self, instance: TestRun) -> dict[str, Any]:
        """Whose CI was copied and what went wrong there is for those who see environments, as in the portal."""
        shown = super().to_representation(instance)
        request = self.context.get("request")
        if request is None or not request.user.has_perm("test_environments.see_environments"):
            shown |= {"environment": "", "source_ci": "", "reason": "", "soak_pause_reason": "", "earlier_periods": []}
        return shown

    class Meta:
        model = TestRun
        fields = [
            "id", "state", "environment", "source_ci", "package_hash", "soak_seconds", "soak_started_at",
            "soaked_seconds", "soak_paused_at", "soak_pause_reason", "evidence", "evidence_needed", "restarts",
            "earlier_periods", "reason", "started_by", "created_at", "finished_at",
        ]  # fmt: skip


class RolloutListSerializer(serializers.ModelSerializer):
    number = serializers.CharField(read_only=True)
    state_label = serializers.CharField(source="get_state_display", read_only=True)
    release = serializers.CharField(source="release.number", read_only=True)
    started_by = PersonSerializer(read_only=True)

    class Meta:
        model = Rollout
        fields = [
            "id", "number", "release", "state", "state_label", "target_count", "pause_kind", "waits_for", "started_by",
            "started_at", "finished_at",
        ]  # fmt: skip


class WaveSerializer(serializers.ModelSerializer):
    """A wave and how far its CIs are."""

    counts = serializers.SerializerMethodField()

    class Meta:
        model = Wave
        fields = [
            "id", "number", "kind", "state", "size", "rule", "batch", "started_at", "soak_started_at", "soaked_seconds",
            "finished_at", "counts",
        ]  # fmt: skip

    @extend_schema_field(CountsSerializer)
    def get_counts(self, wave: Wave) -> dict[str, int]:
        return shown_counts(self.context["counts"].get(wave.batch_id))


class RolloutSerializer(ViewerMixin, RolloutListSerializer):
    """A rollout with its waves; deployments, verdicts and events have addresses of their own."""

    waves = serializers.SerializerMethodField()
    breach_incident = serializers.SerializerMethodField()
    chain = serializers.SerializerMethodField()
    verbs = serializers.SerializerMethodField()

    class Meta(RolloutListSerializer.Meta):
        fields = [
            *RolloutListSerializer.Meta.fields, "policy", "targets", "frozen_at", "pause_reason", "round",
            "breach_incident", "generation", "overridden", "waves", "chain", "verbs",
        ]  # fmt: skip

    @extend_schema_field(WaveSerializer(many=True))
    def get_waves(self, rollout: Rollout) -> list[dict[str, Any]]:
        waves = list(rollout.waves.order_by("kind", "number"))
        context = {**self.context, "counts": counts([wave.batch_id for wave in waves])}
        return list(WaveSerializer(waves, many=True, context=context).data)

    @extend_schema_field({"type": "string", "nullable": True})
    def get_breach_incident(self, rollout: Rollout) -> str | None:
        if rollout.breach_incident_id is None:
            return None
        found = Incident.objects.visible_to(self.viewer).filter(pk=rollout.breach_incident_id).only("pk").first()
        return found.number if found else None

    @extend_schema_field(VerbSerializer(many=True))
    def get_verbs(self, instance: Any) -> list[dict[str, Any]]:
        return super().get_verbs(instance)


class VerdictSerializer(serializers.ModelSerializer):
    """What was decided about a wave, with the numbers and the policy that led to it."""

    wave = serializers.IntegerField(source="wave.number", read_only=True)
    wave_kind = serializers.CharField(source="wave.kind", read_only=True)

    class Meta:
        model = Verdict
        fields = [
            "id",
            "wave",
            "wave_kind",
            "kind",
            "round",
            "outcome",
            "numbers",
            "policy",
            "event_position",
            "at",
        ]


class RolloutEventSerializer(serializers.ModelSerializer):
    """One thing that happened to the rollout; without `actor` it was the engine."""

    wave = serializers.IntegerField(source="wave.number", read_only=True, allow_null=True, default=None)
    wave_kind = serializers.CharField(source="wave.kind", read_only=True, allow_null=True, default=None)
    actor = PersonSerializer(read_only=True, allow_null=True)

    def to_representation(self, instance: RolloutEvent) -> dict[str, Any]:
        """What is said about single CIs is for those who may see all of them, as in the portal."""
        shown = super().to_representation(instance)
        request = self.context.get("request")
        if request is None or not request.user.has_perm("releases.see_all_releases"):
            shown["text"] = ""
        return shown

    class Meta:
        model = RolloutEvent
        fields = ["id", "kind", "wave", "wave_kind", "text", "actor", "at"]


class ProbeSampleSerializer(serializers.ModelSerializer):
    """One question of a probe of the policy and what came back; without `outcome` it is not answered."""

    wave = serializers.IntegerField(source="wave.number", read_only=True)
    probe = serializers.SerializerMethodField(help_text="Its name: the address, or the check.")

    class Meta:
        model = ProbeSample
        fields = ["id", "wave", "round", "position", "probe", "outcome", "detail", "asked_at", "answered_at"]

    def get_probe(self, sample: ProbeSample) -> str:
        return name_of(sample.wave.rollout.policy["probes"][sample.position - 1])

    def to_representation(self, instance: ProbeSample) -> dict[str, Any]:
        """What a single CI answered is for those who may see all of them, as in the portal."""
        shown = super().to_representation(instance)
        request = self.context.get("request")
        if request is None or not request.user.has_perm("releases.see_all_releases"):
            shown["detail"] = ""
        return shown
