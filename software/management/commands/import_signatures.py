"""`manage.py import_signatures FILE`: takes in what a key holder signed."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from signing.envelope import Untrusted, load_json
from software.signatures import accept_envelopes
from tickets.clock import database_now
from tickets.exceptions import DomainError


class Command(BaseCommand):
    help = "Takes in the envelopes of a file: key sets, release manifests, rollback decisions; all or none."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            data = load_json(options["file"].read_bytes())
            envelopes = data["envelopes"] if isinstance(data, dict) and "envelopes" in data else [data]
            accepted = accept_envelopes(envelopes, actor=None, now=database_now())
        except (OSError, Untrusted, DomainError) as error:
            raise CommandError(str(error)) from error
        for line in accepted:
            self.stdout.write(line)
        self.stdout.write(f"{len(accepted)} new")
