"""Baselines: recording what a CI is, and telling what has changed since."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from cmdb.models import Baseline, ConfigurationItem, InstalledVersion, Relation
from tickets.exceptions import InvalidInput
from tickets.lifecycle import check_permission

# So many are kept of a CI; more is a habit that nobody looks at.
MOST = 50

# Parts of a state, in the order in which they are shown: each has what it holds by name.
PARTS = {
    "versions": gettext_lazy("Version"),
    "facts": gettext_lazy("Fact"),
    "depends_on": gettext_lazy("Depends on"),
    "attributes": gettext_lazy("Attribute"),
}
FACTS = {
    "class": gettext_lazy("Class"),
    "lifecycle": gettext_lazy("Lifecycle"),
    "owner": gettext_lazy("Owner"),
    "team": gettext_lazy("Team"),
    "channel": gettext_lazy("Channel"),
    "agent_profile": gettext_lazy("Agent profile"),
    "maintenance_window": gettext_lazy("Maintenance window"),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not what it was; `then` or `now` is None where it did not exist. `part` is a key of `PARTS`."""

    part: str
    name: str
    then: str | None
    now: str | None

    @property
    def kind(self) -> str:
        """The name of its part, for people."""
        return str(PARTS[self.part])

    @property
    def label(self) -> str:
        """What it is about, for people."""
        return str(FACTS[self.name]) if self.part == "facts" and self.name in FACTS else self.name


def state_of(ci: ConfigurationItem) -> dict[str, dict[str, str]]:
    """What the CI is now, part by part (see `PARTS`), with texts that stay what they are; two statements."""
    installed = InstalledVersion.objects.filter(ci=ci, valid_to=None).values_list("product__slug", "label")
    relations = Relation.objects.filter(source=ci).order_by("pk").values_list("target", "kind")
    needed: dict[str, list[str]] = {}
    for target, kind in relations:
        needed.setdefault(ConfigurationItem(pk=target).number, []).append(kind)
    return {
        "versions": dict(installed),
        "facts": {
            "class": ci.ci_class.slug,
            "lifecycle": ci.lifecycle,
            "owner": ci.owner.username if ci.owner else "",
            "team": ci.team.name if ci.team else "",
            "channel": ci.channel,
            "agent_profile": ci.agent_profile.name if ci.agent_profile else "",
            "maintenance_window": ci.window.name if ci.window else "",
        },
        "depends_on": {number: ", ".join(sorted(kinds)) for number, kinds in needed.items()},
        "attributes": {key: str(value) for key, value in _attributes(ci)},
    }


def _attributes(ci: ConfigurationItem) -> Iterator[tuple[str, Any]]:
    yield from ci.attributes.items() if isinstance(ci.attributes, dict) else ()


def record_baseline(ci: ConfigurationItem, *, actor: Any, now: datetime, name: str) -> Baseline:
    """Keeps what the CI is now under a name. Refuses a name that it has already, and more than `MOST`."""
    check_permission(actor, "cmdb.manage_cis", _("record a baseline"))
    name = name.strip()
    if not name:
        raise InvalidInput(_("Give the baseline a name, for example what is done next."), field="name")
    with transaction.atomic():
        locked = ConfigurationItem.objects.select_for_update(no_key=True, of=["self"]).select_related(
            "ci_class__maintenance_window", "owner", "team", "agent_profile", "maintenance_window"
        )
        current = locked.get(pk=ci.pk)
        known = set(current.baselines.values_list("name", flat=True))
        if name in known:
            raise InvalidInput(_("This CI has a baseline of that name. Choose another one."), field="name")
        if len(known) >= MOST:
            raise InvalidInput(_("%(most)d baselines of a CI are kept. Remove one first.") % {"most": MOST})
        return Baseline.objects.create(ci=ci, name=name, state=state_of(current), recorded_at=now, recorded_by=actor)


def remove_baseline(baseline: Baseline, *, actor: Any, now: datetime) -> None:
    """Forgets a baseline."""
    check_permission(actor, "cmdb.manage_cis", _("remove a baseline"))
    Baseline.objects.filter(pk=baseline.pk).delete()


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a baseline holds, as far as a person may see it, and what is different now."""

    state: dict[str, dict[str, str]]
    differences: list[Difference]

    @property
    def parts(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The parts that hold something, with their names for people."""
        return [
            (str(label), [(Difference(part, name, None, None).label, text) for name, text in self.state[part].items()])
            for part, label in PARTS.items()
            if self.state.get(part)
        ]


class Look:
    """A person's look at a CI, to compare baselines with. Of other CIs he learns only what he may see."""

    def __init__(self, ci: ConfigurationItem, user: Any) -> None:
        self._hidden = () if user.has_perm("cmdb.see_all_cis") else ("depends_on",)
        self._now = self._seen(state_of(ci))

    def compare(self, baseline: Baseline) -> Comparison:
        """A baseline of the CI beside what the CI is now."""
        then = self._seen(baseline.state)
        return Comparison(then, differences(then, self._now))

    def _seen(self, state: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        return {part: held for part, held in state.items() if part not in self._hidden}


def differences(then: dict[str, dict[str, str]], now: dict[str, dict[str, str]]) -> list[Difference]:
    """What is not the same in two states, by part and name."""
    return [
        Difference(part, name, then.get(part, {}).get(name), now.get(part, {}).get(name))
        for part in PARTS
        for name in sorted(then.get(part, {}).keys() | now.get(part, {}).keys())
        if then.get(part, {}).get(name) != now.get(part, {}).get(name)
    ]
