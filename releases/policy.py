"""The plan of a rollout: how many waves, when one has passed, what happens when too many fail.

A policy comes as JSON from a form or the API, is checked here once, and is copied to the rollout when it starts.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from django.utils.translation import gettext as _

from tickets.exceptions import InvalidInput

STRATEGIES = ("big_bang", "phased")
ON_ERROR = ("pause", "rollback_wave", "rollback_all")
OVERDUE = ("failure", "skipped")
MODES = ("forced", "soft")
REST: dict[str, Any] = {"rest": True}


@dataclass(frozen=True, slots=True)
class RolloutPolicy:
    """A checked policy. Thresholds in percent of a wave's CIs, durations in seconds.

    `waves` is a list of `{"count": n}`, `{"percent": p}` (of all targets) and, last, `{"rest": true}`.
    Deadlines: until an offered deployment is fetched, until progress is reported again, until it is confirmed, until a
    cancellation that its device does not answer is closed without it. A soft rollout leaves the moment to the devices
    that know that, and becomes forced `force_after` seconds after a wave opened. `supersede`: on its CIs, what an older
    rollout has not begun to install makes way; otherwise the new one waits.
    """

    strategy: str = "phased"
    waves: tuple[Mapping[str, Any], ...] = field(default=({"count": 1}, {"percent": 25}, REST))
    success_threshold: int = 100
    error_threshold: int = 20
    on_error: str = "pause"
    soak_seconds: int = 3600
    max_in_flight: int | None = None
    max_downloads: int | None = None
    offer_deadline: int = 7 * 86400
    progress_deadline: int = 3600
    confirm_deadline: int = 3600
    overdue_counts_as: str = "failure"
    manual_gate: bool = False
    mode: str = "forced"
    force_after: int | None = None
    cancel_deadline: int = 86400
    supersede: bool = False

    @classmethod
    def from_json(cls, data: Any) -> "RolloutPolicy":
        """Reads and checks a policy; what is not named has its default. Refuses with `InvalidInput`."""
        if not isinstance(data, Mapping):
            raise _wrong(_("The policy must be an object."))
        known = {f.name for f in fields(cls)}
        unknown = sorted(map(str, set(data) - known))
        if unknown:
            raise _wrong(_("Unknown: %(names)s.") % {"names": ", ".join(unknown)})
        values = dict(data)
        _one_of(values, "strategy", STRATEGIES)
        _one_of(values, "on_error", ON_ERROR)
        _one_of(values, "overdue_counts_as", OVERDUE)
        _one_of(values, "mode", MODES)
        _whole(values, "success_threshold", 1, 100)
        _whole(values, "error_threshold", 0, 100)
        for name in ("soak_seconds", "offer_deadline", "progress_deadline", "confirm_deadline", "cancel_deadline"):
            _whole(values, name, 1, 366 * 86400)
        if values.get("force_after") is not None:
            _whole(values, "force_after", 1, 366 * 86400)
            if values.get("mode") != "soft":
                raise _wrong(_("force_after belongs to the mode “soft”."))
        for name in ("max_in_flight", "max_downloads"):
            if values.get(name) is not None:
                _whole(values, name, 1, 10_000_000)
        for name in ("manual_gate", "supersede"):
            if not isinstance(values.get(name, False), bool):
                raise _wrong(_("%s is true or false.") % name)
        if values.get("strategy") == "big_bang":
            if values.get("waves", [REST]) not in ([REST], (REST,)):
                raise _wrong(_("A big bang has exactly one wave with all targets: leave the waves out."))
            values["waves"] = (REST,)
        elif "waves" in values:
            values["waves"] = _waves(values["waves"])
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The policy as plain JSON, with every default written out; what an approval is bound to."""
        return {**asdict(self), "waves": [dict(wave) for wave in self.waves]}

    def wave_sizes(self, targets: int) -> list[int]:
        """How many CIs each wave gets for that many targets; waves that would be empty are left out."""
        sizes: list[int] = []
        left = targets
        for wave in self.waves:
            if "rest" in wave:
                wanted = left
            elif "count" in wave:
                wanted = int(wave["count"])
            else:
                wanted = math.ceil(targets * float(wave["percent"]) / 100)
            size = min(wanted, left)
            if size:
                sizes.append(size)
            left -= size
        return sizes


def _waves(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list | tuple) or not value:
        raise _wrong(_("A phased rollout needs a list of waves, for example 1 CI, 25 %, the rest."))
    waves: list[Mapping[str, Any]] = []
    percent = 0.0
    for position, wave in enumerate(value, start=1):
        if not isinstance(wave, Mapping) or len(wave) != 1:
            raise _wrong(_("Wave %(n)d must name one of count, percent, rest.") % {"n": position})
        ((kind, amount),) = wave.items()
        is_number = isinstance(amount, int | float) and not isinstance(amount, bool) and math.isfinite(amount)
        if kind == "count" and is_number and int(amount) == amount and amount >= 1:
            waves.append({"count": int(amount)})
        elif kind == "percent" and is_number and 0 < amount <= 100:
            percent += amount
            waves.append({"percent": amount})
        elif kind == "rest" and amount is True and position == len(value):
            waves.append(REST)
        else:
            raise _wrong(
                _(
                    "Wave %(n)d: a count is a whole number from 1, a percentage lies between 0 and 100, "
                    "the rest comes last."
                )
                % {"n": position}
            )
    if percent > 100:
        raise _wrong(_("The waves' percentages add up to more than 100."))
    if "rest" not in waves[-1]:
        raise _wrong(_("The last wave must be the rest, so that no target is forgotten."))
    return tuple(waves)


def _wrong(text: str) -> InvalidInput:
    return InvalidInput(text, field="policy", code="policy_invalid")


def _one_of(values: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> None:
    if name in values and values[name] not in allowed:
        raise _wrong(_("%(name)s is one of %(allowed)s.") % {"name": name, "allowed": ", ".join(allowed)})


def _whole(values: Mapping[str, Any], name: str, least: int, most: int) -> None:
    value = values.get(name, least)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(
            _("%(name)s is a whole number from %(least)d to %(most)d.") % {"name": name, "least": least, "most": most}
        )
