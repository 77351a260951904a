"""Probes that are a command on the CIs: the health check of what they run, asked in turn while a wave soaks."""

from datetime import timedelta
from typing import Any

import pytest

from cmdb.models import ConfigurationItem
from distribution import device
from distribution.channels.ddi import payload
from distribution.models import HealthCheck
from releases import probing
from releases.models import ProbeSample, Rollout, Verdict
from releases.policy import RolloutPolicy
from releases.probes import probe_lines, read_probe_lines
from tests.releases.world import BIG_BANG, World, state
from tickets.exceptions import InvalidInput

pytestmark = pytest.mark.django_db


@pytest.fixture
def soaking(world: World, monkeypatch: pytest.MonkeyPatch) -> Rollout:
    """Two CIs run the package; each is asked in turn, every ten seconds, and has a minute to answer."""
    monkeypatch.setattr("releases.probing.database_now", lambda: world.now)
    world.add_cis(2)
    probe = {"check": "health", "every": 10, "timeout": 60, "samples": 3, "failures": 2}
    rollout = world.started(policy={**BIG_BANG, "probes": [probe]})
    world.tick()
    world.work()
    world.tick()
    return rollout


def requests(world: World) -> dict[str, str]:
    """What the polls of the devices ask for."""
    found = {}
    for agent in world.devices:
        agent.ci.refresh_from_db()
        link = payload.poll("B", agent.ci, device.Action(), world.now)["_links"].get("configData", {}).get("href", "")
        if "?health=" in link:
            found[agent.ci.name] = link.partition("?health=")[2]
    return found


def say(world: World, ci: ConfigurationItem, request: str, word: str) -> None:
    data = {"health.request": request, "health.billing": word}
    device.record_attributes(ci, data=data, mode="merge", now=world.now)


def rounds(world: World, words: list[str]) -> None:
    """One question each, answered with these words; "" for silence."""
    for word in words:
        probing.take_samples()
        for agent in world.devices:
            request = requests(world).get(agent.ci.name)
            if request and word:
                say(world, agent.ci, request, word)
        probing.take_samples()
        world.tick(10)


def outcomes() -> list[str]:
    return list(ProbeSample.objects.order_by("pk").values_list("outcome", flat=True))


def test_cis_are_asked_in_turn_and_the_wave_passes_with_enough_answers(world: World, soaking: Rollout) -> None:
    probing.take_samples()
    first = requests(world)
    assert list(first) == ["srv-1"]
    say(world, world.devices[0].ci, first["srv-1"], "pass")
    assert requests(world) == {}
    world.tick(11)
    soaking.refresh_from_db()
    assert (soaking.state, soaking.waits_for) == ("running", "the probes of wave 1")
    rounds(world, ["pass"] * 3)
    assert state(soaking) == "completed"
    asked = list(HealthCheck.objects.order_by("pk").values_list("ci__name", flat=True))
    assert asked[:3] == ["srv-1", "srv-2", "srv-1"]


def test_bad_answers_fail_the_wave(world: World, soaking: Rollout) -> None:
    rounds(world, ["fail: exit status 3"])
    assert state(soaking) == "running", "one of three may fail"
    rounds(world, ["fail: exit status 3"])
    soaking.refresh_from_db()
    assert (soaking.state, soaking.pause_kind) == ("paused", "breach")
    assert Verdict.objects.get(kind="error").numbers["failed_probes"] == 1
    details = ProbeSample.objects.order_by("pk").values_list("detail", flat=True)
    assert details[0] == "srv-1: billing: fail: exit status 3"


def test_silence_is_neither_yes_nor_no_and_asks_a_person(world: World, soaking: Rollout) -> None:
    for _ in range(8):
        probing.take_samples()
        world.tick(10)
    soaking.refresh_from_db()
    assert (soaking.state, soaking.pause_kind) == ("paused", "probe")
    assert "neither yes nor no" in soaking.pause_reason
    assert outcomes()[:2] == ["inconclusive", "inconclusive"]
    assert not Verdict.objects.filter(kind="error").exists()


@pytest.mark.parametrize("word", ["", "none", "unknown: the agent ended during it", "PASS", "passed"])
def test_what_is_no_clear_word_is_inconclusive(world: World, soaking: Rollout, word: str) -> None:
    probing.take_samples()
    ((name, request),) = requests(world).items()
    say(world, world.devices[0].ci, request, word)
    probing.take_samples()
    assert (name, outcomes()) == ("srv-1", ["inconclusive"])


def test_a_device_answers_only_its_own_question_only_once_and_only_in_time(world: World, soaking: Rollout) -> None:
    one, two = (agent.ci for agent in world.devices)
    probing.take_samples()
    request = requests(world)["srv-1"]
    say(world, two, request, "pass")
    for other in ("", "x", "9" * 40, str(int(request) + 1), "-1", " 1"):
        say(world, one, other, "pass")
    assert HealthCheck.objects.get().outcome == ""
    say(world, one, request, "fail: broken")
    say(world, one, request, "pass")
    assert HealthCheck.objects.get().outcome == "fail"
    world.now += timedelta(seconds=10)
    probing.take_samples()
    late = requests(world)["srv-2"]
    world.now += timedelta(seconds=61)
    say(world, two, late, "pass")
    probing.take_samples()
    assert outcomes()[:2] == ["fail", "inconclusive"]


def test_attributes_without_an_answer_leave_the_question_open(world: World, soaking: Rollout) -> None:
    probing.take_samples()
    before = requests(world)
    world.devices[0]._tell(world.now)
    assert requests(world) == before


@pytest.mark.parametrize(
    "probe",
    [
        {"check": "rm -rf /"}, {"check": "health; id"}, {"check": ["health"]}, {"check": None}, {"command": "uptime"},
        {"check": "health", "command": "uptime"}, {"check": "health", "url": "http://shop/"},
        {"check": "health", "timeout": 1}, {"check": "health", "samples": 1, "failures": 2},
    ],
)  # fmt: skip
def test_a_plan_names_a_check_and_never_a_command(probe: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        RolloutPolicy.from_json({"probes": [probe]})


def test_the_form_writes_it_as_a_word(settings: Any) -> None:
    stored = RolloutPolicy.from_json({"probes": [{"check": "health", "samples": 7}, {"url": "http://shop/ok"}]}).probes
    text = probe_lines(stored)
    assert text == "health\nhttp://shop/ok 200"
    assert read_probe_lines(text, stored) == [dict(probe) for probe in stored]
    assert read_probe_lines("health", []) == [{"check": "health"}]
