"""The event log of environments and images."""

from datetime import datetime
from typing import Any

from test_environments.models import DiskReception, EnvironmentEvent, GoldenImage, TestEnvironment


def log(
    thing: TestEnvironment | GoldenImage | DiskReception,
    text: str,
    *,
    now: datetime,
    actor: Any = None,
    is_problem: bool = False,
) -> None:
    """Writes what happened, in the caller's transaction."""
    kinds = {TestEnvironment: "environment", GoldenImage: "image", DiskReception: "reception"}
    EnvironmentEvent.objects.create(
        **{kinds[type(thing)]: thing}, at=now, text=text[:4000], actor=actor, is_problem=is_problem
    )
