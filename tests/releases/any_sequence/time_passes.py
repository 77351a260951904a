"""Ticks, clocks, and processes that die at any failpoint: what was not committed is lost."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from failpoints import armed
from tests.releases.any_sequence.stage import RARELY, Stage, ci_numbers


class Killed(BaseException):
    """Not an Exception: nothing may catch it and go on."""


@contextmanager
def dies_at(number: int) -> Iterator[None]:
    """The process is killed at the so manieth failpoint that it passes."""
    left = [number]

    def act(_name: str) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1

    with armed(act), suppress(Killed):
        yield


class TimePasses(Stage):
    @rule(seconds=st.sampled_from([0, 1, 11, 101, 3600]), times=st.sampled_from([1, 1, 2, 5]))
    def tick(self, seconds: int, times: int) -> None:
        self.world.now += timedelta(seconds=seconds)
        for _ in range(times):
            self.world.tick()

    @rule(chance=RARELY)
    def the_clock_goes_back(self, chance: bool) -> None:
        if chance:
            self.world.now -= timedelta(seconds=2)
            self.tolerance = 30

    @rule(number=st.integers(0, 8))
    def the_worker_is_killed(self, number: int) -> None:
        with dies_at(number):
            self.world.tick()

    @rule(number=st.integers(0, 5), which=ci_numbers)
    def the_web_server_is_killed(self, number: int, which: int) -> None:
        with dies_at(number):
            self.device(which).run(self.world.now)
