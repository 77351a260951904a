"""What a copy is to be like: its sizes, its clone, and what it may reach."""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import Q, TextField
from django.db.models.functions import Cast
from django.utils.translation import gettext as _

from cmdb.models import ConfigurationItem
from test_environments.drivers.interface import ENDPOINT, MOST_ENDPOINTS
from test_environments.drivers.registry import why_no_network
from test_environments.models import GoldenImage, TestEnvironment
from tickets.exceptions import ConditionRefused, InvalidInput

_OF_MACHINES = ("clone", "network", "allowed_endpoints", "memory_mb", "processors", "disk_growth_mb")


def shape_of(image: GoldenImage, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an environment of this image. A machine is linked and cut off unless somebody asks for less.

    Refuses what only machines have for a copy of files, a network that its driver cannot close off, endpoints that
    cannot be, and endpoints that are production CIs without a reason.
    """
    asked = {name: value for name, value in wanted.items() if value}
    if image.kind == GoldenImage.Kind.FILES:
        if superfluous := [name for name in _OF_MACHINES if name in asked]:
            raise InvalidInput(_("Only machines have this; this is a copy of files."), field=superfluous[0])
        return {}
    reason = str(asked.pop("endpoints_reason", "")).strip()
    shape = {"clone": TestEnvironment.Clone.LINKED, "network": TestEnvironment.Network.ISOLATED, **asked}
    if shape["network"] == TestEnvironment.Network.HOST:
        raise InvalidInput(_("A machine never gets the network of the test host."), field="network")
    if shape["network"] == TestEnvironment.Network.ISOLATED and (why := why_no_network(image.driver)):
        raise InvalidInput(why, field="network")
    endpoints = shape.get("allowed_endpoints")
    if endpoints:
        if shape["network"] != TestEnvironment.Network.ISOLATED:
            raise InvalidInput(_("Without a network nothing can be reached."), field="allowed_endpoints")
        shape["allowed_endpoints"] = check_endpoints(endpoints, reason=reason)
        shape["endpoints_reason"] = reason
    return shape


def check_endpoints(endpoints: Iterable[str], *, reason: str) -> list[str]:
    """The endpoints in plain notation, each once. Refuses bad ones, and production CIs unless there is a reason."""
    found = sorted({_plain(text) for text in endpoints})
    if len(found) > MOST_ENDPOINTS:
        text = _("At most %(most)d endpoints.") % {"most": MOST_ENDPOINTS}
        raise InvalidInput(text, field="allowed_endpoints")
    cis = production_cis_at({endpoint.rpartition(":")[0] for endpoint in found})
    if cis and not reason:
        raise ConditionRefused(
            _("These endpoints are production CIs: %(cis)s. Leave them out, or say why a copy must reach them.")
            % {"cis": ", ".join(cis)}
        )
    return found


def _plain(text: str) -> str:
    found = ENDPOINT.fullmatch(str(text).strip())
    if found is None or not 0 < int(found[2]) < 65536:
        raise InvalidInput(
            _("“%(text)s” is no endpoint: a host and a port, such as licence.example.org:27000.") % {"text": text},
            field="allowed_endpoints",
        )
    host = found[1].lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # Also an address in another spelling (3221225991, 192.0.519), which the name service would not be asked for.
        is_number = re.fullmatch(r"0x[0-9a-f]*|[0-9]+", host.rpartition(".")[2]) is not None
        is_own = host == "localhost" or host.endswith(".localhost") or is_number
    else:
        is_own = address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local
    if is_own:
        raise InvalidInput(
            _("“%(text)s” is no other machine; name an address in your network.") % {"text": text},
            field="allowed_endpoints",
        )
    return f"{host}:{int(found[2])}"


def production_cis_at(hosts: set[str]) -> list[str]:
    """Names of production CIs that are known by one of these host names or addresses; short names count, too."""
    found: set[str] = set()
    for host in hosts:
        known = Q(name__iexact=host) | Q(connection__address__iexact=host) | Q(told__icontains=f'"{host}"')
        if not host.replace(".", "").isdigit():
            known |= Q(name__iexact=host.split(".")[0])
            if "." not in host:
                known |= Q(name__istartswith=f"{host}.")
        rows = ConfigurationItem.objects.production().annotate(told=Cast("attributes", TextField())).filter(known)
        found |= set(rows.values_list("name", flat=True)[:20])
    return sorted(found)


def check_versions(image: GoldenImage, versions: Mapping[str, str]) -> dict[str, str]:
    """The versions that the copy is to run. Refuses one that an image which was taken does not hold."""
    if image.state == GoldenImage.State.READY:
        for product, label in versions.items():
            held = image.versions.get(product, [])
            if label not in held:
                text = _("%(image)s does not hold %(product)s %(label)s. It holds: %(held)s.") % {
                    "image": image, "product": product, "label": label, "held": ", ".join(held) or "–",
                }  # fmt: skip
                raise InvalidInput(text, field="versions")
    return dict(versions)
