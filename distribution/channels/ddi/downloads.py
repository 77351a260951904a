"""Sending a file of the media library: whole, a part, or only its headers (RFC 9110)."""

import logging
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO
from urllib.parse import quote

from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import http_date

from software.models import Artifact

_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")
_BLOCK = 256 * 1024
log = logging.getLogger(__name__)


class Unsatisfiable(Exception):
    """The range lies outside the file or is not one."""


def send(request: HttpRequest, artifact: Artifact) -> HttpResponseBase:
    """The answer to GET or HEAD. 404 when the stored file is not what was registered."""
    condition = request.headers.get("If-Match")
    if condition is not None and not _names(condition, artifact.sha1):
        return _headed(HttpResponse(status=412), artifact)
    condition = request.headers.get("If-None-Match")
    if condition is not None and _names(condition, artifact.sha1):
        return _headed(HttpResponse(status=304), artifact)
    try:
        part = _part(request, artifact)
    except Unsatisfiable:
        response = _headed(HttpResponse(status=416), artifact)
        response["Content-Range"] = f"bytes */{artifact.size}"
        return response
    file = _opened(artifact)
    if file is None:
        return HttpResponse(status=404)
    first, length = part or (0, artifact.size)
    response = _content(request, file, first, length, is_part=part is not None)
    if part is not None:
        response.status_code = 206
        response["Content-Range"] = f"bytes {first}-{first + length - 1}/{artifact.size}"
    response["Content-Length"] = str(length)
    return _headed(response, artifact)


def _content(request: HttpRequest, file: IO[bytes], first: int, length: int, *, is_part: bool) -> HttpResponseBase:
    if request.method == "HEAD":
        file.close()
        return HttpResponse()
    if not is_part:
        return FileResponse(file)
    response = StreamingHttpResponse(_blocks(file, first, length))
    response._resource_closers.append(file.close)  # type: ignore[attr-defined]
    return response


def _opened(artifact: Artifact) -> IO[bytes] | None:
    try:
        file = open(artifact.file.path, "rb")  # noqa: SIM115 - the response closes it
    except OSError as error:
        log.error("artifact %s cannot be read: %s", artifact.pk, error)
        return None
    if os.fstat(file.fileno()).st_size != artifact.size:
        log.error("artifact %s has another size on disk than when it was stored", artifact.pk)
        file.close()
        return None
    return file


def _blocks(file: IO[bytes], first: int, length: int) -> Iterator[bytes]:
    with file:
        file.seek(first)
        while length and (block := file.read(min(_BLOCK, length))):
            length -= len(block)
            yield block


def _part(request: HttpRequest, artifact: Artifact) -> tuple[int, int] | None:
    """Offset and length of the wanted part; None: the whole file."""
    header = request.headers.get("Range")
    if header is None or not _is_same(request.headers.get("If-Range"), artifact):
        return None
    if header.startswith("bytes=") and "," in header:
        # Several parts: the whole file is always a right answer.
        return None
    found = _RANGE.fullmatch(header.replace(" ", ""))
    if found is None:
        raise Unsatisfiable
    size = artifact.size
    if found[3] is not None:
        length = min(int(found[3]), size)
        first = size - length
    else:
        first = int(found[1])
        last = min(int(found[2]), size - 1) if found[2] else size - 1
        length = last - first + 1
    if length < 1:
        raise Unsatisfiable
    return first, length


def _is_same(condition: str | None, artifact: Artifact) -> bool:
    if condition is None:
        return True
    condition = condition.strip()
    if condition.startswith(('"', "W/")):
        return condition == f'"{artifact.sha1}"'
    try:
        date = parsedate_to_datetime(condition)
    except ValueError:
        return False
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return date >= _changed_at(artifact)


def _names(condition: str, sha1: str) -> bool:
    names = {name.strip().strip('"').lower() for name in condition.split(",")}
    return "*" in names or sha1 in names


def _changed_at(artifact: Artifact) -> datetime:
    return artifact.uploaded_at.replace(microsecond=0)


def _headed(response: HttpResponseBase, artifact: Artifact) -> HttpResponseBase:
    response["Content-Type"] = "application/octet-stream"
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = f'"{artifact.sha1}"'
    response["Last-Modified"] = http_date(_changed_at(artifact).timestamp())
    response["Content-Disposition"] = f"attachment;filename={quote(artifact.filename, safe='+')}"
    response["X-Content-Type-Options"] = "nosniff"
    return response
