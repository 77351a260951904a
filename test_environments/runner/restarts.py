"""How often an environment that ends by itself is started again: after growing pauses, and not for ever."""

import time
from dataclasses import dataclass

FIRST_DELAY = 0.5  # seconds before the first restart; doubles with each further death
LONGEST_DELAY = 30.0
LONG_LIFE = 60.0  # seconds after which earlier deaths are forgotten
DEATHS_ALLOWED = 6


@dataclass
class _Life:
    began: float
    deaths: int = 0
    due: float = 0.0
    is_over: bool = False


class Restarts:
    """What this host remembers of each environment's lives, by primary key."""

    def __init__(self) -> None:
        self._lives: dict[int, _Life] = {}

    def began(self, key: int) -> None:
        """It was started."""
        life = self._lives.setdefault(key, _Life(time.monotonic()))
        life.began, life.is_over = time.monotonic(), False

    def ended(self, key: int) -> None:
        """It was seen to have ended by itself; counts once for each life."""
        life = self._lives.get(key)
        if life is None or life.is_over:
            return
        life.is_over = True
        lived = time.monotonic() - life.began
        life.deaths = 1 if lived > LONG_LIFE else life.deaths + 1
        life.due = time.monotonic() + min(FIRST_DELAY * 2 ** (life.deaths - 1), LONGEST_DELAY)

    def is_given_up(self, key: int) -> bool:
        """Whether it ended too often to be started again."""
        life = self._lives.get(key)
        return life is not None and life.deaths >= DEATHS_ALLOWED

    def is_due(self, key: int) -> bool:
        """Whether it may be started now."""
        life = self._lives.get(key)
        return life is None or time.monotonic() >= life.due

    def forget(self, key: int) -> None:
        """It is made anew, stopped by order, or gone."""
        self._lives.pop(key, None)
