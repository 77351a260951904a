"""Looking at all environments beside the loop, so that a slow hypervisor holds nobody up."""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from uuid import UUID

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import DriverError
from test_environments.drivers.interface import Driver, Observation, Power

LOOK_SECONDS = 10.0
CONSOLE_SECONDS = 5.0


class Watch:
    """One thread that looks; `latest` holds what it saw, and when it began to look (monotonic)."""

    def __init__(self, drivers: Mapping[str, Driver]) -> None:
        self._drivers = drivers
        self._pool = ThreadPoolExecutor(1, "watch")
        self._round: Future[None] | None = None
        self._consoles_at = 0.0
        self.latest: dict[UUID, tuple[Observation, float]] = {}
        self.consoles: dict[UUID, str] = {}

    def look(self, things: Iterable[tuple[UUID, str]]) -> None:
        """Begins a new round over (uuid, driver's name) unless one is under way."""
        if self._round is not None:
            if not self._round.done():
                return
            self._round.result()
        self._round = self._pool.submit(self._look, list(things))

    def _look(self, things: list[tuple[UUID, str]]) -> None:
        with_consoles = time.monotonic() - self._consoles_at >= CONSOLE_SECONDS
        seen, consoles = {}, {}
        for key, name in things:
            driver = self._drivers.get(name)
            if driver is None:
                continue
            began = time.monotonic()
            seen[key] = (_observe(driver, key), began)
            if with_consoles and seen[key][0].power is not Power.ABSENT:
                consoles[key] = _quietly(lambda driver=driver, key=key: driver.console(key))  # type: ignore[misc]
        self.latest = seen
        if with_consoles:
            self.consoles, self._consoles_at = consoles, time.monotonic()

    def close(self) -> None:
        """Waits for the round under way."""
        self._pool.shutdown(wait=True)


def _observe(driver: Driver, key: UUID) -> Observation:
    try:
        return driver.observe(key, Bound(LOOK_SECONDS))
    except DriverError as error:
        return Observation(Power.UNKNOWN, why=error.text)


def _quietly(read: Callable[[], str]) -> str:
    try:
        return read()
    except (DriverError, OSError):
        return ""
