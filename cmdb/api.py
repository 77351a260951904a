"""`/api/v1/cis/`, `/api/v1/ci-groups/`, `/api/v1/ci-classes/`, `/api/v1/agent-profiles/` and their windows."""

from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from cmdb import groups, services
from cmdb.models import AgentProfile, CIClass, CIGroup, ConfigurationItem, MaintenanceWindow
from cmdb.serializers import (
    AgentProfileSerializer,
    CIClassSerializer,
    CIGroupListSerializer,
    CIGroupSerializer,
    CIListSerializer,
    CISerializer,
    InstalledSerializer,
    IssuedTokenSerializer,
    MaintenanceWindowSerializer,
    RegisterSerializer,
    TokenSerializer,
    WhichCIsSerializer,
    WhichTokenSerializer,
    WriteGroupSerializer,
)
from tickets.api import Call, NumberFilter, ObjectViewSet
from tickets.exceptions import InvalidInput
from tickets.lifecycle import check_permission
from tickets.serializers import key_of

MANAGE = "cmdb.manage_cis"


def revoke_token(ci: ConfigurationItem, *, actor: Any, now: datetime, token: int) -> None:
    """Takes a token of this CI out of use at once."""
    found = ci.agent_tokens.filter(pk=token).first()
    if found is None:
        raise InvalidInput(_("%(ci)s has no token %(token)d.") % {"ci": ci, "token": token}, field="token")
    services.revoke_agent_token(found, actor=actor, now=now)


class CIFilter(filters.FilterSet):
    lifecycle = filters.MultipleChoiceFilter(choices=ConfigurationItem.Lifecycle.choices)
    ci_class = filters.CharFilter(field_name="ci_class__slug", label="Short name of the class.")
    owner = filters.CharFilter(field_name="owner__username", label="User name.")
    agent_id = filters.CharFilter()
    copies = filters.BooleanFilter(field_name="copy_of", lookup_expr="isnull", exclude=True, label="Only test copies.")
    group = filters.CharFilter(method="only_in_group", label="Number or id of a group.", max_length=40)
    runs = filters.CharFilter(method="only_running", label="`product` or `product/version` that is installed now.")
    q = filters.CharFilter(field_name="name", lookup_expr="icontains", label="Part of the name.")

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
    }

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
        rows = self.get_object().members().visible_to(request.user).select_related("ci_class", "owner", "team")
        return self.paged(rows.order_by("pk"), CIListSerializer)
