"""`manage.py run_test_hosts`: makes, runs and removes the copies for tests, until it is stopped."""

import signal
import threading
from argparse import ArgumentParser
from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from test_environments.drivers.errors import DriverError
from test_environments.runner.host import Host
from test_environments.runner.lock import AnotherHost


class Command(BaseCommand):
    # Its start is a restart after a crash more often than not; the portal itself runs the checks.
    requires_system_checks = ()
    help = "Makes, runs and removes the copies of production CIs for tests. Only one may run."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--wait",
            type=float,
            default=10.0,
            metavar="SECONDS",
            help="how long to wait for another host to end",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        try:
            Host(stop, say=self._say).run(wait=options["wait"])
        except (AnotherHost, DriverError, ImproperlyConfigured, DatabaseError, psycopg.Error) as error:
            raise CommandError(str(error).strip()) from error

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
