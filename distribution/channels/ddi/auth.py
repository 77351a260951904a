"""Who speaks: `Authorization: TargetToken <token>`, the token of the controller that the path names."""

import re

from django.http import HttpRequest

from cmdb.models import ConfigurationItem
from cmdb.services import MAX_TOKEN_LENGTH, authenticate_agent

_SCHEME = re.compile(rf"TargetToken (\S{{1,{MAX_TOKEN_LENGTH}}})")


def authenticate(request: HttpRequest, controller_id: str) -> ConfigurationItem | None:
    """The CI that asks, or None. Sets the request's clock from the same query."""
    found = _SCHEME.fullmatch(request.headers.get("Authorization", ""))
    if found is None:
        return None
    ci = authenticate_agent(controller_id, found[1])
    if ci is not None:
        request.portal_now = ci.database_now  # type: ignore[attr-defined]
    return ci
