"""The cast and the props of the tests: people with roles, configuration items, software."""

from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import Group

from accounts.models import User
from accounts.roles import setup_roles
from cmdb.models import CIClass, ConfigurationItem
from software.models import Product, Version

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
PASSWORD = "correct horse battery staple"


def ensure_roles() -> None:
    """The roles; every test database has them, that of a drill may not."""
    if not Group.objects.exists():
        setup_roles()


def make_user(username: str, *roles: str, **values: Any) -> User:
    """A person with these roles and an address; `password=PASSWORD` lets him log in."""
    values.setdefault("email", f"{username}@example.org")
    user = User.objects.create_user(username, **values)
    if roles:
        ensure_roles()
        groups = list(Group.objects.filter(name__in=roles))
        assert len(groups) == len(roles), f"unknown role among {roles}"
        user.groups.set(groups)
    return user


def make_ci(name: str = "srv-1", **values: Any) -> ConfigurationItem:
    """A production server in operation."""
    if "ci_class" not in values:
        values["ci_class"] = CIClass.objects.get_or_create(slug="server", defaults={"name": "Server"})[0]
    values.setdefault("created_at", NOW)
    return ConfigurationItem.objects.create(name=name, **values)


def make_product(slug: str = "billing", **values: Any) -> Product:
    values.setdefault("name", slug.capitalize())
    return Product.objects.create(slug=slug, **values)


def make_version(product: Product | None = None, label: str = "1.0", **values: Any) -> Version:
    """A version that may be installed, without a file; where the file matters, store one through the services."""
    product = product or make_product()
    values.setdefault("created_at", NOW)
    values.setdefault("state", Version.State.READY)
    return Version.objects.create(product=product, label=label, **values)
