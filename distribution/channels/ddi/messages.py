"""What devices send, checked and cleaned. Unknown members and odd types where nothing depends on them are
ignored.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest
from django.http.request import UnreadablePostError

from distribution.device import MAX_DETAIL, MAX_DETAILS

MAX_BODY = 256 * 1024
MAX_KEY = 128
MAX_VALUE = 512

EXECUTIONS = frozenset(
    {"closed", "proceeding", "scheduled", "resumed", "download", "downloaded", "canceled", "rejected"}
)
RESULTS = frozenset({"success", "failure", "none"})
MODES = frozenset({"merge", "replace", "remove"})
_JSON_TYPES = frozenset({"", "application/json", "application/hal+json"})
_MAX_ID = 2**31 - 1
_UNESCAPED = re.compile(r'\s*:\s*\[\s*"(.*)"\s*', re.DOTALL)


class Refused(Exception):
    """A request that is answered with this status and text."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Feedback:
    """A report or the answer to a cancel. `fingerprint` is equal for a repetition, byte by byte."""

    execution: str
    result: str
    details: list[str]
    fingerprint: str


def number_of(text: str) -> int | None:
    """The number in a path, if it can be the id of anything."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0
    return number if 1 <= number <= _MAX_ID else None


def action_id(text: str) -> int:
    """The id of an action from a path. Raises Refused (404)."""
    number = number_of(text)
    if number is None:
        raise Refused(404)
    return number


def read_body(request: HttpRequest, loads: Callable[[bytes], Any] = json.loads) -> tuple[dict[str, Any], bytes]:
    """The JSON object of the body and the body itself. Raises Refused (400, 413, 415)."""
    if (request.content_type or "").lower() not in _JSON_TYPES:
        raise Refused(415, "The body has to be application/json.")
    limit = min(MAX_BODY, settings.DATA_UPLOAD_MAX_MEMORY_SIZE or MAX_BODY)
    try:
        if int(request.headers.get("Content-Length") or 0) > limit:
            raise Refused(413, f"The body has to be at most {limit} bytes long.")
        raw = request.body
        body = loads(raw)
    except RequestDataTooBig:
        raise Refused(413, f"The body has to be at most {limit} bytes long.") from None
    except (ValueError, RecursionError, UnreadablePostError):
        raise Refused(400, "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise Refused(400, "The body is not a JSON object.")
    return body, raw


def _loads_with_log(raw: bytes) -> Any:
    """JSON whose details may be anything. Raises ValueError.

    SWUpdate puts what its scripts and programs say between quotes as it is. Were its final report refused for that,
    it would install the same again at every poll.
    """
    text = raw.decode(json.detect_encoding(raw), "replace")
    try:
        return json.loads(text, strict=False)
    except ValueError:
        before, key, rest = text.partition('"details"')
        lines, _, after = rest.rpartition("]")
        found = _UNESCAPED.fullmatch(lines)
        if found is None:
            raise
        details = json.dumps(found[1].split('","'))
        return json.loads(f"{before}{key}: {details}{after}", strict=False)


def read_feedback(request: HttpRequest) -> Feedback:
    """The body of a feedback. Raises Refused."""
    body, raw = read_body(request, _loads_with_log)
    status = body.get("status")
    if not isinstance(status, dict):
        raise Refused(400, "status is missing.")
    result = status.get("result")
    finished = result.get("finished") if isinstance(result, dict) else None
    execution = status.get("execution")
    if not isinstance(execution, str) or execution not in EXECUTIONS:
        raise Refused(400, f"status.execution has to be one of {', '.join(sorted(EXECUTIONS))}.")
    if not isinstance(finished, str) or finished not in RESULTS:
        raise Refused(400, f"status.result.finished has to be one of {', '.join(sorted(RESULTS))}.")
    return Feedback(execution, finished, _details(status.get("details")), hashlib.sha256(raw).hexdigest()[:32])


def read_attributes(request: HttpRequest) -> tuple[str, dict[str, str | None]]:
    """Mode and attributes of a configData body. Raises Refused."""
    body, _ = read_body(request)
    mode = body.get("mode", "merge")
    if mode is None:
        mode = "merge"
    if not isinstance(mode, str) or mode not in MODES:
        raise Refused(400, f"mode has to be one of {', '.join(sorted(MODES))}.")
    data = body.get("data")
    if not isinstance(data, dict):
        raise Refused(400, "data is missing or not an object.")
    return mode, {_key(key): _value(key, value, mode) for key, value in data.items()}


def read_declared(request: HttpRequest) -> tuple[str, str]:
    """Name and version that a device declares to run. Raises Refused."""
    body, _ = read_body(request)
    name, version = body.get("name"), body.get("version")
    if not isinstance(name, str) or not isinstance(version, str):
        raise Refused(400, "name and version have to be texts.")
    # What the database could not keep names nothing that is in it.
    return clean(name, MAX_KEY), clean(version, MAX_KEY)


def clean(text: str, limit: int) -> str:
    """The text without what a database cannot keep: NUL and halves of characters; cut to `limit` characters."""
    return text[:limit].replace("\x00", "").encode("utf-8", "replace").decode()


def _key(key: str) -> str:
    name = clean(key, MAX_KEY + 1)
    if not 0 < len(name) <= MAX_KEY:
        raise Refused(400, f"The name of an attribute is 1 to {MAX_KEY} characters long.")
    return name


def _value(key: str, value: Any, mode: str) -> str | None:
    if value is None or mode == "remove":
        return None
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str) or len(value) > MAX_VALUE:
        raise Refused(400, f"The value of {clean(key, 40)} is not a text of at most {MAX_VALUE} characters.")
    return clean(value, MAX_VALUE)


def _details(details: Any) -> list[str]:
    if details is None:
        return []
    lines = details if isinstance(details, list) else [details]
    if len(lines) > 2 * MAX_DETAILS:
        # Too many in any case; of a final report the first and the last ones are kept.
        lines = [*lines[:MAX_DETAILS], *lines[-MAX_DETAILS:]]
    return [clean(_line(line), MAX_DETAIL) for line in lines]


def _line(line: Any) -> str:
    if isinstance(line, str):
        return line
    if line is None:
        return ""
    try:
        return json.dumps(line)
    except (ValueError, RecursionError):
        return "?"
