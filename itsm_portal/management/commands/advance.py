"""The tick without Celery: a dead broker stops nothing."""

import signal
import socket
import threading
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import connection

from distribution.channels.ansible.claims import advance_push, wanted_runs
from distribution.channels.ansible.worker import push_once
from incidents.drift import advance_drift_incidents
from incidents.services import auto_close_incidents
from itsm_portal import heartbeats
from itsm_portal.schedule import TICKS
from notifications.services import send_notifications
from releases.executor import run_ticks
from releases.probing import take_samples
from releases.self_check import check_when_due
from test_environments.services import advance_test_environments
from tickets.attachments import forget_files
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
        pusher: threading.Thread | None = None
        while True:
            take_samples()
            now, began = database_now(), time.monotonic()
            moved = run_ticks(now=now) + advance_test_environments(now=now) + advance_push(now=now)
            moved += advance_drift_incidents(now=now)
            moved += auto_close_incidents(now=now) + send_notifications(now=now) + forget_expired_keys(now=now)
            moved += forget_files(now=now)
            if not options["loop"]:
                _push_until_idle(stop)
                self.stdout.write(f"{moved} moved")
                return
            _live(time.monotonic() - began)
            check_when_due(now=now)
            if (pusher is None or not pusher.is_alive()) and wanted_runs(now=now):
                pusher = threading.Thread(target=_push_beside, args=(stop,), name="push")
                pusher.start()
            if stop.wait(settings.TICK_SECONDS):
                if pusher is not None:
                    pusher.join()
                return


def _live(seconds: float) -> None:
    """What the operations page shows of workers and ticks; one round does the work of every tick."""
    heartbeats.beat(heartbeats.WORKER, f"advance@{socket.gethostname()}")
    for task in TICKS.values():
        heartbeats.beat(heartbeats.TICK, task, seconds)


def _push_until_idle(stop: threading.Event) -> None:
    while not stop.is_set() and push_once(stop):
        pass


def _push_beside(stop: threading.Event) -> None:
    """Plays take minutes: one at a time runs beside the tick."""
    try:
        _push_until_idle(stop)
    finally:
        connection.close()
