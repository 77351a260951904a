"""Issuing and revoking tokens of service accounts."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _

from accounts.models import ServiceToken, User
from accounts.service_tokens import new_secret
from tickets.exceptions import InvalidInput, PermissionRefused
from tickets.lifecycle import check_permission
from tickets.services import validate

MANAGE = "accounts.manage_service_tokens"
MOST_DAYS = 366
_SCOPE = re.compile(r"(\*|[a-z][a-z-]*):(read|write)")


def parts_of_the_api() -> set[str]:
    """The first words of the API's addresses, as scopes name them."""
    from itsm_portal.api_urls import router  # the addresses import the views, which import this

    return {prefix for prefix, _view, _name in router.registry} | {"deploy", "chain", "activities", "*"}


def issue_token(
    *, actor: Any, now: datetime, user: User, name: str, scopes: Iterable[str], days: int
) -> tuple[ServiceToken, str]:
    """A new token and its text, which is shown now or never. Refuses people, unknown scopes, and more than a year."""
    check_permission(actor, MANAGE, _("issue tokens of service accounts"))
    if actor is not None and actor.is_service_account:
        # A token with few scopes would get itself one with all.
        raise PermissionRefused(_("A service account issues no tokens; an administrator does."))
    if not user.is_service_account or not user.is_active:
        raise InvalidInput(_("Only active service accounts get such tokens; people log in."), field="user")
    wanted = sorted(set(scopes))
    known = parts_of_the_api()
    for scope in wanted:
        found = _SCOPE.fullmatch(scope)
        if found is None or found[1] not in known:
            text = _("“%(scope)s” is no scope. Write for example cis:read, deploy:write.")
            raise InvalidInput(text % {"scope": scope[:64]}, field="scopes")
    if not wanted:
        raise InvalidInput(_("Name at least one scope."), field="scopes")
    if not 1 <= days <= MOST_DAYS:
        raise InvalidInput(_("A token is valid for 1 to %(most)d days.") % {"most": MOST_DAYS}, field="days")
    text, sha256 = new_secret()
    token = ServiceToken(
        user=user, name=name, sha256=sha256, scopes=wanted, created_by=actor, created_at=now,
        expires_at=now + timedelta(days=days),
    )  # fmt: skip
    validate(token, exclude=())
    token.save(force_insert=True)
    return token, text


def revoke_token(token: ServiceToken, *, actor: Any, now: datetime) -> None:
    """Ends a token at once; one that has ended stays as it is."""
    check_permission(actor, MANAGE, _("revoke tokens of service accounts"))
    ServiceToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now)
