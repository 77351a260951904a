"""Under load idle devices are told to sleep longer, in a few steps; a device that is at work never is."""

from datetime import UTC, datetime

import pytest

from cmdb.models import ConfigurationItem
from distribution.channels.ddi import pace
from distribution.channels.ddi.pace import Load, sleep_time

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


def steps(load: Load, *polls: int) -> list[int]:
    """The step at the end of each period of ten seconds with so many polls."""
    found = []
    for period, number in enumerate(polls):
        for _ in range(number):
            load.count(period * 10.0)
        found.append(load.step)
    load.count(len(polls) * 10.0)
    return [*found[1:], load.step]


@pytest.fixture(autouse=True)
def few(settings) -> None:
    settings.DDI_POLLS_PER_SECOND = 2
    settings.DDI_POLL_SECONDS = 300


def test_the_step_follows_the_load_without_swinging() -> None:
    assert steps(Load(), 20) == [1], "as many as wanted"
    assert steps(Load(), 21, 21, 21, 99, 99) == [2, 4, 8, 8, 8]
    assert steps(Load(), 50, 25, 13, 13, 13) == [2, 4, 4, 4, 4], "the polls that are left are those of the step"
    assert steps(Load(), 50, 25, 4, 4, 4) == [2, 4, 2, 1, 1]


def test_after_a_rest_it_goes_down() -> None:
    load = Load()
    steps(load, 50, 50)
    assert load.step == 4
    assert [load.count(at) for at in (1000.0, 2000.0, 3000.0)] == [2, 1, 1]


def test_only_idle_devices_sleep_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load()
    load.step = 4
    monkeypatch.setattr(load, "count", lambda at: load.step)
    monkeypatch.setattr(pace, "load", load)
    ci = ConfigurationItem(agent_id="ci-1")
    ci.window = None
    assert "00:20:00" <= sleep_time(ci, NOW, is_idle=True) <= "00:22:00"
    assert "00:05:00" <= sleep_time(ci, NOW, is_idle=False) <= "00:05:30"
    ci.copy_of_id = 1
    assert sleep_time(ci, NOW, is_idle=True) == "00:00:05"
