"""`attachments/` of every ticket: list, send, fetch, remove."""

from typing import Any, ClassVar

from django.http import Http404
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiResponse, OpenApiTypes, extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from tickets import attachments
from tickets.clock import now_of
from tickets.downloads import as_download
from tickets.serializers import AttachmentSerializer, EntrySerializer, SendFileSerializer


class AttachmentsMixin:
    """Files come with a comment, which may be empty; its rights and refusals are those of `comment/`."""

    body_limit: int
    calls: ClassVar[Any]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if getattr(self, "action", "") == "send_attachment":
            self.body_limit = attachments.most_bytes()
            self.keeps_answers = False  # a file is too large to be compared with another request's
        super().initial(request, *args, **kwargs)  # type: ignore[misc]

    @extend_schema(responses=AttachmentSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[], parser_classes=[MultiPartParser])
    def attachments(self, request: Request, **kwargs: Any) -> Response:
        """The files on the ticket, oldest first; those of internal notes only for those who read these."""
        rows = attachments.files_of(self.get_object(), user=request.user)  # type: ignore[attr-defined]
        paged: Response = self.paged(rows, AttachmentSerializer)  # type: ignore[attr-defined]
        return paged

    @extend_schema(request={"multipart/form-data": SendFileSerializer}, responses={201: EntrySerializer})
    @attachments.mapping.post
    def send_attachment(self, request: Request, **kwargs: Any) -> Response:
        """Sends a file with a comment, or with `public=false` an internal note; answers with its entry."""
        ticket = self.get_object()  # type: ignore[attr-defined]
        said = SendFileSerializer(data=request.data)
        said.is_valid(raise_exception=True)
        values = dict(said.validated_data)
        now = now_of(request)
        files = [attachments.receive(values.pop("file"), actor=request.user, now=now)]
        try:
            entry = self.calls["comment"].service(ticket, actor=request.user, now=now, files=files, **values)
        except BaseException:
            # Nobody sends it again from here, and a request with an Idempotency-Key takes its row back.
            attachments.discard(files[0])
            raise
        return Response(EntrySerializer(entry).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY)})
    @action(detail=True, methods=["get"], filter_backends=[], url_path="attachments/<int:key>")
    def attachment(self, request: Request, key: int, **kwargs: Any) -> HttpResponseBase:
        """The file as it was sent, to be saved."""
        found = attachments.find(self.get_object(), key, user=request.user)  # type: ignore[attr-defined]
        if found is None:
            raise Http404
        return as_download(found[0], request.headers.get("If-None-Match"))

    @extend_schema(responses={204: None})
    @attachment.mapping.delete
    def remove_attachment(self, request: Request, key: int, **kwargs: Any) -> Response:
        """Removes the file; the timeline says so."""
        ticket = self.get_object()  # type: ignore[attr-defined]
        if attachments.find(ticket, key, user=request.user) is None:
            raise Http404
        attachments.remove(ticket, key, actor=request.user, now=now_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)
