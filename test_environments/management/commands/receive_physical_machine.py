"""`manage.py receive_physical_machine NAME`: makes a capture medium and waits for the disk that it sends."""

import hashlib
import secrets
import tempfile
from argparse import ArgumentParser
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import DriverError, NotFound, Unavailable
from test_environments.drivers.libvirt.physical import Incoming
from test_environments.drivers.receiving import ExpectedDisk, Progress, with_token


class Command(BaseCommand):
    requires_system_checks = ()
    help = "Makes a medium that boots on a physical machine, sends its disk here, and changes nothing on it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="under which the disk is found afterwards, such as till-7")
        parser.add_argument("--listen", required=True, metavar="ADDRESS:PORT", help="of this host, for the machine")
        parser.add_argument("--address", default="", help="of the machine, such as 192.0.2.20/24; empty: by DHCP")
        parser.add_argument("--gateway", default="", help="of the machine, with --address")
        parser.add_argument("--disk", default="", help="such as sda; empty: the only one")
        parser.add_argument("--hours", type=float, default=24.0, help="how long to wait (24)")

    def handle(self, *args: Any, **options: Any) -> None:
        address, _, port = options["listen"].rpartition(":")
        if not address or not port.isdigit():
            raise CommandError("--listen must be an address and a port, such as 192.0.2.10:8443.")
        if "libvirt" not in settings.TEST_ENVIRONMENT_DRIVERS:
            raise CommandError("There are no virtual machines here: name libvirt in TEST_ENVIRONMENT_DRIVERS.")
        folder = Path(settings.TEST_ENVIRONMENT_DRIVERS["libvirt"]["folder"])
        incoming = Incoming(folder / "incoming", folder / "media", say=self._say)
        name, token = options["name"], secrets.token_urlsafe(32)
        expected = ExpectedDisk(
            name, hashlib.sha256(token.encode()).hexdigest(), address, int(port),
            machine_address=options["address"], gateway=options["gateway"], disk=options["disk"],
        )  # fmt: skip
        self._told = ""
        try:
            with suppress(NotFound, Unavailable):
                incoming.received(name)
                raise CommandError(f"A disk {name} has arrived already; choose another name.")
            with tempfile.TemporaryDirectory(dir=folder, prefix=".medium-") as place:
                bare, medium = Path(place) / "bare.img", Path(place) / f"{name}.img"

                def tell(progress: Progress) -> None:
                    if not medium.exists():
                        medium.write_bytes(b"".join(with_token(bare, token)))
                        self._say(f"Write {medium} to a USB stick (for example with dd) and boot the machine from it.")
                    self._tell(progress)

                incoming.receive(expected, bare, Bound(options["hours"] * 3600), tell)
                self._say(f"The disk has arrived; it can be taken by the method “medium” and the name {name}.")
        except DriverError as error:
            incoming.forget(name)
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            incoming.forget(name)
            raise CommandError("Stopped; the medium is worth nothing any more.") from None

    def _tell(self, progress: Progress) -> None:
        text = progress.refusal or (f"{progress.received * 100 // progress.size} %" if progress.size else "")
        if text and text != self._told:
            self._told = text
            self._say(text)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
