"""`/api/v1/service-tokens/`: tokens of service accounts; a token's text leaves once, with its issue."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import ServiceToken
from itsm_portal import service_tokens
from tickets.api import Call, ObjectViewSet
from tickets.clock import now_of
from tickets.lifecycle import check_permission
from tickets.serializers import user_field


class ServiceTokenSerializer(serializers.ModelSerializer):
    user = serializers.CharField(source="user.username", read_only=True)
    scopes = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = ServiceToken
        fields = ["id", "user", "name", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at"]


class IssueServiceTokenSerializer(serializers.Serializer):
    user = user_field()
    name = serializers.CharField(max_length=100)
    scopes = serializers.ListField(child=serializers.CharField(max_length=64), min_length=1, max_length=50)
    days = serializers.IntegerField(min_value=1, max_value=service_tokens.MOST_DAYS, default=90)


class IssuedServiceTokenSerializer(ServiceTokenSerializer):
    """With the token's text, shown this once. Send it as `Authorization: Bearer <token>`."""

    token = serializers.CharField(read_only=True)

    class Meta(ServiceTokenSerializer.Meta):
        fields = [*ServiceTokenSerializer.Meta.fields, "token"]


class ServiceTokenViewSet(ObjectViewSet):
    """Tokens of service accounts, for those who issue them."""

    model = ServiceToken
    serializer_class = ServiceTokenSerializer
    list_related = ("user",)
    filter_backends = []
    calls = {"revoke": Call(service_tokens.revoke_token, permission=service_tokens.MANAGE)}

    def visible(self) -> QuerySet[ServiceToken]:
        rows = ServiceToken.objects.order_by("-pk")
        if getattr(self, "swagger_fake_view", False) or not self.request.user.has_perm(service_tokens.MANAGE):
            return rows.none()
        return rows

    @extend_schema(
        operation_id="servicetoken_create",
        request=IssueServiceTokenSerializer,
        responses={201: IssuedServiceTokenSerializer},
    )
    def create(self, request: Request, **kwargs: Any) -> Response:
        """Issues a token for a service account and shows it this once."""
        check_permission(request.user, service_tokens.MANAGE, "issue tokens of service accounts")
        values = self.read(IssueServiceTokenSerializer)
        token, text = service_tokens.issue_token(actor=request.user, now=now_of(request), **values)
        token.token = text  # type: ignore[attr-defined]
        return Response(IssuedServiceTokenSerializer(token).data, status=status.HTTP_201_CREATED)


ServiceTokenViewSet.secret_actions = frozenset({"create"})
