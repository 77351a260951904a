"""Keeps every version of a release's plan, and tells what differs between two of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from accounts.models import User
from releases.models import PlanGeneration, Release


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of a plan that another generation has otherwise; None: it did not say anything about it."""

    field: str
    before: Any
    after: Any


def keep_generation(release: Release, *, actor: User | None, now: datetime) -> PlanGeneration:
    """The generation of the present plan; a new one when it differs from the last. The release is locked."""
    last = release.generations.order_by("-number").first()
    if last is not None and (last.policy, last.targets) == (release.policy, release.targets):
        return last
    return PlanGeneration.objects.create(
        release=release,
        number=last.number + 1 if last is not None else 1,
        policy=release.policy,
        targets=release.targets,
        made_by=actor,
        made_at=now,
    )


def differences(before: PlanGeneration, after: PlanGeneration) -> list[Difference]:
    """What a later generation has otherwise, field by field."""
    found = []
    for old, new in ((before.policy, after.policy), (before.targets, after.targets)):
        for name in dict.fromkeys([*old, *new]):
            if old.get(name) != new.get(name):
                found.append(Difference(name, old.get(name), new.get(name)))
    return found


def history(release: Release, *, most: int = 20) -> list[tuple[PlanGeneration, list[Difference]]]:
    """The newest generations, the latest first, each with what it changed."""
    rows = list(release.generations.select_related("made_by").order_by("-number")[: most + 1])
    pairs = zip(rows, [*rows[1:], None], strict=False)
    return [(row, differences(before, row) if before is not None else []) for row, before in pairs][:most]
