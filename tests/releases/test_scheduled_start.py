"""A rollout that starts at a time: visible, changeable, cancellable, and by the normal rules."""

from datetime import timedelta

import pytest

from notifications.kinds import Kind
from notifications.models import Outbox
from releases import services
from releases.models import Release, Rollout
from tests.releases.world import BIG_BANG, World, state
from tickets.exceptions import InvalidInput, PermissionRefused, TransitionRefused

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def scheduled(world: World) -> Release:
    world.add_cis(1)
    release = world.approved(policy=BIG_BANG)
    services.schedule_start(release, actor=world.sven, now=world.now, start_at=world.now + HOUR)
    return release


def test_it_starts_at_its_time_in_the_name_of_the_orderer(world: World) -> None:
    release = scheduled(world)
    assert (release.start_for, release.start_at) == (world.sven, world.now + HOUR)
    world.tick(3599)
    assert not Rollout.objects.exists()
    world.tick(1)
    rollout = Rollout.objects.get()
    assert (rollout.started_by, state(release)) == (world.sven, "deploying")
    release.refresh_from_db()
    assert (release.start_for, release.start_at) == (None, None)


def test_the_time_is_changed_and_the_order_taken_back(world: World) -> None:
    release = scheduled(world)
    services.schedule_start(release, actor=world.sven, now=world.now, start_at=world.now + 2 * HOUR)
    world.tick(3700)
    assert not Rollout.objects.exists()
    with pytest.raises(PermissionRefused):
        services.cancel_start(release, actor=world.rita, now=world.now)
    for _ in range(2):
        services.cancel_start(release, actor=world.olga, now=world.now)
    assert release.entries.filter(text__contains="not start by itself any more").count() == 1
    world.tick(7200)
    assert (Rollout.objects.count(), state(release)) == (0, "ready")


def test_who_may_order_it_and_when(world: World) -> None:
    release = world.draft()
    with pytest.raises(TransitionRefused):
        services.schedule_start(release, actor=world.sven, now=world.now, start_at=world.now + HOUR)
    world.add_cis(1)
    ready = world.ready(policy=BIG_BANG, changes=[world.change()])
    with pytest.raises(PermissionRefused):
        services.schedule_start(ready, actor=world.olga, now=world.now, start_at=world.now + HOUR)
    for start_at in (world.now, world.now.replace(year=9999)):
        with pytest.raises(InvalidInput):
            services.schedule_start(ready, actor=world.sven, now=world.now, start_at=start_at)


def test_a_shut_gate_holds_it_and_after_an_hour_it_is_given_up_and_told(world: World) -> None:
    world.add_cis(1)
    release = world.ready(policy=BIG_BANG)
    services.schedule_start(release, actor=world.sven, now=world.now, start_at=world.now + HOUR)
    world.tick(3600 + 1800)
    assert not Rollout.objects.exists(), "nobody has approved it"
    world.tick(1801)
    release.refresh_from_db()
    assert release.start_for is None
    told = Outbox.objects.filter(recipient=world.sven, thread=release.number)
    # Before, he was asked for the approval, as everybody who may give it.
    assert told.get(kind=Kind.ROLLOUT).event.startswith(f"release:{release.pk}:")
    services.approve_release(release, actor=world.mona, now=world.now)
    world.tick(10)
    assert not Rollout.objects.exists(), "a late approval does not start it in the middle of the day"


def test_an_approval_within_the_hour_lets_it_start(world: World) -> None:
    world.add_cis(1)
    release = world.ready(policy=BIG_BANG)
    services.schedule_start(release, actor=world.sven, now=world.now, start_at=world.now + HOUR)
    world.tick(3600 + 600)
    services.approve_release(release, actor=world.mona, now=world.now)
    world.tick(2)
    assert Rollout.objects.get().started_by == world.sven


def test_who_starts_it_by_hand_has_done_what_was_ordered(world: World) -> None:
    release = scheduled(world)
    rollout = services.start_rollout(release, actor=world.sven, now=world.now)
    world.tick(3700)
    assert list(Rollout.objects.all()) == [rollout]
