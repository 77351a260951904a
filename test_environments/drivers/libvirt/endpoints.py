"""What a machine may reach beside the portal: named host:port pairs, each by its real address.

A machine's connection to any address ends at the loopback of its namespace; there exactly these addresses exist, and at
each exactly these ports are served and passed on.
"""

import ipaddress
import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from test_environments.drivers.errors import Unavailable, Unsupported
from test_environments.drivers.interface import ENDPOINT, MOST_ENDPOINTS
from test_environments.drivers.texts import Text as _

# QEMU's own addresses in the user network of a machine.
_MACHINE_NETWORK = ipaddress.ip_network("10.0.2.0/24")


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """`name` as it was allowed: a host name or the address itself."""

    address: str
    port: int
    name: str


def resolve(texts: tuple[str, ...]) -> tuple[Endpoint, ...]:
    """The endpoints with their IPv4 addresses of now, sorted. Raises Unsupported, Unavailable (an unknown name)."""
    if len(texts) > MOST_ENDPOINTS:
        raise Unsupported(
            _(
                "At most %(most)s endpoints can be allowed, not %(n)s.",
                most=MOST_ENDPOINTS,
                n=len(texts),
            )
        )
    return tuple(sorted({_resolve(text) for text in texts}))


def _resolve(text: str) -> Endpoint:
    found = ENDPOINT.fullmatch(text)
    if found is None or not 0 < int(found[2]) < 65536:
        raise Unsupported(
            _("%(text)r is no endpoint: name a host and a port, such as licence.example.org:27000.", text=text)
        )
    name, port = found[1], int(found[2])
    try:
        address = socket.getaddrinfo(name, port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    except OSError as error:
        raise Unavailable(
            _("The test host finds no address of %(name)s: %(error)s.", name=name, error=error.strerror or error)
        ) from None
    known = ipaddress.IPv4Address(str(address))
    if known.is_loopback or known.is_unspecified or known.is_multicast or known.is_link_local:
        raise Unsupported(
            _(
                "%(text)s is %(known)s, which no other machine can reach; name an address in your network.",
                text=text,
                known=known,
            )
        )
    if known in _MACHINE_NETWORK:
        raise Unsupported(
            _(
                "%(text)s is %(known)s, which machines use among themselves (%(network)s).",
                text=text,
                known=known,
                network=_MACHINE_NETWORK,
            )
        )
    return Endpoint(str(known), port, name)


def hosts_lines(endpoints: tuple[Endpoint, ...]) -> str:
    """Lines for the machine's `hosts` file: it has no name service."""
    names = {endpoint.name: endpoint.address for endpoint in endpoints if endpoint.name != endpoint.address}
    return "".join(f"{address} {name} # test environment\n" for name, address in sorted(names.items()))


def write_endpoints(path: Path, endpoints: tuple[Endpoint, ...]) -> None:
    new = path.with_name(f".{path.name}")
    new.write_text(json.dumps([asdict(endpoint) for endpoint in endpoints]))
    new.replace(path)


def read_endpoints(path: Path) -> tuple[Endpoint, ...]:
    """Raises OSError, ValueError."""
    return from_json(json.loads(path.read_text()))


def from_json(found: object) -> tuple[Endpoint, ...]:
    """What `about.json` keeps. Raises ValueError."""
    if not isinstance(found, list):
        raise ValueError("no list of endpoints")
    try:
        return tuple(sorted(Endpoint(str(e["address"]), int(e["port"]), str(e["name"])) for e in found))
    except (TypeError, KeyError) as error:
        raise ValueError("no list of endpoints") from error
