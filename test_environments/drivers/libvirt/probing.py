"""Proving from inside what a machine can reach: a probe machine in its place, and doors of the host that stay shut.

The doors are real listeners that answer on this host; each is tried from the host first, so that "not reached" means
that the network is closed, and not that nobody was there.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from test_environments.drivers.interface import IsolationProof, Probe
from test_environments.drivers.libvirt.endpoints import Endpoint
from test_environments.drivers.libvirt.errands import Report
from test_environments.drivers.libvirt.hypervisor import address_of
from test_environments.drivers.libvirt.machine import HOST_ADDRESS
from test_environments.drivers.texts import Text as _

_NAME_SERVER = ("10.0.2.3", 53)  # that QEMU's user network would pass on


class Plan:
    """What to try: `order` for the probe machine, and what its report proves."""

    def __init__(self, portal_url: str, doors: list[tuple[str, int]], endpoints: tuple[Endpoint, ...] = ()) -> None:
        self._portal = (HOST_ADDRESS, address_of(portal_url)[1])
        self._endpoints = endpoints
        # Beside an allowed port its neighbours: the address alone opens nothing.
        allowed = {(endpoint.address, endpoint.port) for endpoint in endpoints}
        beside = {(address, port % 65535 + 1) for address, port in allowed} - allowed
        self._closed = [*doors, *sorted(beside - set(doors)), _NAME_SERVER]

    @property
    def order(self) -> dict[str, bytes]:
        allowed = ((endpoint.address, endpoint.port) for endpoint in self._endpoints)
        targets = "".join(f"{host} {port}\n" for host, port in (self._portal, *allowed, *self._closed))
        return {"targets": targets.encode()}

    def proof(self, report: Report) -> IsolationProof:
        """What was found; a target that the report does not tell counts as against us."""
        return IsolationProof(
            (
                _probe(report, *self._portal, is_wanted=True, detail=_("the portal, through the relay")),
                *(
                    _probe(
                        report,
                        endpoint.address,
                        endpoint.port,
                        is_wanted=True,
                        detail=_("allowed: %(name)s", name=endpoint.name),
                    )
                    for endpoint in self._endpoints
                ),
                *(_probe(report, *door, is_wanted=False, detail=_("nothing that is allowed")) for door in self._closed),
            )
        )


@contextmanager
def doors() -> Iterator[list[tuple[str, int]]]:
    """Listeners on this host: on its loopback, as a machine would see it, and on its address in the network.

    The result names them as seen from a machine.
    """
    with ExitStack() as open_doors:
        found = []
        for address, seen_as in (("127.0.0.1", HOST_ADDRESS), *((own, own) for own in _own_addresses())):
            door = open_doors.enter_context(socket.create_server((address, 0), backlog=8))
            with socket.create_connection(door.getsockname(), timeout=5):
                found.append((seen_as, int(door.getsockname()[1])))
        yield found


def _own_addresses() -> list[str]:
    """The host's address towards the rest of the network, if it has one. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nowhere, suppress(OSError):
        nowhere.connect(("192.0.2.1", 9))
        own = str(nowhere.getsockname()[0])
        if not own.startswith("127."):
            return [own]
    return []


def _probe(report: Report, host: str, port: int, *, is_wanted: bool, detail: str) -> Probe:
    found = report.reached.get(f"{host} {port}")
    return Probe(f"{host}:{port}", not is_wanted if found is None else found, is_wanted, detail)
