"""A rollout that tells the tickets behind it, and what was told."""

from datetime import timedelta

from accounts.models import User
from changes.models import Change
from notifications.models import Outbox
from releases import services
from releases.models import Rollout
from tests.releases.world import BIG_BANG, World


def roll_out(world: World, *changes: Change, **policy: object) -> Rollout:
    """Starts a big bang with these RFCs and lets every device that answers install it."""
    rollout = world.started(changes=changes, policy={**BIG_BANG, **policy})
    world.tick()
    world.now += timedelta(seconds=1)
    world.work()
    world.tick()
    world.tick(10)
    return rollout


def roll_back(world: World, rollout: Rollout) -> None:
    services.roll_back_rollout(rollout, actor=world.sven, now=world.now, reason="Invoices are empty")
    world.tick()
    world.work()
    world.tick()


def notices(thread: str, person: User | None = None) -> list[str]:
    rows = Outbox.objects.filter(thread=thread, event__startswith="rollout:")
    if person is not None:
        rows = rows.filter(recipient=person)
    return list(rows.order_by("pk").values_list("event", flat=True))
