"""Whoever may approve a release is told that it waits for him: once, and only as long as it does."""

from notifications.kinds import Kind
from notifications.models import Outbox
from releases import services
from tests.factories import make_user
from tests.releases.world import World


def asked(kind: str = "Waits for your approval") -> list[str]:
    rows = Outbox.objects.filter(kind=Kind.ANSWER, read_at__isnull=True, subject__contains=kind)
    return sorted(rows.values_list("recipient__username", flat=True))


def test_a_release_that_is_ready_is_asked_for_until_somebody_decides(world: World) -> None:
    make_user("eva", "emergency approver")
    world.add_cis(2)
    release = world.ready()
    managers = asked()
    assert "mona" in managers
    assert {"erik", "eva"}.isdisjoint(managers), "neither its author nor who decides on emergencies only"
    services.approve_release(release, actor=world.mona, now=world.now)
    assert asked() == []
    services.edit_release(release, actor=world.erik, now=world.now, policy={"strategy": "big_bang"})
    assert asked() == managers, "another plan is decided on anew"
    told = Outbox.objects.count()
    services.edit_release(release, actor=world.erik, now=world.now, description="In other words.")
    assert asked() == managers
    assert Outbox.objects.count() == told, "nobody is told twice"
    services.reject_release(release, actor=world.mona, now=world.now, comment="Phased, please.")
    assert asked() == []


def test_a_release_whose_package_changes_waits_for_nobody(world: World) -> None:
    world.add_cis(2)
    release = world.ready()
    assert asked()
    services.edit_release(release, actor=world.erik, now=world.now, versions=[world.newer])
    release.refresh_from_db()
    assert (release.state, asked()) == ("built", [])


def test_an_approver_who_edits_it_is_asked_no_more(world: World) -> None:
    both = make_user("both", "release manager", "release engineer")
    world.add_cis(2)
    release = world.ready()
    assert "both" in asked()
    services.edit_release(release, actor=both, now=world.now, policy={"strategy": "big_bang"})
    assert "both" not in asked()
    assert "mona" in asked()
