"""What previews of verbs are made of: effects on so many CIs, choices, and the facts that are read once for all."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from accounts.models import User
from cmdb.models import ConfigurationItem
from distribution.services import Counts
from releases import conditions
from releases.models import Rollout, Wave
from releases.policy import RolloutPolicy
from tickets.exceptions import DomainError, InvalidInput


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that happens, to so many CIs. `key` is stable for API clients, `text` is for people."""

    key: str
    text: str
    count: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to give the order (`name` is the verb's mode; empty: there is only one). `refusal`: why not now."""

    name: str
    label: str
    effects: list[Effect] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Preview:
    """What an order would do. `is_done`: it was given before, and giving it again changes nothing.

    `seconds` is how long it takes until what is under way has ended, or has gone back: the half and the nine tenths of
    `measured_on` CIs of the same rollout needed at most so long. None: nothing was measured yet.
    """

    verb: str
    choices: list[Choice]
    in_flight: str = ""
    told: str = ""
    is_done: bool = False
    seconds_p50: int | None = None
    seconds_p90: int | None = None
    measured_on: int = 0

    @property
    def is_possible(self) -> bool:
        return self.is_done or any(not choice.refusal for choice in self.choices)


@dataclass(slots=True)
class Facts:
    """Everything that previews of a rollout look at."""

    rollout: Rollout
    actor: User
    now: datetime
    policy: RolloutPolicy
    waves: list[Wave]
    counts: dict[int, Counts]
    accepted: dict[int, conditions.Accepted]
    asked: dict[str, Any]

    @property
    def total(self) -> Counts:
        return sum(self.counts.values(), Counts())

    def numbers(self, wave: Wave) -> conditions.WaveNumbers:
        return conditions.numbers_of(self.counts[wave.batch_id], size=wave.size, accepted=self.accepted[wave.pk])

    def current(self) -> Wave | None:
        return next((wave for wave in self.waves if wave.state != Wave.State.PASSED), None)

    def count(self, *states: str) -> int:
        return sum(getattr(self.total, state) for state in states)

    def ci(self) -> ConfigurationItem:
        if self.asked.get("ci") is None:
            raise InvalidInput(_("Name the CI."), field="ci")
        found: ConfigurationItem = self.asked["ci"]
        return found


def refusal_of(check: Callable[..., Any], *args: Any, **values: Any) -> str:
    """Why the order would be refused; empty: it would not."""
    try:
        check(*args, **values)
    except DomainError as error:
        return error.message
    return ""


def effects_of(*rows: tuple[str, str, int]) -> list[Effect]:
    """Those that concern anybody."""
    return [Effect(*row) for row in rows if row[2]]
