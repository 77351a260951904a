"""Which of a release's targets come in which wave: the same rule for the plan, the start and the freeze.

The waves are gone through in order, and each takes what it wants of the CIs that are left, those with the lowest ids
first. Every function asks a number of statements that depends on the number of waves, never on the fleet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.db.models.expressions import RawSQL
from django.utils.translation import gettext as _

from cmdb.groups import definition_digest
from cmdb.models import CIClass, CIGroup, ConfigurationItem
from releases.models import Release
from releases.policy import RolloutPolicy
from releases.probes import check_hosts
from releases.targets import target_cis
from releases.waves import Rule, is_quota, quota_of
from tickets.exceptions import ConditionRefused, InvalidInput

# What a service stands on, to any depth; UNION ends at circles.
_BELOW = """
WITH RECURSIVE below(ci_id) AS (
    SELECT target_id FROM cmdb_relation WHERE source_id = %s
    UNION
    SELECT r.target_id FROM below JOIN cmdb_relation r ON r.source_id = below.ci_id
)
SELECT ci_id FROM below
"""


@dataclass(frozen=True, slots=True)
class PlannedWave:
    """A wave of the policy as it would be now: `position` in the policy from 1, the CIs it would take.

    `named` is how many targets its rule fits, whether or not an earlier wave takes them; None for one that goes by
    number. `cis` are the targets it takes, `size` is how many.
    """

    position: int
    rule: Rule
    size: int
    named: int | None
    cis: QuerySet[ConfigurationItem]


def condition_of(rule: Rule) -> Q | None:
    """Which CIs a rule fits; None for one that goes by number, and for the rest."""
    if "cis" in rule:
        return Q(pk__in=rule["cis"])
    if "ci_class" in rule:
        return Q(ci_class__slug=rule["ci_class"])
    if "service" in rule:
        return Q(pk__in=RawSQL(_BELOW, [rule["service"]]))  # noqa: S611 - a constant
    if "group" in rule:
        group = CIGroup.objects.filter(pk=rule["group"]).first()
        return Q(pk__in=group.members().values("pk")) if group is not None else Q(pk__in=[])
    return None


def planned_waves(release: Release) -> list[PlannedWave]:
    """The waves of the release's plan over the targets as they are now, also those that would be empty."""
    targets = target_cis(release)
    total = targets.count()
    left, rest, boundary = targets, total, 0
    planned = []
    for position, rule in enumerate(RolloutPolicy.from_json(release.policy).waves, start=1):
        condition, named = condition_of(rule), None
        if condition is not None:
            named = targets.filter(condition).count()
            cis = left.filter(condition)
            left = left.exclude(condition)
            size = cis.count()
        elif is_quota(rule):
            size = min(quota_of(rule, total), rest)
            # Those that are left and have the lowest ids: everybody up to the last one of them.
            last = left.values_list("pk", flat=True)[size - 1 : size].get() if size else boundary
            cis = left.filter(pk__lte=last)
            left, boundary = left.filter(pk__gt=last), last
        else:
            cis, size = left, rest
        planned.append(PlannedWave(position, rule, size, named, cis))
        rest -= size
    return planned


def shared_with(wave: PlannedWave, earlier: list[PlannedWave], release: Release) -> dict[int, int]:
    """How many of the targets that fit the wave's rule each earlier wave takes: position → number."""
    condition = condition_of(wave.rule)
    if condition is None or not earlier:
        return {}
    shares = {f"wave_{one.position}": Count("pk", filter=Q(pk__in=one.cis.order_by().values("pk"))) for one in earlier}
    found = target_cis(release).order_by().filter(condition).aggregate(**shares)
    return {one.position: found[f"wave_{one.position}"] for one in earlier if found[f"wave_{one.position}"]}


def with_wave_digests(policy: Mapping[str, Any], actor: Any) -> dict[str, Any]:
    """The checked policy as JSON, its waves bound to their groups as they are defined now.

    Refuses a wave that names a CI, class, service or group that is not there, or not to be seen, and a probe of a host
    that the portal may not call.
    """
    checked = RolloutPolicy.from_json(policy).to_json()
    check_hosts(checked.get("probes", ()))
    waves: list[dict[str, Any]] = checked["waves"]
    visible = ConfigurationItem.objects.visible_to(actor).production()
    keys = {key for wave in waves for key in [*wave.get("cis", ()), *([wave["service"]] if "service" in wave else [])]}
    missing = keys - set(visible.filter(pk__in=keys).values_list("pk", flat=True)) if keys else set()
    if missing:
        raise InvalidInput(_("A wave names a CI that is not there: %(id)d.") % {"id": min(missing)}, field="policy")
    slugs = {wave["ci_class"] for wave in waves if "ci_class" in wave}
    unknown = slugs - set(CIClass.objects.filter(slug__in=slugs).values_list("slug", flat=True)) if slugs else set()
    if unknown:
        raise InvalidInput(_("There is no class “%(slug)s”.") % {"slug": min(unknown)}, field="policy")
    wanted = {wave["group"] for wave in waves if "group" in wave}
    groups = {group.pk: group for group in CIGroup.objects.visible_to(actor).filter(pk__in=wanted)} if wanted else {}
    if absent := sorted(wanted - set(groups)):
        raise InvalidInput(_("There is no group with the id %(id)d.") % {"id": absent[0]}, field="policy")
    for wave in waves:
        if "group" in wave:
            wave["digest"] = definition_digest(groups[wave["group"]])
    return checked


def check_wave_groups(release: Release) -> None:
    """Refuses when a group of a wave is defined otherwise than when the plan was saved."""
    bound = {wave["group"]: wave["digest"] for wave in RolloutPolicy.from_json(release.policy).waves if "group" in wave}
    if not bound:
        return
    present = {group.pk: definition_digest(group) for group in CIGroup.objects.filter(pk__in=bound)}
    if present != bound:
        raise ConditionRefused(
            _("A group of a wave was changed since the plan was saved. Save it again and have it approved."),
            code="groups_changed",
        )
