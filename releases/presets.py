"""Policies with a name, to begin a plan from: `{"preset": "canary"}`, with whatever is to differ beside it."""

from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, slots=True)
class Preset:
    """A policy to begin from, and when one takes it."""

    name: str
    label: str | Promise
    text: str | Promise
    policy: dict[str, Any]


REST = {"rest": True}
PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "canary",
            _("Canary"),
            _("One CI, then a tenth, then the rest; the first failure takes its wave back."),
            {
                "strategy": "phased",
                "waves": [{"count": 1}, {"percent": 10}, REST],
                "success_threshold": 100,
                "error_threshold": 0,
                "on_error": "rollback_wave",
                "soak_seconds": 3600,
            },
        ),
        Preset(
            "rings",
            _("Rings"),
            _("A hundredth, a tenth, half, the rest; a day without a problem between them, and a day of early life."),
            {
                "strategy": "phased",
                "waves": [{"percent": 1}, {"percent": 10}, {"percent": 50}, REST],
                "success_threshold": 95,
                "error_threshold": 5,
                "on_error": "pause",
                "soak_seconds": 86400,
                "incident_gate": {"count": 2, "then": "pause"},
                "early_life_seconds": 86400,
            },
        ),
        Preset(
            "big_bang",
            _("Big bang with a cap"),
            _("Everybody in one wave, fifty at a time; it pauses when too many of the first twenty fail."),
            {
                "strategy": "big_bang",
                "success_threshold": 95,
                "error_threshold": 5,
                "min_sample": 20,
                "on_error": "pause",
                "soak_seconds": 3600,
                "max_in_flight": 50,
                "max_downloads": 20,
            },
        ),
        Preset(
            "emergency",
            _("Emergency"),
            _("One CI, five minutes later everybody; silent CIs do not hold it up, older rollouts make way."),
            {
                "strategy": "phased",
                "waves": [{"count": 1}, REST],
                "success_threshold": 90,
                "error_threshold": 10,
                "on_error": "pause",
                "soak_seconds": 300,
                "offer_deadline": 3600,
                "progress_deadline": 1800,
                "confirm_deadline": 1800,
                "overdue_counts_as": "skipped",
                "supersede": True,
            },
        ),
    )
}
