"""`/api/v1/cis/`, `/api/v1/ci-groups/`, `/api/v1/ci-classes/`, `/api/v1/agent-profiles/` and their windows."""

from datetime import datetime
from typing import Any

from django.http import StreamingHttpResponse
from django.utils.translation import gettext as _
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from cmdb import baselines, groups, registration, services
from cmdb.drift import accept_drift
from cmdb.impact import graph_of
from cmdb.models import AgentProfile, CIClass, CIGroup, ConfigurationItem, MaintenanceWindow
from cmdb.serializers import (
    AgentProfileSerializer,
    AttributeChangeSerializer,
    BulkSerializer,
    CIClassSerializer,
    CIGroupListSerializer,
    CIGroupSerializer,
    CIListSerializer,
    CISerializer,
    DriftSerializer,
    ImpactDepthSerializer,
    ImpactSerializer,
    InstalledSerializer,
    IssuedTokenSerializer,
    MaintenanceWindowSerializer,
    RegisteredSerializer,
    RegisterSerializer,
    TokenSerializer,
    WhichCIsSerializer,
    WhichProductSerializer,
    WhichTokenSerializer,
    WriteGroupSerializer,
)
from cmdb.serializers_baseline import (
    BaselineSerializer,
    ComparedBaselineSerializer,
    RecordBaselineSerializer,
    WhichBaselineSerializer,
)
from tickets.api import Call, NumberFilter, ObjectViewSet
from tickets.clock import now_of
from tickets.exceptions import InvalidInput
from tickets.lifecycle import check_permission
from tickets.serializers import is_storable, key_of

MANAGE = "cmdb.manage_cis"


def revoke_token(ci: ConfigurationItem, *, actor: Any, now: datetime, token: int) -> None:
    """Takes a token of this CI out of use at once."""
    found = ci.agent_tokens.filter(pk=token).first()
    if found is None:
        raise InvalidInput(_("%(ci)s has no token %(token)d.") % {"ci": ci, "token": token}, field="token")
    services.revoke_agent_token(found, actor=actor, now=now)


def remove_baseline(ci: ConfigurationItem, *, actor: Any, now: datetime, baseline: int) -> None:
    """Forgets a baseline of this CI."""
    found = ci.baselines.filter(pk=baseline).first()
    if found is None:
        raise InvalidInput(_("%(ci)s has no baseline %(key)d.") % {"ci": ci, "key": baseline}, field="baseline")
    baselines.remove_baseline(found, actor=actor, now=now)


class CsvParser(BaseParser):
    """The bytes of a CSV file."""

    media_type = "text/csv"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return stream.read()


def registered(rows: list[registration.Row]) -> Response:
    """What became of each row."""
    created = sum(row.ci is not None for row in rows)
    found = {"created": created, "refused": len(rows) - created, "results": rows}
    return Response(RegisteredSerializer(found).data)


class CIFilter(filters.FilterSet):
    lifecycle = filters.MultipleChoiceFilter(choices=ConfigurationItem.Lifecycle.choices)
    ci_class = filters.CharFilter(field_name="ci_class__slug", label="Short name of the class.")
    owner = filters.CharFilter(field_name="owner__username", label="User name.")
    agent_id = filters.CharFilter()
    drift = filters.BooleanFilter(method="only_drifted", label="Runs something else than what was expected.")
    copies = filters.BooleanFilter(field_name="copy_of", lookup_expr="isnull", exclude=True, label="Only test copies.")
    group = filters.CharFilter(method="only_in_group", label="Number or id of a group.", max_length=40)
    runs = filters.CharFilter(method="only_running", label="`product` or `product/version` that is installed now.")
    q = filters.CharFilter(field_name="name", lookup_expr="icontains", label="Part of the name.")

    def only_drifted(self, rows: Any, name: str, value: bool) -> Any:
        return rows.drifted() if value else rows.exclude(pk__in=ConfigurationItem.objects.drifted().values("pk"))

    def only_in_group(self, rows: Any, name: str, value: str) -> Any:
        group = CIGroup.objects.visible_to(self.request.user).filter(pk=key_of(CIGroup, value) or 0).first()
        return rows.filter(pk__in=group.members().values("pk")) if group is not None else rows.none()

    def only_running(self, rows: Any, name: str, value: str) -> Any:
        product, _slash, label = value.partition("/")
        wanted = {"installed_versions__valid_to__isnull": True, "installed_versions__product__slug": product}
        return rows.filter(**wanted, **({"installed_versions__label": label} if label else {}))


class CIViewSet(ObjectViewSet):
    """Configuration items: what runs where, and since when."""

    model = ConfigurationItem
    serializer_class = CISerializer
    list_serializer_class = CIListSerializer
    list_related = ("ci_class", "owner", "team")
    detail_related = ("agent_profile", "maintenance_window", "ci_class__maintenance_window")
    filterset_class = CIFilter
    ordering_fields = ["id", "name", "lifecycle", "last_seen_at"]
    ordering = ["name"]
    creates = Call(services.register_ci, RegisterSerializer, MANAGE)
    calls = {
        "issue_token": Call(
            services.issue_agent_token,
            permission=MANAGE,
            gives=IssuedTokenSerializer,
            status=status.HTTP_201_CREATED,
            is_secret=True,
        ),
        "revoke_token": Call(revoke_token, WhichTokenSerializer, MANAGE),
        "request_attributes": Call(services.request_attributes, permission=MANAGE),
        "accept_drift": Call(accept_drift, WhichProductSerializer, MANAGE),
        "record_baseline": Call(
            baselines.record_baseline,
            RecordBaselineSerializer,
            MANAGE,
            gives=BaselineSerializer,
            status=status.HTTP_201_CREATED,
        ),
        "remove_baseline": Call(remove_baseline, WhichBaselineSerializer, MANAGE),
    }

    def visible(self) -> Any:
        rows: Any = super().visible()
        return rows.with_drift()

    def after(self, instance: Any) -> Any:
        return (
            self.model.objects.with_drift().select_related(*self.list_related, *self.detail_related).get(pk=instance.pk)
        )

    @extend_schema(
        responses=AttributeChangeSerializer(many=True),
        parameters=[OpenApiParameter("key", str, description="Only this attribute.")],
    )
    @action(detail=True, methods=["get"], filter_backends=[])
    def attributes(self, request: Request, **kwargs: Any) -> Response:
        """What its agent reported, change by change, newest first; the oldest changes are not kept."""
        rows = self.get_object().attribute_changes.all()
        if key := request.query_params.get("key"):
            rows = rows.filter(key=key) if is_storable(key) else rows.none()
        return self.paged(rows, AttributeChangeSerializer)

    @extend_schema(responses=DriftSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def drifts(self, request: Request, **kwargs: Any) -> Response:
        """Where it ran something else than what was expected, newest first."""
        return self.paged(self.get_object().drifts.select_related("product"), DriftSerializer)

    @extend_schema(responses=ComparedBaselineSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def baselines(self, request: Request, **kwargs: Any) -> Response:
        """Its states that somebody recorded, newest first, each compared with what the CI is now."""
        ci = self.get_object()
        look = baselines.Look(ci, request.user)
        rows = ci.baselines.select_related("recorded_by")
        return self.paged(rows, ComparedBaselineSerializer, look=look)

    @extend_schema(parameters=[ImpactDepthSerializer], responses=ImpactSerializer)
    @action(detail=True, methods=["get"], filter_backends=[])
    def impact(self, request: Request, **kwargs: Any) -> Response:
        """What depends on it (`up`) and what it depends on (`down`), as far as the person may see it, nearest first."""
        wanted = ImpactDepthSerializer(data=request.query_params)
        wanted.is_valid(raise_exception=True)
        return Response(ImpactSerializer(graph_of(self.get_object(), request.user, **wanted.validated_data)).data)

    @extend_schema(operation_id="ci_bulk", request=BulkSerializer, responses=RegisteredSerializer)
    @action(detail=False, methods=["post"], filter_backends=[], pagination_class=None)
    def bulk(self, request: Request) -> Response:
        """Registers up to 1000 CIs; each for itself, with a result for each."""
        check_permission(request.user, MANAGE, _("register configuration items"))
        items = self.read(BulkSerializer)["items"]
        return registered(registration.register_many(items, actor=request.user, now=now_of(request)))

    @extend_schema(operation_id="ci_import", request={"text/csv": OpenApiTypes.BINARY}, responses=RegisteredSerializer)
    @action(detail=False, methods=["post"], filter_backends=[], pagination_class=None, parser_classes=[CsvParser])
    def import_csv(self, request: Request) -> Response:
        """Registers the rows of a CSV file (at most 1000 rows and 1 MiB), with a result for each line."""
        check_permission(request.user, MANAGE, _("register configuration items"))
        # Without a body there is nothing that a parser could have read.
        data: Any = request.data or b""
        return registered(registration.register_csv(data, actor=request.user, now=now_of(request)))

    @extend_schema(operation_id="ci_export", responses={(200, "text/csv"): OpenApiTypes.STR})
    @action(detail=False, methods=["get"], pagination_class=None)
    def export(self, request: Request) -> StreamingHttpResponse:
        """The list as CSV, with the same filters; an import understands it."""
        rows = self.filter_queryset(self.visible())
        answer = StreamingHttpResponse(registration.export_csv(rows), content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = 'attachment; filename="cis.csv"'
        return answer

    @extend_schema(responses=InstalledSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def installed(self, request: Request, **kwargs: Any) -> Response:
        """Every version that ran on it, newest first."""
        rows = self.get_object().installed_versions.select_related("product", "replaced")
        return self.paged(rows, InstalledSerializer)

    @extend_schema(responses=TokenSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def tokens(self, request: Request, **kwargs: Any) -> Response:
        """Its agent's tokens, without their text."""
        ci = self.get_object()
        check_permission(request.user, MANAGE, _("see an agent's tokens"))
        return self.paged(ci.agent_tokens.order_by("-id"), TokenSerializer)


class CIClassViewSet(ObjectViewSet):
    """Kinds of configuration items; set up in the admin."""

    model = CIClass
    serializer_class = CIClassSerializer
    list_related = ("maintenance_window",)
    ordering = ["name"]
    filter_backends = []


class MaintenanceWindowViewSet(ObjectViewSet):
    """When CIs may be changed; set up in the admin."""

    model = MaintenanceWindow
    serializer_class = MaintenanceWindowSerializer
    ordering = ["name"]
    filter_backends = []


class AgentProfileViewSet(ObjectViewSet):
    """Kinds of agents; set up in the admin."""

    model = AgentProfile
    serializer_class = AgentProfileSerializer
    ordering = ["name"]
    filter_backends = []


class CIGroupFilter(filters.FilterSet):
    q = filters.CharFilter(field_name="name", lookup_expr="icontains", label="Part of the name.")
    names = NumberFilter(ConfigurationItem, "static_members")


class CIGroupViewSet(ObjectViewSet):
    """Groups of production CIs: named ones, those that fit a filter, or both."""

    model = CIGroup
    serializer_class = CIGroupSerializer
    list_serializer_class = CIGroupListSerializer
    filterset_class = CIGroupFilter
    ordering_fields = ["id", "name"]
    ordering = ["name"]
    creates = Call(groups.create_group, WriteGroupSerializer, MANAGE)
    edits = Call(groups.edit_group, WriteGroupSerializer, MANAGE)
    calls = {
        "add_members": Call(groups.add_members, WhichCIsSerializer, MANAGE),
        "remove_members": Call(groups.remove_members, WhichCIsSerializer, MANAGE),
    }

    @extend_schema(responses=CIListSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def members(self, request: Request, **kwargs: Any) -> Response:
        """The CIs that belong to it now and that the person may see."""
        rows = (
            self.get_object()
            .members()
            .visible_to(request.user)
            .with_drift()
            .select_related("ci_class", "owner", "team")
        )
        return self.paged(rows.order_by("pk"), CIListSerializer)
