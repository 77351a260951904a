"""The plan of a rollout: how many waves, when one has passed, what happens when too many fail.

A policy comes as JSON from a form or the API, is checked here once, and is copied to the rollout when it starts.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from django.utils.translation import gettext as _

from releases.presets import PRESETS
from releases.probes import probes_from_json
from releases.waves import REST, policy_invalid, waves_from_json

STRATEGIES = ("big_bang", "phased")
ON_ERROR = ("pause", "rollback_wave", "rollback_all")
OVERDUE = ("failure", "skipped")
MODES = ("forced", "soft")
# Always written out: the approvals of plans from before other fields came are bound to exactly these.
FIRST_FIELDS = frozenset(
    {
        "strategy", "waves", "success_threshold", "error_threshold", "on_error", "soak_seconds", "max_in_flight",
        "max_downloads", "offer_deadline", "progress_deadline", "confirm_deadline", "overdue_counts_as", "manual_gate",
        "mode", "force_after", "cancel_deadline", "supersede",
    }
)  # fmt: skip
_SECONDS = 1, 366 * 86400
# Error classes that are tried again by themselves: the engine asks for them in each step.
MOST_CODES = 50
# What a rollback may have of its own, from and to.
ROLLBACK = {
    "error_threshold": (0, 100),
    "offer_deadline": _SECONDS,
    "progress_deadline": _SECONDS,
    "confirm_deadline": _SECONDS,
    "total_deadline": _SECONDS,
    "max_in_flight": (1, 10_000_000),
    "max_downloads": (1, 10_000_000),
}


@dataclass(frozen=True, slots=True)
class RolloutPolicy:
    """A checked policy. Thresholds in percent of a wave's CIs, durations in seconds.

    `waves` says who comes when: see `releases.waves`.
    Deadlines: until an offered deployment is fetched, until progress is reported again, until it is confirmed, until a
    cancellation that its device does not answer is closed without it. A soft rollout leaves the moment to the devices
    that know that, and becomes forced `force_after` seconds after a wave opened. `supersede`: on its CIs, what an older
    rollout has not begun to install makes way; otherwise the new one waits.
    A wave breaches when more than `error_threshold` percent of its CIs or more than `error_count` of them have failed,
    and at least `min_sample` have an outcome; what a wave that has come to rest shows is sample enough.
    `total_deadline`: from the opening of a wave until its CIs have to be done, whatever they wait for. `rollback`: what
    is different on the way back (`ROLLBACK`); without an `error_threshold` of its own a rollback never stops.
    `incident_gate` is `{"count": n, "then": "pause" | "breach"}`: more than n incidents on the CIs of a wave since the
    installation stop it. For `early_life_seconds` after the last wave has passed, the rollout is watched and not yet
    completed. `probes` (`releases.probes`) are asked while a wave soaks. `or_reinstall`: CIs whose agent cannot go the
    way back that the package names (`script`, `snapshot`) are reinstalled instead.
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
    error_count: int | None = None
    min_sample: int = 1
    total_deadline: int | None = None
    rollback: Mapping[str, int] = field(default_factory=dict)
    incident_gate: Mapping[str, Any] | None = None
    early_life_seconds: int = 0
    probes: tuple[Mapping[str, Any], ...] = ()
    retry: Mapping[str, Any] | None = None
    or_reinstall: bool = False

    @classmethod
    def from_json(cls, data: Any) -> "RolloutPolicy":
        """Reads and checks a policy; what is not named has its default, or what its `preset` says.

        Refuses with `InvalidInput`.
        """
        if not isinstance(data, Mapping):
            raise policy_invalid(_("The policy must be an object."))
        data = _with_preset(data)
        known = {f.name for f in fields(cls)}
        unknown = sorted(map(str, set(data) - known))
        if unknown:
            raise policy_invalid(_("Unknown: %(names)s.") % {"names": ", ".join(unknown)})
        values = dict(data)
        _one_of(values, "strategy", STRATEGIES)
        _one_of(values, "on_error", ON_ERROR)
        _one_of(values, "overdue_counts_as", OVERDUE)
        _one_of(values, "mode", MODES)
        _whole(values, "success_threshold", 1, 100)
        _whole(values, "error_threshold", 0, 100)
        _whole(values, "min_sample", 1, 10_000_000)
        _whole(values, "early_life_seconds", 0, 366 * 86400)
        if "probes" in values:
            values["probes"] = probes_from_json(values["probes"])
        if values.get("incident_gate") is not None:
            values["incident_gate"] = _incident_gate(values["incident_gate"])
        if values.get("error_count") is not None:
            _whole(values, "error_count", 0, 10_000_000)
        for name in ("soak_seconds", "offer_deadline", "progress_deadline", "confirm_deadline", "cancel_deadline"):
            _whole(values, name, 1, 366 * 86400)
        if values.get("total_deadline") is not None:
            _whole(values, "total_deadline", 1, 366 * 86400)
        values["rollback"] = _rollback(values.get("rollback", {}))
        if values.get("force_after") is not None:
            _whole(values, "force_after", 1, 366 * 86400)
            if values.get("mode") != "soft":
                raise policy_invalid(_("force_after belongs to the mode “soft”."))
        for name in ("max_in_flight", "max_downloads"):
            if values.get(name) is not None:
                _whole(values, name, 1, 10_000_000)
        for name in ("manual_gate", "supersede", "or_reinstall"):
            if not isinstance(values.get(name, False), bool):
                raise policy_invalid(_("%s is true or false.") % name)
        if values.get("retry") is not None:
            values["retry"] = _retry(values["retry"])
        if values.get("strategy") == "big_bang":
            if values.get("waves", [REST]) not in ([REST], (REST,)):
                raise policy_invalid(_("A big bang has exactly one wave with all targets: leave the waves out."))
            values["waves"] = (REST,)
        elif "waves" in values:
            values["waves"] = waves_from_json(values["waves"])
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The policy as plain JSON; what an approval is bound to.

        A field that came after the first ones is left out at its default, so that older approvals stay valid.
        """
        written = {
            **asdict(self),
            "waves": [dict(wave) for wave in self.waves],
            "probes": [dict(probe) for probe in self.probes],
        }
        plain = RolloutPolicy()
        later = {name for name in written if getattr(self, name) != getattr(plain, name)}
        return {name: value for name, value in written.items() if name in FIRST_FIELDS | later}

    def of_rollback(self) -> "RolloutPolicy":
        """The policy of the way back. What a person or a breach has decided ignores waves."""
        own: dict[str, Any] = {"error_threshold": 100, "error_count": None, "min_sample": 1, **self.rollback}
        return replace(self, **own)


def _rollback(value: Any) -> Mapping[str, int]:
    if not isinstance(value, Mapping) or set(value) - set(ROLLBACK):
        raise policy_invalid(_("rollback is an object; it may have: %s.") % ", ".join(ROLLBACK))
    for name in value:
        _whole(value, name, *ROLLBACK[name])
    return dict(value)


def _with_preset(data: Mapping[str, Any]) -> Mapping[str, Any]:
    if "preset" not in data:
        return data
    _one_of(data, "preset", tuple(PRESETS))
    rest = {name: value for name, value in data.items() if name != "preset"}
    base = dict(PRESETS[data["preset"]].policy)
    if rest.get("strategy", base["strategy"]) == "big_bang":
        base.pop("waves", None)
    return {**base, **rest}


def _incident_gate(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or set(value) - {"count", "then"} or "count" not in value:
        raise policy_invalid(_("incident_gate is an object with count and then (pause or breach)."))
    gate = {"then": "pause", **value}
    _whole(gate, "count", 0, 1_000_000)
    _one_of(gate, "then", ("pause", "breach"))
    return gate


def _retry(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or set(value) != {"codes", "attempts", "backoff_seconds"}:
        raise policy_invalid(_("retry is an object with codes, attempts and backoff_seconds."))
    codes = value["codes"]
    is_listed = isinstance(codes, list | tuple) and all(isinstance(code, str) and code.strip() for code in codes)
    if not is_listed or not 0 < len(codes) <= MOST_CODES:
        text = _("retry: codes is a list of 1 to %(most)d error codes, as agents report them.")
        raise policy_invalid(text % {"most": MOST_CODES})
    _whole(value, "attempts", 2, 10)
    _whole(value, "backoff_seconds", 1, 86400)
    return {**value, "codes": sorted({code.strip() for code in codes})}


def _one_of(values: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> None:
    if name in values and values[name] not in allowed:
        raise policy_invalid(_("%(name)s is one of %(allowed)s.") % {"name": name, "allowed": ", ".join(allowed)})


def _whole(values: Mapping[str, Any], name: str, least: int, most: int) -> None:
    value = values.get(name, least)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise policy_invalid(
            _("%(name)s is a whole number from %(least)d to %(most)d.") % {"name": name, "least": least, "most": most}
        )
