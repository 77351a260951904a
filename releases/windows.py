"""When a rollout may offer: the planned time of its RFCs, and the freezes. Questions only; `releases.holding` acts."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max, Min
from django.utils.translation import gettext as _

from changes.models import Freeze
from releases.models import Release, Rollout

STAMP = "%Y-%m-%d %H:%M UTC"


@dataclass(frozen=True, slots=True)
class Block:
    """Something that forbids new offers now.

    `key` names it exactly, with its time: an override counts for what stood there when it was given, and no longer
    when the time is moved. `until` is empty where only people end it.
    """

    key: str
    reason: str
    until: datetime | None = None

    @property
    def is_start(self) -> bool:
        """Whether it is only too early: nothing has been offered that would have to be stopped."""
        return self.key.startswith("start:")

    @property
    def is_freeze(self) -> bool:
        return self.key.startswith("freeze:")


def planned_time(release: Release) -> tuple[datetime | None, datetime | None]:
    """The latest planned start and the earliest planned end of its RFCs."""
    found = release.changes.aggregate(start=Max("planned_start"), end=Min("planned_end"))
    return found["start"], found["end"]


def blocks(rollout: Rollout, now: datetime) -> list[Block]:
    """What stands against new offers now, but for what somebody has overridden."""
    return [block for block in all_blocks(rollout, now) if block.key not in rollout.overridden]


def all_blocks(rollout: Rollout, now: datetime) -> list[Block]:
    """What stands against new offers now, overridden or not.

    An emergency is exempt from the planned time, and from freezes that do not bind emergencies.
    """
    is_emergency = rollout.release.release_type == Release.Type.EMERGENCY
    found = [] if is_emergency else _outside_planned_time(rollout.release, now)
    freezes = Freeze.objects.in_force(now).order_by("pk")
    for freeze in freezes.filter(binds_emergencies=True) if is_emergency else freezes:
        text = _("The freeze “%(name)s” (%(number)s) lasts until %(end)s.")
        text %= {"name": freeze.name, "number": freeze.number, "end": freeze.ends_at.strftime(STAMP)}
        found.append(Block(f"freeze:{freeze.pk}:{freeze.ends_at.isoformat()}", text, freeze.ends_at))
    return found


def _outside_planned_time(release: Release, now: datetime) -> list[Block]:
    start, end = planned_time(release)
    found = []
    if start is not None and now < start:
        text = _("the planned start of its RFCs: %s") % start.strftime(STAMP)
        found.append(Block(f"start:{start.isoformat()}", text, start))
    if end is not None and now >= end:
        text = _("The planned end of its RFCs has passed: %s") % end.strftime(STAMP)
        found.append(Block(f"end:{end.isoformat()}", text))
    return found
