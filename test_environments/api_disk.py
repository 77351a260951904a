"""`/api/v1/disks/`: ordering the disk of a production CI, its medium or its upload."""

from typing import Any

from django.conf import settings
from django.http import StreamingHttpResponse
from django.utils.translation import gettext as _
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiResponse, OpenApiTypes, extend_schema
from knox.auth import TokenAuthentication
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.service_tokens import ServiceTokenAuthentication
from cmdb.models import ConfigurationItem
from software.api import LengthRequired, RawParser
from software.pieces import Nothing
from test_environments import services
from test_environments.medium_download import medium_response
from test_environments.models import CopySource, DiskReception
from test_environments.serializers_disk import (
    DiskListSerializer,
    DiskSerializer,
    OffsetSerializer,
    OrderDiskSerializer,
    OrderedDiskSerializer,
    SecretSerializer,
)
from tickets.api import Call, NumberFilter, ObjectViewSet, check_size, state_filter
from tickets.clock import now_of
from tickets.exceptions import InvalidInput
from tickets.lifecycle import check_permission

MANAGE = "test_environments.manage_environments"
_OF_UPLOADS = ("filename", "size")
_OF_MEDIA = ("machine_address", "gateway", "disk")


class DiskFilter(filters.FilterSet):
    state = state_filter(DiskReception)
    ci = NumberFilter(ConfigurationItem, "ci_id")


class DiskViewSet(ObjectViewSet):
    """Disks of production CIs on their way to golden images."""

    model = DiskReception
    serializer_class = DiskSerializer
    list_serializer_class = DiskListSerializer
    list_related = ("ci", "image", "requested_by")
    filterset_class = DiskFilter
    ordering_fields = ["id", "state", "created_at"]
    calls = {"revoke": Call(services.revoke_reception, permission=MANAGE)}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.keeps_answers = self.action != "content"  # a file is too large to be compared with another request's
        self.secret_actions = frozenset({"create", "medium"})
        if self.action == "content":
            self.body_limit = settings.TEST_ENVIRONMENT_UPLOAD_MAX_BYTES
        super().initial(request, *args, **kwargs)

    @extend_schema(
        operation_id="diskreception_create", request=OrderDiskSerializer, responses={201: OrderedDiskSerializer}
    )
    def create(self, request: Request, **kwargs: Any) -> Response:
        """Orders the disk of a CI: by a capture medium or an upload, as the CI is released."""
        check_permission(request.user, MANAGE, _("order the disk of a production CI"))
        values = self.read(OrderDiskSerializer)
        ci, secret = values.pop("ci"), ""
        who: dict[str, Any] = {"actor": request.user, "now": now_of(request)}
        is_upload = CopySource.objects.filter(ci=ci, method=CopySource.Method.UPLOAD).exists()
        for name in _OF_MEDIA if is_upload else _OF_UPLOADS:
            if values.pop(name, ""):
                raise InvalidInput(_("Not for a disk that comes this way."), field=name)
        if is_upload:
            if missing := [name for name in _OF_UPLOADS if name not in values]:
                raise InvalidInput(_("Needed for an upload."), field=missing[0])
            made = services.begin_disk_upload(ci, **who, **values)
        else:
            made, secret = services.order_reception(ci, **who, **values)
        context = self.get_serializer_context()
        shown = OrderedDiskSerializer({"disk": self.after(made), "secret": secret}, context=context)
        return Response(shown.data, status=status.HTTP_201_CREATED)

    @extend_schema(
        operation_id="diskreception_medium",
        request=SecretSerializer,
        responses={(200, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY)},
    )
    @action(detail=True, methods=["post"], filter_backends=[])
    def medium(self, request: Request, **kwargs: Any) -> StreamingHttpResponse:
        """The capture medium with its secret in place: a disk image for a USB stick."""
        disk = self.get_object()
        check_permission(request.user, MANAGE, _("download a capture medium"))
        secret = self.read(SecretSerializer)["secret"]
        return medium_response(disk, actor=request.user, secret=secret)

    @extend_schema(
        operation_id="diskreception_content",
        request={"application/octet-stream": OpenApiTypes.BINARY},
        parameters=[OffsetSerializer],
        responses={200: DiskSerializer},
    )
    @action(
        detail=True,
        methods=["post"],
        parser_classes=[RawParser],
        filter_backends=[],
        # A session's CSRF check would read the whole body before its size is looked at.
        authentication_classes=[TokenAuthentication, ServiceTokenAuthentication],
    )
    def content(self, request: Request, **kwargs: Any) -> Response:
        """Appends a piece of the image that begins at `?offset=`; the answer says how far it is."""
        disk = self.get_object()
        check_permission(request.user, MANAGE, _("upload a disk image"))
        if not str(request.META.get("CONTENT_LENGTH") or "").isdigit():
            raise LengthRequired(_("Send the size of the piece in Content-Length."))
        check_size(request, settings.TEST_ENVIRONMENT_UPLOAD_MAX_BYTES)
        offset = self.asked(OffsetSerializer)["offset"]
        stream = request.data if int(request.META["CONTENT_LENGTH"]) else Nothing()
        services.write_disk_piece(disk, actor=request.user, now=now_of(request), offset=offset, stream=stream)
        return self.answer(self.after(disk))
