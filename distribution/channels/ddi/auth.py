"""Who speaks: by the device's own token, by a gateway's, or by a certificate that a trusted proxy has verified.

Any one suffices; a way that is switched off (`DDI_AUTHENTICATION`) does not exist.
"""

import ipaddress
import re
from collections.abc import Iterator

from django.conf import settings
from django.http import HttpRequest

from cmdb.admission import authenticate_certificate, authenticate_gateway, let_wait
from cmdb.models import ConfigurationItem, GatewayToken, Registration, TrustedAuthority
from cmdb.services import MAX_TOKEN_LENGTH, Beside, authenticate_agent
from tickets.clock import now_of

TARGET, GATEWAY, CERTIFICATE = "target_token", "gateway_token", "certificate"
_AUTHORIZATION = re.compile(rf"(TargetToken|GatewayToken) (\S{{1,{MAX_TOKEN_LENGTH}}})")
# What the protocol calls the schemes that are switched on.
CHALLENGES = {TARGET: "TargetToken", GATEWAY: "GatewayToken"}


def authenticate(
    request: HttpRequest, controller_id: str, beside: Beside | None = None
) -> ConfigurationItem | Registration | None:
    """The CI that asks; a device that still waits for approval; or None. Sets the request's clock from the same query,
    which also reads what the caller wants `beside`.

    One query for a target token. Raises `DomainError` when an unknown device cannot be put among those that wait.
    """
    found = _AUTHORIZATION.fullmatch(request.headers.get("Authorization", ""))
    scheme, token = found.groups() if found is not None else ("", "")
    ways = settings.DDI_AUTHENTICATION
    if scheme == "TargetToken" and TARGET in ways:
        ci = authenticate_agent(controller_id, token, beside)
        if ci is not None:
            return _clocked(request, ci)
    admitted: tuple[GatewayToken | TrustedAuthority, ConfigurationItem | None] | None = None
    if scheme == "GatewayToken" and GATEWAY in ways:
        admitted = authenticate_gateway(controller_id, token, beside)
    if admitted is None and CERTIFICATE in ways and _is_named_by_proxy(request, controller_id):
        admitted = authenticate_certificate(controller_id, _authorities(request), beside)
    if admitted is None:
        return None
    source, ci = admitted
    if ci is not None:
        return _clocked(request, ci)
    return let_wait(controller_id, source=source, address=request.META.get("REMOTE_ADDR", ""), now=now_of(request))


def _clocked(request: HttpRequest, ci: ConfigurationItem) -> ConfigurationItem:
    request.portal_now = ci.database_now  # type: ignore[attr-defined]
    return ci


def _is_named_by_proxy(request: HttpRequest, controller_id: str) -> bool:
    """Whether a proxy says that the device showed a certificate of this name."""
    return request.headers.get(settings.DDI_CERTIFICATE_NAME_HEADER) == controller_id and _is_from_proxy(request)


def _is_from_proxy(request: HttpRequest) -> bool:
    """Whether the request came straight from one of the proxies: from all others the headers mean nothing."""
    text = request.META.get("REMOTE_ADDR", "")
    if not text:
        return "unix" in settings.DDI_CERTIFICATE_PROXIES
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    networks = (ipaddress.ip_network(name) for name in settings.DDI_CERTIFICATE_PROXIES if name != "unix")
    return any(address in network for network in networks)


def _authorities(request: HttpRequest) -> Iterator[str]:
    """The issuers that the proxy names, in one header or in several, each with one or more of them."""
    for header in settings.DDI_CERTIFICATE_AUTHORITY_HEADERS:
        yield from re.split("[,;]", request.headers.get(header, ""))
