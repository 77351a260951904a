"""Tokens of service accounts: what they look like, how they open the API, and how far.

A scope is `<part of the API>:read` or `:write`, the part as in the address: `cis:write`, `deploy:write`, `*:read`.
Writing includes reading. The account's rights still decide; a scope only narrows them.
"""

import hashlib
import secrets
from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from accounts.models import ServiceToken

KEYWORD = "Bearer"
MAX_LENGTH = 128
PREFIX = "api/v1/"
# Where every token may go: to see who it is.
ALWAYS = frozenset({"me"})
# `last_used_at` is written at most once in so long.
USED_STEP = timedelta(minutes=5)


def new_secret() -> tuple[str, str]:
    """A new token's text and the digest that is kept."""
    text = secrets.token_urlsafe(32)
    return text, digest(text)


def digest(text: str) -> str:
    """SHA-256 (hex): a token is random enough to need no salt, and is found by it without comparing."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


class ServiceTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>` of an active service account, neither revoked nor expired."""

    def authenticate(self, request: Request) -> tuple[Any, ServiceToken] | None:
        words = get_authorization_header(request).split()
        if not words or words[0].decode("latin-1") != KEYWORD:
            return None
        text = words[1].decode("latin-1") if len(words) == 2 and len(words[1]) <= MAX_LENGTH else ""
        rows = ServiceToken.objects.select_related("user").filter(
            sha256=digest(text), revoked_at=None, expires_at__gt=Now(), user__is_active=True,
            user__is_service_account=True,
        )  # fmt: skip
        token = rows.first()
        if token is None:
            raise AuthenticationFailed(_("The token is wrong, revoked or expired."))
        unused = Q(last_used_at=None) | Q(last_used_at__lt=Now() - USED_STEP)
        ServiceToken.objects.filter(unused, pk=token.pk).update(last_used_at=Now())
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return KEYWORD


class InScope(BasePermission):
    """Lets a service token into the parts of the API that its scopes name; whoever comes otherwise is let through."""

    message = _("This token is not for that. Ask an administrator for one with the scope that you need.")
    code = "out_of_scope"

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, ServiceToken):
            return True
        match = getattr(request._request, "resolver_match", None)
        route = match.route if match is not None else ""
        if not route.startswith(PREFIX):
            return False
        part = route.removeprefix(PREFIX).split("/", 1)[0]
        kinds = ("read", "write") if request.method in SAFE_METHODS else ("write",)
        return part in ALWAYS or any(f"{name}:{kind}" in request.auth.scopes for name in (part, "*") for kind in kinds)


class ServiceTokenScheme(OpenApiAuthenticationExtension):
    """How the API's description names it."""

    target_class = ServiceTokenAuthentication
    name = "serviceToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}
