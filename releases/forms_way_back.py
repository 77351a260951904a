"""The part of a plan's form that is about the way back: how each version is left again, and by which rules."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from distribution.models import WayBack
from releases.policy import RolloutPolicy
from tickets.forms import PortalForm

_PREFIX = "rollback_"
_PER_ITEM = "way_back_"
# What a plan that nobody has made yet proposes.
_PROPOSED_THRESHOLD = 20


def _own(label: Any, least: int = 1, help_text: Any = "") -> forms.IntegerField:
    return forms.IntegerField(label=label, min_value=least, required=False, help_text=help_text)


class WayBackForm(PortalForm):
    """Fields `rollback_…` become the policy's `rollback`; one field for each version of the package."""

    rollback_error_threshold = _own(
        gettext_lazy("A rollback stops above % of failures"), 0, gettext_lazy("and calls a person; empty: never")
    )
    rollback_max_in_flight = _own(gettext_lazy("CIs on their way back at once"), 1, gettext_lazy("Empty: as forward"))
    rollback_max_downloads = _own(
        gettext_lazy("Downloads at once on the way back"), 1, gettext_lazy("Empty: as forward")
    )
    rollback_offer_deadline = _own(gettext_lazy("Seconds to fetch the way back"), 1, gettext_lazy("Empty: as forward"))
    rollback_progress_deadline = _own(
        gettext_lazy("Seconds between reports on the way back"), 1, gettext_lazy("Empty: as forward")
    )
    rollback_confirm_deadline = _own(
        gettext_lazy("Seconds to confirm the version of before"), 1, gettext_lazy("Empty: as forward")
    )
    rollback_total_deadline = _own(gettext_lazy("Seconds in all on the way back"), 1, gettext_lazy("Empty: as forward"))

    or_reinstall = forms.BooleanField(
        label=gettext_lazy("CIs that cannot go that way are reinstalled"),
        required=False,
        help_text=gettext_lazy(
            "Script and snapshot need an agent that says it can; otherwise those CIs hold the start up"
        ),
    )

    def prepare(self) -> None:
        policy = RolloutPolicy.from_json(self.instance.policy)
        for name, value in policy.rollback.items():
            self.initial.setdefault(f"{_PREFIX}{name}", value)
        if policy == RolloutPolicy():
            self.initial.setdefault(f"{_PREFIX}error_threshold", _PROPOSED_THRESHOLD)
        for item in self.instance.items.select_related("version__product"):
            self.fields[f"{_PER_ITEM}{item.product.slug}"] = forms.ChoiceField(
                label=_("Way back from %s") % item.version, choices=WayBack.choices, initial=item.way_back
            )

    @property
    def way_back_fields(self) -> list[Any]:
        """The bound fields of the package's versions."""
        return [self[name] for name in self.fields if name.startswith(_PER_ITEM)]

    def rollback_of(self, data: dict[str, Any]) -> dict[str, int]:
        """The policy's `rollback`; what the form does not show stays as it was."""
        kept = dict(RolloutPolicy.from_json(self.instance.policy).rollback)
        for field, value in data.items():
            if field.startswith(_PREFIX):
                kept[field.removeprefix(_PREFIX)] = value
        return {name: value for name, value in kept.items() if value is not None}

    def ways_back_of(self, data: dict[str, Any]) -> dict[str, str]:
        """How the version of each product (short name) is left again."""
        return {name.removeprefix(_PER_ITEM): way for name, way in data.items() if name.startswith(_PER_ITEM)}
