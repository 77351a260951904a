"""The waves of a plan as JSON: who comes when. Each target goes with the first wave that takes it.

`{"count": n}` and `{"percent": p}` (of all targets) take so many of those that are left, by id; `{"cis": [ids]}`,
`{"ci_class": short name}`, `{"service": CI id}` (the CIs below it in the relations) and `{"group": id}` take all that
are left and fit; `{"rest": true}`, the last one, takes everybody else. A group carries the `digest` of the definition
that the plan was made with, which `releases.wave_plan.with_wave_digests` completes.
"""

import math
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from tickets.exceptions import InvalidInput

Rule = Mapping[str, Any]
REST: dict[str, Any] = {"rest": True}
MOST_WAVES = 500
MOST_NAMED = 10_000


def policy_invalid(text: str) -> InvalidInput:
    """The refusal of a policy, with a text that says what to write instead."""
    return InvalidInput(text, field="policy", code="policy_invalid")


def waves_from_json(value: Any) -> tuple[Rule, ...]:
    """Reads and checks the waves of a phased rollout. Refuses with `InvalidInput`."""
    if not isinstance(value, list | tuple) or not value:
        raise policy_invalid(_("A phased rollout needs a list of waves, for example 1 CI, 25 %, the rest."))
    if len(value) > MOST_WAVES:
        raise policy_invalid(_("At most %(most)d waves.") % {"most": MOST_WAVES})
    waves = tuple(_rule(wave, position, is_last=position == len(value)) for position, wave in enumerate(value, start=1))
    if sum(wave.get("percent", 0) for wave in waves) > 100:
        raise policy_invalid(_("The waves' percentages add up to more than 100."))
    if "rest" not in waves[-1]:
        raise policy_invalid(_("The last wave must be the rest, so that no target is forgotten."))
    return waves


def _rule(wave: Any, position: int, *, is_last: bool) -> Rule:
    kinds = [name for name in wave if name != "digest"] if isinstance(wave, Mapping) else []
    if len(kinds) != 1 or ("digest" in wave and kinds != ["group"]):
        raise policy_invalid(
            _("Wave %(n)d must name one of count, percent, cis, ci_class, service, group, rest.") % {"n": position}
        )
    kind, value = kinds[0], wave[kinds[0]]
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63
    if kind == "count" and is_number and int(value) == value and value >= 1:
        return {"count": int(value)}
    if kind == "percent" and is_number and 0 < value <= 100:
        return {"percent": value}
    if kind == "cis" and isinstance(value, list | tuple) and 1 <= len(value) <= MOST_NAMED and all(map(_is_id, value)):
        return {"cis": sorted(set(value))}
    if kind == "ci_class" and isinstance(value, str) and value and "\0" not in value:
        return {"ci_class": value}
    if kind == "service" and _is_id(value):
        return {"service": value}
    if kind == "group" and _is_id(value):
        return {"group": value, "digest": str(wave.get("digest", ""))}
    if kind == "rest" and value is True and is_last:
        return REST
    raise policy_invalid(
        _(
            "Wave %(n)d: a count is a whole number from 1, a percentage lies between 0 and 100, cis is a list of ids, "
            "a class is named by its short name, service and group by their id, the rest comes last."
        )
        % {"n": position}
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63


def is_quota(rule: Rule) -> bool:
    """Whether it takes a number of CIs, whoever they are."""
    return "count" in rule or "percent" in rule


def quota_of(rule: Rule, targets: int) -> int:
    """How many CIs a wave of a number or a percentage wants, of so many targets."""
    return int(rule["count"]) if "count" in rule else math.ceil(targets * float(rule["percent"]) / 100)
