"""Sending a file of the media library: whole, a part, or only its headers (RFC 9110).

The bytes are sent by the proxy where there is one that can (`X_ACCEL_LOCATION`). Without, this process sends them: a
few at a time, because each keeps one of its threads until a slow device has the last byte. The next one is told to come
back.
"""

import logging
import re
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, TypeVar
from urllib.parse import quote

from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import http_date

from distribution.channels.ddi.pressure import come_back_later
from software.models import Artifact

_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")
_BLOCK = 256 * 1024
# Less than this fits into the buffers on the way, so that nobody holds a thread with it.
_SMALL = 1024 * 1024
# As short as a page: it is sent like one, and takes no place.
_SHORT = 64 * 1024
Response = TypeVar("Response", bound=HttpResponseBase)
log = logging.getLogger(__name__)


class Unsatisfiable(Exception):
    """The range lies outside the file or is not one."""


class Places:
    """So many files are sent at the same time; of the large ones a single device gets at most half, so that one that
    reads nothing does not keep the others away.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self._most_of_one = max(1, number // 2)
        self._of: Counter[int] = Counter()
        # A place is also left by the collector of garbage, perhaps while this very thread takes one.
        self._lock = threading.RLock()

    def take(self, who: int) -> bool:
        """A place for this device (0: nobody in particular, or a small part); False: come back later."""
        with self._lock:
            if not self._free or (who and self._of[who] >= self._most_of_one):
                return False
            self._free -= 1
            self._of[who] += 1
        return True

    def leave(self, who: int) -> None:
        with self._lock:
            self._free += 1
            self._of[who] -= 1
            if not self._of[who]:
                del self._of[who]


_places = Places(settings.DDI_PARALLEL_DOWNLOADS)


def send(request: HttpRequest, artifact: Artifact, *, to: int = 0) -> HttpResponseBase:
    """The answer to GET or HEAD, for the CI with the id `to`. 404 when the stored file is not what was registered; 429
    when too many are sent.
    """
    condition = request.headers.get("If-Match")
    if condition is not None and not _names(condition, artifact.sha1):
        return _headed(HttpResponse(status=412), artifact)
    condition = request.headers.get("If-None-Match")
    if condition is not None and _names(condition, artifact.sha1):
        return _headed(HttpResponse(status=304), artifact)
    try:
        part = _part(request, artifact)
    except Unsatisfiable:
        unsatisfiable = _headed(HttpResponse(status=416), artifact)
        unsatisfiable["Content-Range"] = f"bytes */{artifact.size}"
        return unsatisfiable
    file = _opened(artifact)
    if file is None:
        return HttpResponse(status=404)
    first, length = part or (0, artifact.size)
    who = to if length > _SMALL else 0
    if request.method == "HEAD":
        file.close()
        response: HttpResponseBase = HttpResponse()
    elif _proxy_can_send(request):
        file.close()
        return _by_proxy(artifact, is_part=part is not None)
    elif length <= _SHORT:
        with file:
            file.seek(first)
            response = HttpResponse(file.read(length))
    elif _places.take(who):
        response = _content(file, first, length, who, is_part=part is not None)
    else:
        file.close()
        return come_back_later()
    if part is not None:
        response.status_code = 206
        response["Content-Range"] = f"bytes {first}-{first + length - 1}/{artifact.size}"
    response["Content-Length"] = str(length)
    return _headed(response, artifact)


def send_md5(artifact: Artifact) -> HttpResponse:
    """The line that `md5sum --check` reads, without its newline."""
    response = HttpResponse(f"{artifact.md5}  {artifact.filename}", content_type="text/plain")
    response["Content-Disposition"] = f"attachment;filename={quote(artifact.filename, safe='+')}.MD5SUM"
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _proxy_can_send(request: HttpRequest) -> bool:
    """Whether the proxy sends the file. Not with `If-Match`: nginx would compare it with a tag that it has not got."""
    return bool(settings.X_ACCEL_LOCATION) and "If-Match" not in request.headers


def _by_proxy(artifact: Artifact, *, is_part: bool) -> HttpResponse:
    """Tells the proxy which file to send; it takes `Range` and `If-Range` from the device's request."""
    response = _headed(HttpResponse(status=206 if is_part else 200), artifact)
    del response["Accept-Ranges"]  # nginx says so itself
    response["X-Accel-Redirect"] = f"{settings.X_ACCEL_LOCATION}{quote(str(artifact.file.name))}"
    return response


def _content(file: IO[bytes], first: int, length: int, who: int, *, is_part: bool) -> HttpResponseBase:
    """The bytes, by this process; its place among the few is free when the response is closed, or forgotten."""
    response: HttpResponseBase
    if is_part:
        response = StreamingHttpResponse(_blocks(file, first, length))
        response._resource_closers.append(file.close)  # type: ignore[attr-defined]
    else:
        response = FileResponse(file)
    response._resource_closers.append(weakref.finalize(response, _places.leave, who))  # type: ignore[attr-defined]
    return response


def _opened(artifact: Artifact) -> IO[bytes] | None:
    try:
        file: IO[bytes] = artifact.file.storage.open(str(artifact.file.name), "rb")
    except OSError as error:
        log.error("artifact %s cannot be read: %s", artifact.pk, error)
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
    except (ValueError, OverflowError):
        return False
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return date >= _changed_at(artifact)


def _names(condition: str, sha1: str) -> bool:
    names = {name.strip().strip('"').lower() for name in condition.split(",")}
    return "*" in names or sha1 in names


def _changed_at(artifact: Artifact) -> datetime:
    return artifact.uploaded_at.replace(microsecond=0)


def _headed(response: Response, artifact: Artifact) -> Response:
    response["Content-Type"] = "application/octet-stream"
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = f'"{artifact.sha1}"'
    response["Last-Modified"] = http_date(_changed_at(artifact).timestamp())
    response["Content-Disposition"] = f"attachment;filename={quote(artifact.filename, safe='+')}"
    response["X-Content-Type-Options"] = "nosniff"
    return response
