"""`manage.py verify_signatures`: judges every signature again by the pinned root keys, without the network."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from software.models import KeySet, ReleaseManifest, RollbackDecision
from software.quarantine import check_all_files
from software.signatures import judge_again, trusted_key_set
from tickets.clock import database_now


class Command(BaseCommand):
    help = (
        "Verifies key sets, release manifests and rollback decisions from the pinned root keys on; what does not count "
        "any more is no longer offered. Run it after a change of SIGNING_ROOT_KEYS. Exit code 0: all count, 1: not all."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--files", action="store_true", help="read every file, too, and quarantine what differs")

    def handle(self, *args: Any, **options: Any) -> None:
        trusted = trusted_key_set()
        problems = judge_again()
        now = database_now()
        if trusted is None:
            problems.append("no key set leads to the pinned root keys")
        elif trusted.expires <= now:
            problems.append(f"key set {trusted.number} expired on {trusted.expires:%Y-%m-%d}")
        else:
            self.stdout.write(f"key set {trusted.number}, good until {trusted.expires:%Y-%m-%d}")
        if options["files"]:
            problems += check_all_files(now=now)
        for problem in problems:
            self.stdout.write(problem)
        counts = (model.objects.count() for model in (KeySet, ReleaseManifest, RollbackDecision))
        text = "{} key sets, {} manifests, {} decisions; {} problems".format(*counts, len(problems))
        self.stdout.write(text)
        if problems:
            raise SystemExit(1)
