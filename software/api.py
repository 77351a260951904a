"""`/api/v1/products/`, `/api/v1/versions/` and their files."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.http import FileResponse, Http404, HttpResponse
from django.utils.translation import gettext as _
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, OpenApiTypes, extend_schema
from knox.auth import TokenAuthentication
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.service_tokens import ServiceTokenAuthentication
from software import sboms, services
from software.models import Format, Product, Sbom, Version
from software.quarantine import restore_version
from software.serializers import (
    CreateProductSerializer,
    CreateVersionSerializer,
    ProductSerializer,
    RawUploadSerializer,
    RequestSerializer,
    SbomSerializer,
    UploadSerializer,
    VersionListSerializer,
    VersionSerializer,
)
from software.signatures import request_for
from tickets.api import Call, ObjectViewSet, check_size
from tickets.clock import now_of
from tickets.exceptions import InvalidInput
from tickets.lifecycle import check_permission
from tickets.serializers import OptionalReasonSerializer, ReasonSerializer, is_storable

SLUG = re.compile(r"[A-Za-z0-9_-]{1,64}")
MANAGE = "software.manage_software"
# What a multipart body may have beside the file.
MULTIPART_EXTRA = 64 * 1024


class LengthRequired(APIException):
    """An upload that does not announce its size (HTTP 411)."""

    status_code = status.HTTP_411_LENGTH_REQUIRED
    default_code = "length_required"


class WholeStream:
    """A request's body that refuses to end before the announced length: a cut upload is no shorter file."""

    def __init__(self, stream: Any, length: int) -> None:
        self.stream = stream
        self.left = length

    def read(self, size: int = -1) -> bytes:
        if self.left == 0:
            return b""
        data: bytes = self.stream.read(self.left if size is None or size < 0 else min(size, self.left))
        if not data and size != 0:
            raise InvalidInput(_("The upload was cut: %(n)d bytes are missing. Send it again.") % {"n": self.left})
        self.left -= len(data)
        return data


def _whole(stream: Any, context: Mapping[str, Any]) -> WholeStream:
    return WholeStream(stream, int(context["request"].META["CONTENT_LENGTH"]))


class RawParser(BaseParser):
    """The body is the file; it is read while it is stored."""

    media_type = "application/octet-stream"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return _whole(stream, parser_context)


class DocumentParser(BaseParser):
    """A JSON document as it was sent, byte by byte."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return _whole(stream, parser_context).read()


class CycloneDXParser(DocumentParser):
    media_type = "application/vnd.cyclonedx+json"


class WholeMultiPartParser(MultiPartParser):
    """Multipart that refuses a cut body (the parser itself would take it for a shorter file)."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        whole: Any = _whole(stream, parser_context)
        parsed = super().parse(whole, media_type, parser_context)
        if whole.left:
            raise ParseError(_("The upload was cut. Send it again."))
        return parsed


class ProductFilter(filters.FilterSet):
    q = filters.CharFilter(field_name="name", lookup_expr="icontains", label="Part of the name.")
    slug = filters.CharFilter()


class ProductViewSet(ObjectViewSet):
    """Products; found by short name or id."""

    model = Product
    serializer_class = ProductSerializer
    list_related = ("owner",)
    filterset_class = ProductFilter
    ordering_fields = ["id", "name", "slug"]
    ordering = ["name"]
    creates = Call(services.create_product, CreateProductSerializer, MANAGE)

    def get_object(self) -> Product:
        slug = self.kwargs["number"]
        found = self.get_queryset().filter(slug=slug).first() if SLUG.fullmatch(slug) else None
        return found or super().get_object()


def create_version(*, actor: Any, now: datetime, product: Product, **values: Any) -> Version:
    """Makes a version without a file yet."""
    return services.create_version(product, actor=actor, now=now, **values)


class VersionFilter(filters.FilterSet):
    product = filters.CharFilter(field_name="product__slug", label="Short name of the product.")
    label = filters.CharFilter()
    state = filters.MultipleChoiceFilter(choices=Version.State.choices)


class VersionViewSet(ObjectViewSet):
    """Versions and their files. A version is ready once its file is stored and verified."""

    model = Version
    serializer_class = VersionSerializer
    list_serializer_class = VersionListSerializer
    list_related = ("product",)
    detail_related = ("created_by",)
    filterset_class = VersionFilter
    ordering_fields = ["id", "label", "state", "created_at"]
    creates = Call(create_version, CreateVersionSerializer, MANAGE)
    calls = {
        "withdraw": Call(services.withdraw_version, OptionalReasonSerializer, MANAGE),
        "restore": Call(restore_version, ReasonSerializer, MANAGE),
    }

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if self.action == "artifact":
            self.body_limit = settings.ARTIFACT_MAX_BYTES + MULTIPART_EXTRA
        elif self.action in {"sbom", "attach_sbom"}:
            self.body_limit = sboms.MAX_BYTES
        # Files and documents are too large to be compared with those of another request.
        self.keeps_answers = self.action not in {"artifact", "attach_sbom"}
        super().initial(request, *args, **kwargs)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, **kwargs: Any) -> Response:
        """Removes a version that nothing needs; refuses (409) and names what does."""
        version = self.get_object()
        check_permission(request.user, MANAGE, _("remove a version"))
        services.remove_version(version, actor=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        operation_id="version_upload",
        request={
            "multipart/form-data": UploadSerializer,
            "application/octet-stream": OpenApiTypes.BINARY,
        },
        parameters=[
            OpenApiParameter("filename", str, description="Name of the file; needed for a raw upload."),
            OpenApiParameter("sha256", str, description="SHA-256 (hex) that the content must have."),
            OpenApiParameter("format", str, enum=Format.values, description="Unless the name's ending tells it."),
            OpenApiParameter("more", bool, description="More files follow: the version is not ready yet."),
        ],
        responses={201: VersionSerializer},
    )
    @action(
        detail=True,
        methods=["post"],
        parser_classes=[RawParser, WholeMultiPartParser],
        # A session's CSRF check would read the whole body before its size is looked at.
        authentication_classes=[TokenAuthentication, ServiceTokenAuthentication],
    )
    def artifact(self, request: Request, **kwargs: Any) -> Response:
        """Stores the file: multipart with `file`, or the raw bytes with `?filename=`. Read while it comes."""
        version = self.get_object()
        check_permission(request.user, MANAGE, _("upload software"))
        name, stream, said = self._upload(request)
        services.store_artifact(version, actor=request.user, now=now_of(request), filename=name, stream=stream, **said)
        return self.answer(self.after(version), status.HTTP_201_CREATED)

    def _upload(self, request: Request) -> tuple[str, Any, dict[str, Any]]:
        """Name and stream of the file, and what else is said about it."""
        if not str(request.META.get("CONTENT_LENGTH") or "").isdigit():
            raise LengthRequired(_("Send the size of the upload in Content-Length."))
        if (request.content_type or "").split(";")[0].strip().lower() == RawParser.media_type:
            check_size(request, settings.ARTIFACT_MAX_BYTES)
            raw = RawUploadSerializer(data=request.query_params)
            raw.is_valid(raise_exception=True)
            if int(request.META["CONTENT_LENGTH"]) == 0:
                raise InvalidInput(_("The upload is empty."), field="file")
            said = dict(raw.validated_data)
            return said.pop("filename"), request.data, said
        form = UploadSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        said = dict(form.validated_data)
        file = said.pop("file")
        return file.name, file, said

    @extend_schema(
        operation_id="version_sbom", responses={(200, "application/vnd.cyclonedx+json"): OpenApiTypes.OBJECT}
    )
    @action(detail=True, methods=["get"], filter_backends=[], parser_classes=[DocumentParser, CycloneDXParser])
    def sbom(self, request: Request, **kwargs: Any) -> HttpResponse:
        """The bill of materials (CycloneDX), as it was attached."""
        found = Sbom.objects.filter(version=self.get_object()).first()
        if found is None:
            raise Http404
        return HttpResponse(found.document, content_type=CycloneDXParser.media_type)

    @extend_schema(
        operation_id="version_attach_sbom",
        request={"application/vnd.cyclonedx+json": OpenApiTypes.OBJECT},
        responses={201: SbomSerializer},
    )
    @sbom.mapping.post
    def attach_sbom(self, request: Request, **kwargs: Any) -> Response:
        """Attaches a bill of materials (CycloneDX JSON); one that was there is replaced."""
        version = self.get_object()
        check_permission(request.user, MANAGE, _("attach a bill of materials"))
        if not str(request.META.get("CONTENT_LENGTH") or "").isdigit():
            raise LengthRequired(_("Send the size of the document in Content-Length."))
        content: Any = request.data or b""
        made = sboms.attach_sbom(version, actor=request.user, now=now_of(request), content=content)
        return Response(SbomSerializer(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(operation_id="version_signing_request", responses=RequestSerializer)
    @action(detail=True, methods=["get"], filter_backends=[])
    def signing_request(self, request: Request, **kwargs: Any) -> Response:
        """What the key holder has to sign for this version alone, whether it is signed already or not."""
        version = self.get_object()
        return Response(request_for(str(version), versions=[version], ways_back=(), now=now_of(request)))

    @extend_schema(
        operation_id="version_download",
        parameters=[OpenApiParameter("filename", str, description="Which file, when there are several.")],
        responses={(200, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY)},
    )
    @action(detail=True, methods=["get"], filter_backends=[])
    def download(self, request: Request, **kwargs: Any) -> FileResponse:
        """The file as it was stored."""
        version = self.get_object()
        check_permission(request.user, MANAGE, _("download software"))
        files = version.artifacts.order_by("filename")
        if name := request.query_params.get("filename"):
            files = files.filter(filename=name) if is_storable(name) else files.none()
        artifact = files.first()
        if artifact is None:
            raise Http404
        return FileResponse(
            artifact.file.open("rb"),
            as_attachment=True,
            filename=artifact.filename,
            content_type="application/octet-stream",
            headers={"X-Content-Type-Options": "nosniff"},
        )
