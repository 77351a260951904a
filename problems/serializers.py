"""Problems as the API shows and takes them."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from incidents.models import Incident
from problems.models import Problem
from tickets.activities import Process, activities_of
from tickets.serializers import LinkSerializer, NumbersField, TicketListSerializer, TicketSerializer, level_field

ACTIVITIES = [(activity.value, activity.label) for activity in activities_of(Process.PROBLEM)]


class ProblemListSerializer(TicketListSerializer):
    class Meta(TicketListSerializer.Meta):
        model = Problem
        fields = [*TicketListSerializer.Meta.fields, "is_known_error"]


class ProblemSerializer(TicketSerializer):
    """A problem with those of its incidents that the person may see."""

    incidents = serializers.SerializerMethodField()

    class Meta(TicketSerializer.Meta):
        model = Problem
        fields = [
            *TicketSerializer.Meta.fields, "is_known_error", "root_cause", "workaround", "close_code", "incidents",
        ]  # fmt: skip

    @extend_schema_field(LinkSerializer(many=True))
    def get_incidents(self, problem: Problem) -> list[dict[str, Any]]:
        return self.visible_links(problem.incidents)


class OpenProblemSerializer(serializers.Serializer):
    title = serializers.CharField(min_length=3, max_length=200)
    description = serializers.CharField(max_length=50_000, allow_blank=True, default="")
    incidents = NumbersField(Incident, default=list)
    impact = level_field(default="medium")
    urgency = level_field(default="medium")
    activity = serializers.ChoiceField(choices=ACTIVITIES, default="repair")


class LinkIncidentsSerializer(serializers.Serializer):
    incidents = NumbersField(Incident)


class DocumentSerializer(serializers.Serializer):
    """What is left out stays as it is."""

    root_cause = serializers.CharField(max_length=50_000, required=False, allow_blank=True)
    workaround = serializers.CharField(max_length=50_000, required=False, allow_blank=True)
    is_known_error = serializers.BooleanField(required=False)
    expected_version = serializers.IntegerField(required=False, min_value=1)


class CloseProblemSerializer(serializers.Serializer):
    close_code = serializers.ChoiceField(choices=Problem.CloseCode.choices)
