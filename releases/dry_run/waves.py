"""Which wave each target would be in."""

from collections.abc import Sequence

from django.db.models import Q
from django.db.models.expressions import RawSQL

from cmdb.models import ConfigurationItem
from releases.policy import RolloutPolicy
from releases.wave_plan import condition_of
from releases.waves import is_quota, quota_of


def wave_numbers(cis: Sequence[int], policy: RolloutPolicy) -> list[int]:
    """The number of the wave of each CI, by the rule of `releases.wave_plan`; empty waves have no number.

    One statement for each wave that does not go by number.
    """
    left = dict.fromkeys(cis)
    wave_of: dict[int, int] = {}
    number = 1
    for rule in policy.waves:
        condition = condition_of(rule)
        if condition is not None:
            fitting = set(ConfigurationItem.objects.filter(among(cis), condition).values_list("pk", flat=True))
            taken = [ci for ci in left if ci in fitting]
        elif is_quota(rule):
            taken = list(left)[: quota_of(rule, len(cis))]
        else:
            taken = list(left)
        for ci in taken:
            wave_of[ci] = number
            del left[ci]
        number += bool(taken)
    return [wave_of[ci] for ci in cis]


def among(keys: Sequence[int]) -> Q:
    """Is one of these CIs; one parameter, however many there are."""
    return Q(pk__in=RawSQL("SELECT unnest(%s::bigint[])", [list(keys)]))
