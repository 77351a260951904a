"""Props of the API's tests: a client for a person, and one object of every kind, twice: his own and another's."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rest_framework.test import APIClient

from accounts.models import User


@pytest.fixture(autouse=True)
def media(settings, tmp_path: Path) -> Path:
    """A media library of the test's own."""
    settings.MEDIA_ROOT = tmp_path / "media"
    return settings.MEDIA_ROOT


@pytest.fixture
def as_user() -> Callable[[User], APIClient]:
    """A client that is logged in as this person."""

    def client(user: User) -> APIClient:
        made = APIClient()
        made.force_authenticate(user)
        return made

    return client
