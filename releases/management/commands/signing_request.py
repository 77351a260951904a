"""`manage.py signing_request REL-0000001 > request.json`: what a key holder still has to sign for a release."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from releases.models import Release
from releases.services import signing_request
from tickets.clock import database_now
from tickets.exceptions import DomainError
from tickets.numbers import parse_number


class Command(BaseCommand):
    help = "Writes the request file for the key holder: the release's unsigned manifests and rollback decisions."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("release", help="number of the release")

    def handle(self, *args: Any, **options: Any) -> None:
        found = parse_number(options["release"])
        release = Release.objects.filter(pk=found[1]).first() if found and found[0] == Release.PREFIX else None
        if release is None:
            raise CommandError(f"There is no release {options['release']}.")
        try:
            self.stdout.write(json.dumps(signing_request(release, now=database_now()), indent=1))
        except DomainError as error:
            raise CommandError(str(error)) from error
