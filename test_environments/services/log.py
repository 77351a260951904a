"""The event log of environments and images."""

from datetime import datetime
from typing import Any

from test_environments.models import EnvironmentEvent, GoldenImage, TestEnvironment


def log(
    thing: TestEnvironment | GoldenImage, text: str, *, now: datetime, actor: Any = None, is_problem: bool = False
) -> None:
    """Writes what happened, in the caller's transaction."""
    owner = {"environment": thing} if isinstance(thing, TestEnvironment) else {"image": thing}
    EnvironmentEvent.objects.create(**owner, at=now, text=text[:4000], actor=actor, is_problem=is_problem)
