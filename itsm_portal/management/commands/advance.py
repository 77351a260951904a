"""The tick without Celery: a dead broker stops nothing."""

import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from incidents.services import auto_close_incidents
from notifications.services import send_notifications
from releases.executor import advance_rollouts
from test_environments.services import advance_test_environments
from tickets.clock import database_now
from tickets.idempotency import forget_expired_keys


class Command(BaseCommand):
    help = "Moves rollouts, tests, test environments and messages one step, or with --loop again and again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--loop", action="store_true", help="go on every TICK_SECONDS until SIGTERM")

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while True:
            now = database_now()
            moved = advance_rollouts(now=now) + advance_test_environments(now=now)
            moved += auto_close_incidents(now=now) + send_notifications(now=now) + forget_expired_keys(now=now)
            if not options["loop"]:
                self.stdout.write(f"{moved} moved")
                return
            if stop.wait(settings.TICK_SECONDS):
                return
