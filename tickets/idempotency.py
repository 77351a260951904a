"""`Idempotency-Key`: a POST that is sent again gives the first answer and does nothing twice.

The key's row is written in the transaction of what the request does, so both are there or neither is, whatever dies in
between. A second request with the same key waits on the row: for the first one's answer, or to do the work itself.
Refusals (4xx) and errors change nothing and are not kept.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from tickets.clock import now_of
from tickets.exceptions import DomainError, InvalidInput, TransitionRefused
from tickets.models import IdempotencyKey

HEADER = "Idempotency-Key"
MAX_KEY = 255
# How long a request waits for the first one with its key, in milliseconds.
WAIT_MS = 5000

_CLAIM = """
INSERT INTO tickets_idempotencykey AS k (user_id, key, fingerprint, status, body, is_secret, created_at, expires_at)
VALUES (%(user)s, %(key)s, %(fingerprint)s, 0, '', false, %(now)s, %(until)s)
ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, status = 0, body = '', is_secret = false,
    created_at = excluded.created_at, expires_at = excluded.expires_at
    WHERE k.expires_at <= excluded.created_at
RETURNING id
"""


class KeyReused(DomainError):
    """The key belongs to another request (HTTP 422)."""

    code = "idempotency_key_reused"
    status = 422


class Repeated(Exception):
    """The request was answered before; `response` is that answer."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__("answered before")
        self.response = response


class RepeatableMixin:
    """A view whose POSTs honour the header. `keeps_answers=False`: uploads, whose bodies are not read twice.

    An answer in `secret_actions` is not kept: its repetition is refused, nothing is done twice.
    """

    keeps_answers = True
    secret_actions: frozenset[str] = frozenset()
    claimed: int | None = None

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.method != "POST" or HEADER not in request.headers:
            return super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        with transaction.atomic():
            response = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
            if response.status_code >= 400:
                transaction.set_rollback(True)
            elif self.claimed is not None:
                is_secret = getattr(self, "action", "") in self.secret_actions
                _keep(self.claimed, response, is_secret=is_secret)
        return response

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Once it is known who asks and that he may: claims the key, or gives the answer that was kept."""
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        if request.method == "POST" and HEADER in request.headers and self.keeps_answers:
            self.claimed = _claim(request)

    def handle_exception(self, exc: Exception) -> Any:
        if isinstance(exc, Repeated):
            return exc.response
        return super().handle_exception(exc)  # type: ignore[misc]


def _claim(request: Request) -> int:
    """The id of the row that is now this request's. Raises `Repeated`, `KeyReused`, or `TransitionRefused` (busy)."""
    key = request.headers[HEADER].strip()
    if not 0 < len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        text = _("%(header)s is 1 to %(most)d printable ASCII characters.") % {"header": HEADER, "most": MAX_KEY}
        raise InvalidInput(text, code="idempotency_key_invalid")
    now = now_of(request)
    fingerprint = _fingerprint(request)
    values: dict[str, Any] = {"user": request.user.pk, "key": key, "fingerprint": fingerprint, "now": now}
    values["until"] = now + timedelta(hours=settings.IDEMPOTENCY_HOURS)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {WAIT_MS}")
            cursor.execute(_CLAIM, values)
            row = cursor.fetchone()
            cursor.execute("SET LOCAL lock_timeout TO DEFAULT")
    except OperationalError as error:
        text = _("The first request with this key is still under way. Ask again in a moment.")
        raise TransitionRefused(text, code="request_in_progress") from error
    if row is not None:
        return int(row[0])
    kept = IdempotencyKey.objects.get(user_id=values["user"], key=key)
    if kept.fingerprint != fingerprint:
        raise KeyReused(_("This key was used for another request. Take a new one for each thing that you want done."))
    if kept.is_secret:
        text = _("This was done. Its answer held a secret that is shown only once; ask for a new one with a new key.")
        raise TransitionRefused(text, code="shown_once")
    response = HttpResponse(kept.body, status=kept.status, content_type="application/json")
    response["Idempotency-Replayed"] = "true"
    raise Repeated(response)


def _fingerprint(request: Request) -> str:
    """SHA-256 (hex) of method, address, type and body."""
    found = hashlib.sha256()
    for part in (request.method or "", request.get_full_path(), request.content_type or ""):
        found.update(part.encode("utf-8", "replace") + b"\x00")
    found.update(request._request.body)
    return found.hexdigest()


def _keep(claimed: int, response: Any, *, is_secret: bool) -> None:
    data = getattr(response, "data", None)
    body = "" if is_secret or data is None else JSONRenderer().render(data).decode()
    row = IdempotencyKey.objects.filter(pk=claimed)
    row.update(status=response.status_code, body=body, is_secret=is_secret)


def forget_expired_keys(*, now: datetime, limit: int = 5000) -> int:
    """Deletes keys whose time is over, at most `limit` of them; returns how many."""
    expired = IdempotencyKey.objects.filter(expires_at__lte=now).order_by("expires_at").values("pk")[:limit]
    return IdempotencyKey.objects.filter(pk__in=list(expired.values_list("pk", flat=True))).delete()[0]
