"""`/api/v1/uploads/`: files that arrive in pieces and can be gone on with."""

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, OpenApiTypes, extend_schema
from knox.auth import TokenAuthentication
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.service_tokens import ServiceTokenAuthentication
from software import uploads
from software.api import LengthRequired, RawParser
from software.models import Upload
from software.pieces import Nothing
from software.serializers import (
    BeginUploadSerializer,
    FinishUploadSerializer,
    PieceSerializer,
    UploadStateSerializer,
    VersionSerializer,
)
from software.services import MANAGE
from tickets.api import Call, ObjectViewSet, TextParser, check_size
from tickets.clock import now_of
from tickets.lifecycle import check_permission

# One piece; larger ones gain nothing, and a proxy holds them back.
PIECE_BYTES = 256 * 1024 * 1024


class UploadViewSet(ObjectViewSet):
    """One's own uploads in pieces: begin, send pieces in order, ask how far it is, finish."""

    model = Upload
    serializer_class = UploadStateSerializer
    list_related = ("version__product",)
    filter_backends = []
    # A session's CSRF check would read the whole piece before its size is looked at.
    authentication_classes = [TokenAuthentication, ServiceTokenAuthentication]
    creates = Call(uploads.begin_upload, BeginUploadSerializer, MANAGE)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if self.action == "update":
            self.body_limit = PIECE_BYTES
        super().initial(request, *args, **kwargs)

    def get_parsers(self) -> list[BaseParser]:
        return [RawParser()] if self.request and self.request.method == "PUT" else [TextParser()]

    @extend_schema(
        operation_id="upload_piece",
        request={"application/octet-stream": OpenApiTypes.BINARY},
        parameters=[OpenApiParameter("offset", int, required=True, description="Where the piece begins.")],
        responses=UploadStateSerializer,
    )
    def update(self, request: Request, **kwargs: Any) -> Response:
        """Appends a piece. 409 `offset_mismatch` when another one is expected; what came of a cut piece counts."""
        upload = self.get_object()
        check_permission(request.user, MANAGE, _("upload software"))
        if not str(request.META.get("CONTENT_LENGTH") or "").isdigit():
            raise LengthRequired(_("Send the size of the upload in Content-Length."))
        check_size(request, PIECE_BYTES)
        said = PieceSerializer(data=request.query_params)
        said.is_valid(raise_exception=True)
        stream = request.data if int(request.META["CONTENT_LENGTH"]) else Nothing()
        offset = said.validated_data["offset"]
        uploads.write_piece(upload, actor=request.user, now=now_of(request), offset=offset, stream=stream)
        return self.answer(self.after(upload))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, **kwargs: Any) -> Response:
        """Gives the upload up."""
        upload = self.get_object()
        uploads.abandon_upload(upload, actor=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(operation_id="upload_finish", request=FinishUploadSerializer, responses={201: VersionSerializer})
    @action(detail=True, methods=["post"])
    def finish(self, request: Request, **kwargs: Any) -> Response:
        """Makes it a file of its version when it is complete and has the SHA-256 that it must have."""
        upload = self.get_object()
        check_permission(request.user, MANAGE, _("upload software"))
        values = self.read(FinishUploadSerializer)
        artifact = uploads.finish_upload(upload, actor=request.user, now=now_of(request), **values)
        return Response(VersionSerializer(artifact.version).data, status=status.HTTP_201_CREATED)
