"""When the waves of a plan open at the earliest: by the problem-free period between them, and nothing else.

How long the installations take, windows and freezes come on top; the dry run of a release estimates those.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from releases.models import Wave
from releases.policy import RolloutPolicy
from releases.soaking import ends_at
from tickets.exceptions import InvalidInput


@dataclass(frozen=True, slots=True)
class Span:
    """The wave `number`, not before `start`; its problem-free period not over before `end`."""

    number: int
    start: datetime
    end: datetime


def earliest_waves(
    policy: Mapping[str, Any], waves: Iterable[Wave], *, start: datetime | None, now: datetime
) -> list[Span]:
    """The waves that have not begun: those of a rollout, or without one those of its plan from `start` on."""
    try:
        checked = RolloutPolicy.from_json(policy)
    except InvalidInput:
        return []  # a plan that is not finished yet
    soak = timedelta(seconds=checked.soak_seconds)
    found = []
    at = start or now
    if start is not None:
        numbers = list(range(1, len(checked.waves) + 1))
    else:
        forward = sorted((wave for wave in waves if wave.kind == Wave.Kind.FORWARD), key=lambda wave: wave.number)
        for wave in forward:
            if wave.started_at is not None and wave.finished_at is None:
                at = max(at, ends_at(wave, checked, now))
        numbers = [wave.number for wave in forward if wave.state == Wave.State.WAITING]
    for number in numbers:
        found.append(Span(number, at, at + soak))
        at += soak
    return found
