"""`/api/v1/reports/<name>/`: the figures of the report pages."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import Team
from accounts.roles import READ_TICKETS
from itsm_portal.reports.figures import REPORTS
from itsm_portal.reports.period import MOST_DAYS, asked_of
from itsm_portal.reports.report import UNITS
from tickets.clock import now_of


class AskedReportSerializer(serializers.Serializer):
    first = serializers.DateField(required=False, help_text="First day; twelve weeks before the last one if not given.")
    last = serializers.DateField(required=False, help_text="Last day, included; now if not given.")
    unit = serializers.ChoiceField(choices=list(UNITS.items()), default="week")
    team = serializers.SlugRelatedField(slug_field="name", queryset=Team.objects.all(), required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        first, last = attrs.get("first"), attrs.get("last")
        if first and last and not 0 <= (last - first).days <= MOST_DAYS:
            raise serializers.ValidationError(
                {"last": _("Choose a period of up to three years that ends after it begins.")}
            )
        return attrs


class ReportColumnSerializer(serializers.Serializer):
    key = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    definition = serializers.CharField()
    unit = serializers.CharField(help_text="`%`, `h` (hours) or empty: a number of things.")


class ReportRowSerializer(serializers.Serializer):
    """`values` are in the order of the columns; null where there is nothing to divide."""

    label = serializers.CharField()  # type: ignore[assignment]
    values = serializers.ListField(child=serializers.FloatField(allow_null=True))


class ReportSerializer(serializers.Serializer):
    first = serializers.CharField(help_text="What the labels of the rows are.")
    columns = ReportColumnSerializer(many=True)
    rows = ReportRowSerializer(many=True)


class ReportView(APIView):
    """How changes, rollouts and incidents went, for whoever may read all tickets."""

    name = "changes"

    @extend_schema(parameters=[AskedReportSerializer], responses=ReportSerializer)
    def get(self, request: Request) -> Response:
        """Columns with what they mean, and a row for each week or month."""
        if not request.user.has_perms(READ_TICKETS):
            raise PermissionDenied(_("Reports are for whoever may read all tickets."))
        given = AskedReportSerializer(data=request.query_params)
        given.is_valid(raise_exception=True)
        report = REPORTS[self.name](asked_of(given.validated_data, now_of(request)))
        return Response(ReportSerializer(report).data)


def report_view(name: str) -> Any:
    """The view of one report, with a name of its own in the schema."""
    values = {"name": name, "__doc__": REPORTS[name].__doc__}
    view: Any = type(f"{name.title()}ReportView", (ReportView,), values)
    return extend_schema_view(get=extend_schema(operation_id=f"report_{name}"))(view).as_view()
