"""`/api/v1/registrations/` and `/api/v1/gateway-tokens/`: for those who register CIs."""

from typing import Any

from django.utils.translation import gettext as _
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from cmdb import admission
from cmdb.models import GatewayToken, Registration
from cmdb.serializers import IssuedTokenSerializer
from cmdb.serializers_admission import (
    ApproveSerializer,
    GatewayTokenSerializer,
    IssueGatewaySerializer,
    RegistrationSerializer,
    RejectSerializer,
)
from tickets.api import Call, ObjectViewSet
from tickets.clock import now_of
from tickets.lifecycle import check_permission


class RegistrationFilter(filters.FilterSet):
    state = filters.MultipleChoiceFilter(choices=Registration.State.choices)
    gateway = filters.CharFilter(field_name="gateway_token__name", label="Name of the gateway token.")
    agent_id = filters.CharFilter()


class RegistrationViewSet(ObjectViewSet):
    """Devices that wait for approval, and what was decided about others."""

    model = Registration
    serializer_class = RegistrationSerializer
    list_related = ("gateway_token__group", "authority", "decided_by", "ci")
    filterset_class = RegistrationFilter
    ordering_fields = ["id", "agent_id", "first_seen_at", "last_seen_at"]
    calls = {
        "approve": Call(admission.approve_registration, ApproveSerializer, admission.MANAGE),
        "reject": Call(admission.reject_registration, RejectSerializer, admission.MANAGE),
        "reopen": Call(admission.reopen_registration, permission=admission.MANAGE),
    }


class GatewayTokenViewSet(ObjectViewSet):
    """Tokens of gateways, without their text."""

    model = GatewayToken
    serializer_class = GatewayTokenSerializer
    list_related = ("group", "ci_class", "agent_profile")
    ordering = ["name"]
    filter_backends = []
    calls = {"revoke": Call(admission.revoke_gateway_token, permission=admission.MANAGE)}

    @extend_schema(
        operation_id="gatewaytoken_create", request=IssueGatewaySerializer, responses={201: IssuedTokenSerializer}
    )
    def create(self, request: Request, **kwargs: Any) -> Response:
        """Issues a token; its text stands in this answer only."""
        check_permission(request.user, admission.MANAGE, _("issue gateway tokens"))
        values = self.read(IssueGatewaySerializer)
        secret = admission.issue_gateway_token(actor=request.user, now=now_of(request), **values)
        return Response(IssuedTokenSerializer(secret).data, status=status.HTTP_201_CREATED)
