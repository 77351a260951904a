"""The portal checks itself, keeps what it found, and calls administrators once for each finding."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, connection

from accounts.models import User
from notifications.models import Outbox
from releases import self_check
from releases.models import Rollout, SelfCheck
from tests.releases.world import BIG_BANG, World

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(settings, tmp_path: Path) -> World:
    settings.MEDIA_ROOT = tmp_path
    world = World()
    world.add_cis(2)
    world.started(policy=BIG_BANG)
    world.tick()
    return world


@pytest.fixture
def anna(world: World) -> User:
    anna = User.objects.create(username="anna", email="anna@example.org")
    anna.groups.add(Group.objects.get(name="administrator"))
    return anna


def calls() -> list[Outbox]:
    return list(Outbox.objects.filter(event__startswith="self-check:").order_by("pk"))


def test_a_sound_database_is_noted_and_nobody_is_called(world: World, anna: User) -> None:
    result = self_check.check_when_due(now=world.now)
    assert result is not None
    assert result.is_sound
    assert result.seconds > 0
    assert calls() == []


def test_a_violation_calls_administrators_once(world: World, anna: User) -> None:
    Rollout.objects.update(target_count=9)
    for _ in range(3):
        result = self_check.check_when_due(now=world.now)
        world.now += timedelta(days=1)
    assert result is not None
    assert [v["invariant"] for v in result.violations] == ["I1"]
    (call,) = calls()
    assert call.recipient == anna
    assert "froze 9 targets" in call.text
    assert call.path == "/operations/"
    with connection.cursor() as cursor:
        cursor.execute("UPDATE releases_rollout SET target_hash = 'x'")
    self_check.check_when_due(now=world.now)
    assert "not those of its hash" in calls()[1].text
    assert "froze 9 targets" not in calls()[1].text, "he knows that"


def test_it_waits_a_hundred_times_as_long_as_it_took(world: World) -> None:
    first = self_check.check_when_due(now=world.now)
    assert first is not None
    assert self_check.check_when_due(now=world.now + timedelta(minutes=8)) is None
    SelfCheck.objects.update(seconds=60)
    assert self_check.check_when_due(now=world.now + timedelta(minutes=99)) is None
    assert self_check.check_when_due(now=world.now + timedelta(minutes=100)) is not None


def test_a_check_that_cannot_be_finished_says_so(world: World, anna: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_options: object) -> list[object]:
        raise DatabaseError("canceling statement due to statement timeout")

    monkeypatch.setattr(self_check, "check_invariants", fails)
    for _ in range(2):
        result = self_check.check_when_due(now=world.now)
        world.now += timedelta(days=1)
    assert result is not None
    assert "statement timeout" in result.error
    assert not result.is_sound
    assert len(calls()) == 1


def test_old_sound_results_are_forgotten(world: World) -> None:
    now = world.now
    for age, violations in ((100, []), (100, [{"invariant": "I1", "text": "x"}]), (10, [])):
        SelfCheck.objects.create(started_at=now - timedelta(days=age), seconds=1, violations=violations)
    self_check.check_when_due(now=now)
    ages = [(now - started).days for started in SelfCheck.objects.values_list("started_at", flat=True)]
    assert ages == [0, 10, 100]
    assert SelfCheck.objects.last().violations  # type: ignore[union-attr]


@pytest.mark.django_db(transaction=True)
def test_one_at_a_time_and_from_one_snapshot(settings, tmp_path: Path) -> None:
    """A second one, on a connection of its own, goes away; a test of the real transaction."""
    from tests.distribution.test_devices_in_parallel import at_once
    from tickets.clock import database_now

    settings.MEDIA_ROOT = tmp_path
    world = World()
    world.add_cis(2)
    world.started(policy=BIG_BANG)
    results = at_once(*[lambda: self_check.check(now=database_now())] * 4)
    done = [result for result in results if result is not None]
    assert done
    assert all(result.is_sound for result in done)
    assert SelfCheck.objects.count() == len(done)
