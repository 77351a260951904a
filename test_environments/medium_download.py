"""A capture medium as a download, for pages and API."""

from typing import Any

from django.http import StreamingHttpResponse

from test_environments import services
from test_environments.models import DiskReception


def medium_response(instance: DiskReception, *, actor: Any, secret: str) -> StreamingHttpResponse:
    """The medium with its secret in place; nobody keeps it on the way. Raises the refusals of `medium_with`."""
    blocks = services.medium_with(instance, actor=actor, token=secret)
    response = StreamingHttpResponse(blocks, content_type="application/octet-stream")
    response["Content-Length"] = str(instance.medium_bytes)
    response["Content-Disposition"] = f'attachment; filename="{instance.number}.img"'
    response["Cache-Control"] = "no-store"
    response["X-Content-Type-Options"] = "nosniff"
    return response
