"""What belongs to no single app: login by token, who one is, the chain of a ticket, the activity matrix, teams."""

from typing import Any

from allauth.account.adapter import get_adapter
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import ValidationError
from django.http import Http404
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_view
from knox.models import get_token_model
from knox.settings import knox_settings
from knox.views import LogoutAllView, LogoutView
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed, NotFound, Throttled
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from itsm_portal.chain import chain_of_number
from tickets.activities import MATRIX
from tickets.api import MAX_BODY_BYTES, check_size
from tickets.serializers import ChainStepSerializer

TOKENS_PER_PERSON = 20


class LoginSerializer(serializers.Serializer):
    username = serializers.CharField(max_length=254)
    password = serializers.CharField(max_length=4096, trim_whitespace=False, write_only=True)


class LoginTokenSerializer(serializers.Serializer):
    """Send it as `Authorization: Token <token>`."""

    token = serializers.CharField(read_only=True)
    expiry = serializers.DateTimeField(read_only=True)


class LoginView(APIView):
    """User name and password for a token. Counted by account and by source, together with the portal's login page."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    def get_authenticate_header(self, request: Request) -> str:
        """A wrong password is 401, though nothing but this view authenticates here."""
        return "Token"

    @extend_schema(operation_id="login", request=LoginSerializer, responses={200: LoginTokenSerializer})
    def post(self, request: Request) -> Response:
        """Gives a token for user name and password."""
        check_size(request, MAX_BODY_BYTES)
        given = LoginSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        try:
            user = get_adapter(request._request).authenticate(request._request, **given.validated_data)
        except ValidationError as error:
            raise Throttled(detail=_("Too many failed attempts. Wait a few minutes.")) from error
        if user is None or not user.is_active:
            raise AuthenticationFailed(_("User name or password is wrong."))
        row, token = get_token_model().objects.create(user=user, expiry=knox_settings.TOKEN_TTL)
        newest = user.auth_token_set.order_by("-created").values("pk")[:TOKENS_PER_PERSON]
        user.auth_token_set.exclude(pk__in=list(newest.values_list("pk", flat=True))).delete()
        user_logged_in.send(sender=type(user), request=request._request, user=user)
        return Response(LoginTokenSerializer({"token": token, "expiry": row.expiry}).data)


@extend_schema_view(post=extend_schema(operation_id="logout", request=None, responses={204: None}))
class TokenLogoutView(LogoutView):
    """Ends the token that the request carries."""


@extend_schema_view(post=extend_schema(operation_id="logout_everywhere", request=None, responses={204: None}))
class TokenLogoutAllView(LogoutAllView):
    """Ends every token of the person who asks."""


class MeSerializer(serializers.Serializer):
    username = serializers.CharField()
    name = serializers.CharField(source="label")
    email = serializers.CharField()
    is_service_account = serializers.BooleanField()
    roles = serializers.SerializerMethodField()
    rights = serializers.SerializerMethodField()

    def get_roles(self, user: Any) -> list[str]:
        return list(user.groups.order_by("name").values_list("name", flat=True))

    def get_rights(self, user: Any) -> list[str]:
        return sorted(user.get_all_permissions())


class MeView(APIView):
    """Who the token stands for."""

    @extend_schema(operation_id="me", responses=MeSerializer)
    def get(self, request: Request) -> Response:
        """Who one is, with roles and rights."""
        return Response(MeSerializer(request.user).data)


class ChainView(APIView):
    """The chain from incident to installed version, as far as the person may see it."""

    @extend_schema(operation_id="chain", responses=ChainStepSerializer(many=True))
    def get(self, request: Request, number: str) -> Response:
        """The chain of a ticket, rollout or CI, by its number in any spelling."""
        chain = chain_of_number(number, request.user)
        if chain is None:
            raise Http404
        return Response(ChainStepSerializer(chain.to_json(), many=True).data)


class UnknownView(APIView):
    """Any other address below the API: refused in the API's own form."""

    permission_classes = (AllowAny,)
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Whatever the method: there is nothing here."""
        raise NotFound(_("There is nothing at this address. Every address of the API ends with a slash."))


class MatrixRowSerializer(serializers.Serializer):
    activity = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    processes = serializers.ListField(child=serializers.CharField())


class ActivitiesView(APIView):
    """The maintenance matrix."""

    @extend_schema(operation_id="activities", responses=MatrixRowSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Which process handles which maintenance activity."""
        rows = [
            {"activity": a.value, "label": str(a.label), "processes": [p.value for p in processes]}
            for a, processes in MATRIX.items()
        ]
        return Response(MatrixRowSerializer(rows, many=True).data)
