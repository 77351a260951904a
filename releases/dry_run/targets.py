"""The single CIs and rollouts behind a dry run's numbers, as far as a person may see them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from cmdb.models import ConfigurationItem
from distribution.models import OPEN, Deployment
from releases.dry_run.facts import Conflict
from releases.dry_run.report import strategies
from releases.dry_run.waves import among, wave_numbers
from releases.models import Release, Rollout
from releases.policy import RolloutPolicy
from releases.targets import target_cis, without_way_back
from tickets.numbers import parse_number

LOST, TAKEN = "without_way_back", "in_other_rollouts"
ONLY = (LOST, TAKEN)


@dataclass(frozen=True, slots=True)
class PlannedCIs:
    """Targets that a person may see, in the order of their waves. `wave_of` knows the wave of every target."""

    cis: QuerySet[ConfigurationItem]
    wave_of: dict[int, int]

    def rows(self, page: Sequence[ConfigurationItem]) -> list["PlannedCI"]:
        """What is said about the CIs of one page; two statements."""
        keys = [ci.pk for ci in page]
        others: dict[int, list[str]] = {}
        open_ones = Deployment.objects.filter(ci__in=keys, state__in=OPEN).order_by("pk")
        for ci, label in open_ones.values_list("ci", "batch__label"):
            others.setdefault(ci, []).append(label)
        return [
            PlannedCI(ci, self.wave_of[ci.pk], not ci.is_lost, others.get(ci.pk, []))  # type: ignore[attr-defined]
            for ci in page
        ]


@dataclass(frozen=True, slots=True)
class PlannedCI:
    """One target: its wave if phased, whether it can go back, and which rollouts are open on it."""

    ci: ConfigurationItem
    wave: int
    can_go_back: bool
    rollouts: list[str]


def planned_cis(release: Release, user: Any, *, wave: int | None = None, only: str = "") -> PlannedCIs:
    """The targets, all or those of one wave of the phased plan, without a way back, or with other open rollouts."""
    _big_bang, phased = strategies(RolloutPolicy.from_json(release.policy))
    keys = list(target_cis(release).values_list("pk", flat=True))
    wave_of = dict(zip(keys, wave_numbers(keys, phased), strict=True))
    chosen = [key for key in keys if wave is None or wave_of[key] == wave]
    cis = ConfigurationItem.objects.visible_to(user).filter(among(chosen))
    lost = Q(pk__in=without_way_back(release).order_by().values("pk"))
    if only == LOST:
        cis = cis.filter(lost)
    if only == TAKEN:
        own = Rollout.objects.filter(release=release).values("waves__batch")
        others = Deployment.objects.filter(ci=OuterRef("pk"), state__in=OPEN).exclude(batch__in=own)
        cis = cis.filter(Exists(others))
    cis = cis.annotate(is_lost=Exists(without_way_back(release).order_by().filter(pk=OuterRef("pk"))))
    related = ("ci_class__maintenance_window", "maintenance_window", "owner")
    return PlannedCIs(cis.select_related(*related).order_by("pk"), wave_of)


def shown_conflicts(conflicts: Sequence[Conflict], user: Any) -> list[Conflict]:
    """The conflicts, without the names of rollouts that the person may not see."""
    numbers = {conflict.label: parse_number(conflict.label) for conflict in conflicts}
    keys = {found[1] for found in numbers.values() if found is not None and found[0] == Rollout.PREFIX}
    seen = set(Rollout.objects.visible_to(user).filter(pk__in=keys).values_list("pk", flat=True)) if keys else set()
    return [
        conflict if (found := numbers[conflict.label]) is not None and found[1] in seen else replace(conflict, label="")
        for conflict in conflicts
    ]
