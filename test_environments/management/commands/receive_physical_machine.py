"""`manage.py receive_physical_machine NAME`: makes a capture medium and waits for the disk that it sends."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import DriverError
from test_environments.drivers.libvirt.physical import Incoming, Settings


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
        incoming = Incoming(folder / "incoming")
        try:
            receiver = incoming.receiver(options["name"], address, int(port), say=self._say)
            try:
                wanted = Settings(address, receiver.port, options["address"], options["gateway"], options["disk"])
                medium = receiver.make_medium(wanted, folder / "media")
                self._say(f"Write {medium} to a USB stick (for example with dd) and boot the machine from it.")
                if not receiver.wait(Bound(options["hours"] * 3600)):
                    raise CommandError("No disk has arrived.")
            finally:
                receiver.close()
        except DriverError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Stopped; the medium is worth nothing any more.") from None

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
