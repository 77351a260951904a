"""`/api/v1/deploy/`: one version to one CI or group, in one call."""

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from changes.models import Change, StandardTemplate
from cmdb.models import CIGroup, ConfigurationItem
from releases.serializers import VersionsField
from releases.services import deploy, order_signing_request
from software.serializers import RequestSerializer
from tickets.api import MAX_BODY_BYTES, TextParser, check_size
from tickets.clock import now_of
from tickets.idempotency import RepeatableMixin
from tickets.lifecycle import check_permission
from tickets.serializers import NumberField


@extend_schema_field({"type": "string", "example": "billing/2.0"})
class VersionField(VersionsField):
    """One version as `product/label` or by id."""

    def to_internal_value(self, data: Any) -> Any:
        return self._version(data)


class DeploySerializer(serializers.Serializer):
    """Either `ci` or `group`; either `standard_change` or `change` (an authorised RFC for the product)."""

    version = VersionField(help_text="`product/label` or id.")
    ci = NumberField(ConfigurationItem, required=False)
    group = NumberField(CIGroup, required=False)
    standard_change = NumberField(StandardTemplate, required=False, source="template")
    change = NumberField(Change, required=False)
    fresh = serializers.BooleanField(
        default=False, source="is_fresh", help_text="Also where the product is not installed yet."
    )
    reason = serializers.CharField(max_length=2000, allow_blank=True, default="")
    left_out_reason = serializers.CharField(
        max_length=2000, allow_blank=True, default="", help_text="Why other authorised RFCs of the product stay out."
    )


class OrderedSerializer(serializers.Serializer):
    """What was made. Without a rollout, `waits_for` is the gate: `test`, then `approval`; it starts by itself."""

    release = serializers.CharField(source="release.number")
    change = serializers.CharField(source="change.number")
    rollout = serializers.CharField(source="rollout.number", allow_null=True, default=None)
    state = serializers.CharField(source="release.state")
    waits_for = serializers.CharField()


class DeployView(RepeatableMixin, APIView):
    """Makes a release and a big-bang rollout and starts it by the normal rules."""

    parser_classes = (TextParser,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        check_size(request, MAX_BODY_BYTES)
        super().initial(request, *args, **kwargs)

    @extend_schema(operation_id="deploy", request=DeploySerializer, responses={201: OrderedSerializer})
    def post(self, request: Request) -> Response:
        """Deploys one version to one CI or group, from a standard change or an authorised RFC."""
        ordered = deploy(actor=request.user, now=now_of(request), **self.order(request))  # type: ignore[arg-type]
        return Response(OrderedSerializer(ordered).data, status=status.HTTP_201_CREATED)

    def order(self, request: Request) -> dict[str, Any]:
        """What is ordered; the rights are checked before it is read."""
        check_permission(request.user, "releases.build_release", _("write a release"))
        check_permission(request.user, "releases.start_rollout", _("start a rollout"))
        given = DeploySerializer(data=request.data, context={"request": request})
        given.is_valid(raise_exception=True)
        return dict(given.validated_data)


class DeploySigningRequestView(DeployView):
    """What has to be signed for an order before it is made."""

    keeps_answers = False

    @extend_schema(operation_id="deploy_signing_request", request=DeploySerializer, responses=RequestSerializer)
    def post(self, request: Request) -> Response:
        """The request file for the key holder: what this order needs signed. Makes nothing."""
        found = order_signing_request(actor=request.user, now=now_of(request), **self.order(request))  # type: ignore[arg-type]
        return Response(found)
