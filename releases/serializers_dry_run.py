"""The dry run as the API shows it; figures are those of `releases.dry_run`."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cmdb.models import ConfigurationItem
from releases.dry_run.advice import RULE
from releases.dry_run.targets import ONLY
from tickets.serializers import NumberField


class WaveTimesSerializer(serializers.Serializer):
    """One wave. Without a time: it never comes so far. `failures`: as so far, and with caution."""

    number = serializers.IntegerField()
    size = serializers.IntegerField()
    already = serializers.IntegerField(help_text="CIs that run the versions already and are skipped.")
    opens_at = serializers.DateTimeField(allow_null=True)
    reached_at = serializers.DateTimeField(allow_null=True, help_text="When it meets its success threshold.")
    passes_at = serializers.DateTimeField(allow_null=True, help_text="When its problem-free time is over.")
    cautious_passes_at = serializers.DateTimeField(allow_null=True)
    failures = serializers.ListField(child=serializers.FloatField())


class PointSerializer(serializers.Serializer):
    """The rollout at one time, in seconds since its beginning."""

    seconds = serializers.FloatField(source="at")
    updated = serializers.FloatField()
    at_risk = serializers.FloatField()
    downloading = serializers.FloatField()
    bytes_per_second = serializers.FloatField(source="rate")


class ForecastSerializer(serializers.Serializer):
    """One strategy. `ends_at` takes the median of what was measured, `cautious_ends_at` its slowest tenth."""

    strategy = serializers.CharField()
    is_chosen = serializers.BooleanField()
    ends_at = serializers.DateTimeField(allow_null=True)
    cautious_ends_at = serializers.DateTimeField(allow_null=True)
    updated_at = serializers.DateTimeField(allow_null=True, help_text="When the last CI has the versions.")
    most_downloads = serializers.IntegerField(source="run.most_downloads")
    most_bytes_per_second = serializers.FloatField(source="run.highest_rate")
    most_at_risk = serializers.IntegerField(
        source="run.most_at_risk", help_text="CIs that got it while their wave has not passed."
    )
    reached_if_bad = serializers.IntegerField(help_text="CIs that a version which fails everywhere would reach.")
    mixed_seconds = serializers.FloatField(source="run.mixed_seconds", allow_null=True)
    expected_failures = serializers.ListField(child=serializers.FloatField(), help_text="As so far, and with caution.")
    notes = serializers.ListField(child=serializers.CharField())
    waves = WaveTimesSerializer(many=True)
    points = PointSerializer(source="run.points", many=True)


class SpreadSerializer(serializers.Serializer):
    """Seconds that half, and nine of ten, stay below."""

    p50 = serializers.FloatField()
    p90 = serializers.FloatField()


class BasisSerializer(serializers.Serializer):
    """On what the figures for the CIs of one class and channel rest: `product`, `class`, `channel` or `assumed`."""

    ci_class = serializers.CharField()
    channel = serializers.CharField()
    cis = serializers.IntegerField()
    download = SpreadSerializer(source="estimate.download")
    total = SpreadSerializer(source="estimate.total")
    durations_from = serializers.CharField(source="estimate.durations_from")
    durations_measured = serializers.IntegerField(source="estimate.durations_measured")
    failures = serializers.FloatField(source="estimate.failures", help_text="Share of the CIs, from 0 to 1.")
    cautious_failures = serializers.FloatField(source="estimate.cautious_failures")
    failures_from = serializers.CharField(source="estimate.failures_from")
    failures_measured = serializers.IntegerField(source="estimate.failures_measured")


class ConflictSerializer(serializers.Serializer):
    """Another rollout on the same CIs; without `rollout`: one that you may not see."""

    rollout = serializers.CharField(source="label")
    purpose = serializers.CharField()
    cis = serializers.IntegerField()
    under_way = serializers.IntegerField()
    superseded = serializers.IntegerField()
    stopped = serializers.IntegerField()
    awaited = serializers.IntegerField(help_text="CIs on which this rollout waits until the other one has ended.")


class FreezeInTheWaySerializer(serializers.Serializer):
    """A freeze during which nothing is offered."""

    number = serializers.CharField()
    name = serializers.CharField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()


class PresentSerializer(serializers.Serializer):
    product = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    cis = serializers.IntegerField()


class AdviceSerializer(serializers.Serializer):
    strategy = serializers.CharField()
    text = serializers.CharField()
    rule = serializers.SerializerMethodField()

    def get_rule(self, advice: Any) -> str:
        return str(RULE)


class FindingSerializer(serializers.Serializer):
    """What is wrong or surprising about the plan; `level` is error or warning."""

    level = serializers.CharField()
    code = serializers.CharField()
    text = serializers.CharField()


class DryRunSerializer(serializers.Serializer):
    """What a start would do, as a big bang and phased; nothing is written."""

    begins_at = serializers.DateTimeField()
    planned_end = serializers.DateTimeField(allow_null=True)
    targets = serializers.IntegerField()
    already = serializers.IntegerField()
    failed_before = serializers.IntegerField(help_text="CIs that are left out: this very content failed on them.")
    silent = serializers.IntegerField(help_text="CIs whose devices were not heard of lately.")
    without_way_back = serializers.IntegerField()
    accepted_without_way_back = serializers.IntegerField()
    bytes = serializers.IntegerField()
    present = serializers.SerializerMethodField()
    conflicts = ConflictSerializer(many=True)
    freezes = FreezeInTheWaySerializer(many=True)
    advice = AdviceSerializer()
    findings = FindingSerializer(many=True)
    big_bang = ForecastSerializer()
    phased = ForecastSerializer()
    basis = BasisSerializer(many=True)
    assumptions = serializers.ListField(child=serializers.CharField())

    @extend_schema_field(PresentSerializer(many=True))
    def get_present(self, plan: Any) -> list[dict[str, Any]]:
        rows = [{"product": product, "label": label, "cis": cis} for product, label, cis in plan.present]
        return list(PresentSerializer(rows, many=True).data)


class PlannedCIsQuery(serializers.Serializer):
    """Which targets are asked for."""

    wave = serializers.IntegerField(required=False, min_value=1)
    only = serializers.ChoiceField(required=False, choices=ONLY)


class PlannedCISerializer(serializers.Serializer):
    """One target as it is now."""

    ci = NumberField(ConfigurationItem, read_only=True)
    name = serializers.CharField(source="ci.name")
    wave = serializers.IntegerField(help_text="Of the phased plan.")
    maintenance_window = serializers.CharField(source="ci.window.name", default=None, allow_null=True)
    can_go_back = serializers.BooleanField()
    rollouts = serializers.ListField(child=serializers.CharField(), help_text="Open ones on this CI.")
