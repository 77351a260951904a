"""`manage.py setup_roles`: the portal's roles with exactly the rights of `accounts.roles`; may run again."""

from typing import Any

from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.core.management.base import BaseCommand, CommandError

from accounts.roles import PROJECT_APPS, ROLES, setup_roles


class Command(BaseCommand):
    help = "Creates or corrects the roles (groups) and their rights. Safe to run again."

    def handle(self, *args: Any, **options: Any) -> None:
        for label in ("auth", *PROJECT_APPS):
            create_permissions(apps.get_app_config(label), verbosity=0)
        try:
            changed = setup_roles()
        except LookupError as error:
            raise CommandError(f"No model declares these rights: {error}. Run `manage.py migrate` first.") from error
        self.stdout.write(f"{len(ROLES)} roles, {changed} changed.")
