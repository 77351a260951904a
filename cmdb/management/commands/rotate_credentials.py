"""`manage.py rotate_credentials`: after a new key was put in front of CREDENTIAL_KEYS."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cmdb.credentials import rotate_credentials
from tickets.exceptions import DomainError


class Command(BaseCommand):
    help = "Encrypts every credential anew with the first key of CREDENTIAL_KEYS; then the old keys can go."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = rotate_credentials()
        except DomainError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{count} credentials encrypted anew")
