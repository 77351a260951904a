"""`manage.py sweep_library`: removes files of the media library that nothing needs any more."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from releases.retention import look, sweep
from tickets.clock import database_now


class Command(BaseCommand):
    help = "Removes files of versions that nothing needs; says why others are kept. LIBRARY_KEEP_DAYS=0: never."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would be removed, and why not")

    def handle(self, *args: Any, **options: Any) -> None:
        now = database_now()
        if not options["dry_run"]:
            for version in sweep(now=now):
                self.stdout.write(f"removed  {version}")
        for finding in look(now=now):
            word = "kept" if finding.reasons else "may go"
            self.stdout.write(f"{word:8} {finding.version}: {'; '.join(finding.reasons) or 'nothing needs it'}")
        if not settings.LIBRARY_KEEP_DAYS:
            self.stdout.write("LIBRARY_KEEP_DAYS is 0: nothing is ever removed.")
