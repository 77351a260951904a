"""`/api/v1/signatures/`: which keys count, and what key holders signed."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from software.serializers import SignaturesSerializer, UploadEnvelopesSerializer
from software.services import MANAGE
from software.signatures import accept_envelopes, trusted_key_set
from tickets.api import TextParser, check_size
from tickets.clock import now_of
from tickets.lifecycle import check_permission

MAX_BYTES = 16 * 1024 * 1024


class SignaturesViewSet(ViewSet):
    """Whom the portal believes; it verifies signatures and owns no key."""

    parser_classes = [TextParser]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        check_size(request, MAX_BYTES)
        super().initial(request, *args, **kwargs)

    @extend_schema(operation_id="signatures_show", responses=SignaturesSerializer)
    def list(self, request: Request) -> Response:
        """The pinned root keys and the trusted key set."""
        return Response(_state())

    @extend_schema(
        operation_id="signatures_upload", request=UploadEnvelopesSerializer, responses={201: SignaturesSerializer}
    )
    def create(self, request: Request) -> Response:
        """Takes in key sets, release manifests and rollback decisions, all or none; a repetition is no change."""
        check_permission(request.user, MANAGE, "“upload signatures”")
        said = UploadEnvelopesSerializer(data=request.data)
        said.is_valid(raise_exception=True)
        envelopes = said.validated_data["envelopes"]
        accepted = accept_envelopes(envelopes, actor=request.user, now=now_of(request))
        return Response({**_state(), "accepted": accepted}, status=status.HTTP_201_CREATED)


def _state() -> dict[str, Any]:
    trusted = trusted_key_set()
    return {
        "required": settings.REQUIRE_SIGNATURES,
        "root_keys": settings.SIGNING_ROOT_KEYS,
        "key_set": trusted.to_json() if trusted is not None else None,
    }
