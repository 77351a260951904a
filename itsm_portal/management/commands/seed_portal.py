"""Fills an empty portal with very much data, to measure and to look at pages with."""

import random
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from incidents.models import Incident
from itsm_portal.seeding.copying import word_indexes_afterwards
from itsm_portal.seeding.live import start_live_rollout
from itsm_portal.seeding.rollouts import make_past_rollouts, versions_needed
from itsm_portal.seeding.tickets import make_tickets
from itsm_portal.seeding.words import PRODUCTS
from itsm_portal.seeding.world import World, make_cis, make_library, make_people
from releases.models import Release, Rollout
from tickets.clock import database_now


class Command(BaseCommand):
    help = "Fills an empty portal by COPY: tickets of the four processes, CIs, rollouts of which one is under way."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tickets", type=int, default=10_000, help="each with two entries of its timeline")
        parser.add_argument("--cis", type=int, default=1_000)
        parser.add_argument("--rollouts", type=int, default=50, help="one of them is under way, to all CIs")
        parser.add_argument("--days", type=int, default=730, help="how long ago the first ticket was written")
        parser.add_argument("--seed", type=int, default=1, help="the same one gives the same data")
        parser.add_argument("--password", default="", help="lets desk, approver, requester and the others sign in")
        parser.add_argument("--add", action="store_true", help="also where there are tickets already")

    def handle(self, *args: Any, **options: Any) -> None:
        numbers = [options[name] for name in ("tickets", "cis", "rollouts", "days")]
        if min(numbers) < 0 or options["tickets"] < 100 or options["cis"] < 1 or options["days"] < 1:
            raise CommandError("At least 100 tickets, 1 CI and 1 day; no number is negative.")
        if settings.REQUIRE_SIGNATURES and options["rollouts"]:
            raise CommandError("Its versions are not signed: set REQUIRE_SIGNATURES=0, or --rollouts 0.")
        if Incident.objects.exists() and not options["add"]:
            raise CommandError("There are tickets already. This is for an empty portal; --add writes beside them.")
        if Rollout.objects.active().exists() and options["rollouts"]:
            raise CommandError("A rollout is under way, and its CIs would get another one: --rollouts 0.")
        self._begun = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
        # Not for secrets: the data is to be the same again.
        world = World(database_now(), random.Random(options["seed"]), options["days"], options["password"])  # noqa: S311
        with word_indexes_afterwards():
            make_people(world, options["tickets"])
            make_library(world, versions_needed(options["rollouts"], len(PRODUCTS)))
            self._say(f"{len(world.requesters)} people, {len(world.products)} products")
            make_cis(world, options["cis"])
            self._say(f"{options['cis']} CIs")
            written = make_tickets(world, options["tickets"], self._say)
        self._say("indexes of words")
        if options["rollouts"]:
            self._say(f"{make_past_rollouts(world, options['rollouts'] - 1, written.keys[Release])} past rollouts")
            rollout = start_live_rollout(world)
            self._say(f"{rollout.number} is {rollout.get_state_display()}, to {rollout.target_count} CIs")
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE" if connection.in_atomic_block else "VACUUM ANALYZE")
        self._say("done")

    def _say(self, text: str) -> None:
        self.stdout.write(f"{time.monotonic() - self._begun:7.1f} s  {text}")
