"""Which CIs a release goes to, as the plan says it: checked JSON from a form or the API, bound to the approval."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from django.utils.translation import gettext as _

from tickets.exceptions import InvalidInput


@dataclass(frozen=True, slots=True)
class TargetSelector:
    """Which production CIs get the package; empty: all in operation that have one of its products installed.

    `ci_classes` (short names), `cis` (ids) and `groups` narrow it, `exclude` (ids) takes out, `fresh` (CI id →
    product ids) adds products that a CI does not have yet. `again` (ids) are CIs that get it although it failed on
    them before. `groups` maps ids to the digest of the definition that the plan was made with; it may come as a list of
    ids, which `releases.targets.with_digests` completes.
    """

    ci_classes: tuple[str, ...] = ()
    cis: tuple[int, ...] = ()
    groups: Mapping[int, str] = field(default_factory=dict)
    exclude: tuple[int, ...] = ()
    fresh: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    again: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, data: Any) -> "TargetSelector":
        """Reads and checks a selector. Refuses with `InvalidInput` (field `targets`)."""
        if not isinstance(data, Mapping) or set(data) - {f.name for f in fields(cls)}:
            raise _wrong_targets(_("Targets are an object with ci_classes, cis, groups, exclude, fresh and again."))
        fresh = data.get("fresh", {})
        if not isinstance(fresh, Mapping):
            raise _wrong_targets(_("fresh is an object: CI id → list of product ids."))
        groups = data.get("groups", {})
        if not isinstance(groups, Mapping):
            groups = dict.fromkeys(_ids(groups), "")
        return cls(
            ci_classes=tuple(sorted({str(slug) for slug in _listed(data.get("ci_classes", ()))})),
            cis=_ids(data.get("cis", ())),
            groups={_id(group): str(digest) for group, digest in groups.items()},
            exclude=_ids(data.get("exclude", ())),
            fresh={_id(ci): _ids(products) for ci, products in fresh.items()},
            again=_ids(data.get("again", ())),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON in canonical order; `groups` and `again` only where there are any, as before they came."""
        groups = {str(group): digest for group, digest in sorted(self.groups.items())}
        return {
            **({"groups": groups} if groups else {}),
            **({"again": list(self.again)} if self.again else {}),
            "ci_classes": list(self.ci_classes),
            "cis": list(self.cis),
            "exclude": list(self.exclude),
            "fresh": {str(ci): list(products) for ci, products in sorted(self.fresh.items())},
        }


def _wrong_targets(text: str) -> InvalidInput:
    return InvalidInput(text, field="targets", code="targets_invalid")


def _listed(value: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong_targets(_("Classes, CIs and products of the targets are lists."))
    return value


def _ids(value: Any) -> tuple[int, ...]:
    return tuple(sorted({_id(one) for one in _listed(value)}))


def _id(value: Any) -> int:
    """A primary key, also as text (the keys of JSON objects are)."""
    try:
        number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else 0
    except ValueError:
        number = 0
    if not 0 < number < 2**63:
        raise _wrong_targets(_("CIs and products of the targets are named by their ids."))
    return number
