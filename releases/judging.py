"""Verdicts: what the engine decides about a wave, stored with the numbers it saw, and what a breach leads to."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.utils.translation import gettext as _

from distribution import services as distribution
from distribution import steps
from failpoints import failpoint
from releases import conditions
from releases.gates import Incidents, incidents_since_installation, probe_verdicts
from releases.models import Rollout, RolloutEvent, Verdict, Wave
from releases.policy import RolloutPolicy
from releases.probes import name_of
from releases.services.breach import open_breach_incident
from releases.services.failures import numbers_of_waves, retry_by_itself
from releases.services.log import log
from releases.services.pausing import pause
from releases.services.rollbacks import has_impossible, order_rollback, order_wave_rollback
from releases.services.rollouts import standing_waves
from tickets.lifecycle import move


@dataclass(frozen=True, slots=True)
class Sight:
    """What one step of the engine has seen of the waves that are under way, by wave: the counts, where the policy asks
    for them the incidents, what the probes say; and whether that led to anything already.

    It serves whoever only looks. A verdict counts again.
    """

    has_acted: bool = False
    numbers: Mapping[int, conditions.WaveNumbers] = field(default_factory=dict)
    incidents: Mapping[int, Incidents] = field(default_factory=dict)
    said: Mapping[int, list[str]] = field(default_factory=dict)


def store_verdict(
    rollout: Rollout, wave: Wave, kind: str, outcome: str, numbers: conditions.WaveNumbers, now: datetime
) -> None:
    """Once for each wave, kind and round, with the position in the log up to which it can be computed again."""
    Verdict.objects.get_or_create(
        wave=wave,
        kind=kind,
        round=rollout.round,
        defaults={
            "outcome": outcome,
            "numbers": numbers.to_json(),
            "policy": rollout.policy,
            "event_position": distribution.log_position(),
            "at": now,
        },
    )
    failpoint("verdict.stored")


def judge_errors(rollout: Rollout, now: datetime) -> Sight:
    """The failure test of every wave that is under way or has passed, before anything else, in every state.

    All of them are judged before the engine reacts, so that waves that breach at the same time are treated alike.
    """
    policy = RolloutPolicy.from_json(rollout.policy)
    waves = [wave for wave in _started(rollout) if wave.state != Wave.State.FAILED]
    if not waves:
        return Sight()
    wrote = distribution.pass_deadlines([wave.batch_id for wave in waves], now=now)
    if wrote < steps.CHUNK:
        wrote += retry_by_itself(rollout, waves, policy, now)
    if wrote >= steps.CHUNK:
        return Sight(has_acted=True)  # perhaps there are more: the verdict is to see them all
    reasons: dict[Wave, str] = {}
    stops: list[str] = []
    unsure: list[str] = []
    plain = numbers_of_waves(waves)
    incidents = {wave.pk: incidents_since_installation(rollout, wave) for wave in waves} if policy.incident_gate else {}
    said = {wave.pk: probe_verdicts(wave, policy, round=rollout.round, until=now) for wave in waves}
    for wave in waves:
        numbers = replace(plain[wave.pk], failed_probes=said[wave.pk].count("fail"))
        if wave.pk in incidents:
            count = incidents[wave.pk].count
            numbers = replace(numbers, incidents=count, accepted_incidents=wave.accepted_incidents)
        if conditions.is_breached(numbers, policy):
            reasons[wave] = _fail(rollout, wave, numbers, policy, said[wave.pk], now)
        elif conditions.is_over_incidents(numbers, policy):
            stops.append(_incidents_text(wave, numbers, policy))
        elif wave.state == Wave.State.SOAKING:
            # Neither yes nor no: a person has to look.
            text = _(
                "Wave %(wave)d: the probe %(url)s says neither yes nor no. Look yourself, then resume or roll back."
            )
            urls = _that_say("inconclusive", policy, said[wave.pk])
            unsure += [text % {"wave": wave.number, "url": url} for url in urls]
    if reasons:
        failpoint("breach.told")
        _react(rollout, list(reasons), policy, " ".join(reasons.values()), now)
    elif (stops or unsure) and rollout.state == Rollout.State.RUNNING:
        kind = Rollout.PauseKind.INCIDENTS if stops else Rollout.PauseKind.PROBE
        pause(rollout, kind=kind, reason=" ".join(stops + unsure), actor=None, now=now)
        wrote += 1
    return Sight(bool(reasons) or wrote > 0, plain, incidents, said)


def _that_say(verdict: str, policy: RolloutPolicy, said: list[str]) -> list[str]:
    """The names of the probes with this verdict."""
    return [name_of(probe) for probe, one in zip(policy.probes, said, strict=True) if one == verdict]


def _incidents_text(wave: Wave, numbers: conditions.WaveNumbers, policy: RolloutPolicy) -> str:
    assert policy.incident_gate is not None
    values = {
        "wave": wave.number,
        "new": numbers.incidents - numbers.accepted_incidents,
        "most": policy.incident_gate["count"],
    }
    return _("Wave %(wave)d: %(new)d new incidents on its CIs since the installation; at most %(most)d may.") % values


def _started(rollout: Rollout) -> list[Wave]:
    """Waves that have begun; one that has passed can still get worse while some of its CIs are open."""
    return list(standing_waves(rollout).exclude(state=Wave.State.WAITING))


def _fail(
    rollout: Rollout,
    wave: Wave,
    numbers: conditions.WaveNumbers,
    policy: RolloutPolicy,
    said: list[str],
    now: datetime,
) -> str:
    """Stores the verdict and its evidence; returns the reason, for people."""
    store_verdict(rollout, wave, Verdict.Kind.ERROR, Verdict.Outcome.BREACHED, numbers, now)
    move(wave, "fail", actor=None, now=now, update={"finished_at": now}, touch=None)
    values = {"wave": wave.number, "failed": conditions.failures(numbers, policy), "size": wave.size}
    if numbers.failed_probes:
        urls = ", ".join(_that_say("fail", policy, said))
        reason = _("Wave %(wave)d: probes failed: %(urls)s.") % {"wave": wave.number, "urls": urls}
    elif not conditions.is_breached(replace(numbers, incidents=0), policy):
        reason = _incidents_text(wave, numbers, policy)
    elif policy.error_count is not None and values["failed"] > policy.error_count:
        reason = _("Wave %(wave)d: %(failed)d of %(size)d CIs failed; at most %(most)d may.")
        reason %= {**values, "most": policy.error_count}
    else:
        reason = _("Wave %(wave)d: %(failed)d of %(size)d CIs failed; at most %(threshold)d %% may.")
        reason %= {**values, "threshold": policy.error_threshold}
    log(rollout, RolloutEvent.Kind.WAVE_FAILED, now=now, text=reason, wave=wave)
    open_breach_incident(rollout, wave, numbers, now=now)
    return reason


def _react(rollout: Rollout, waves: list[Wave], policy: RolloutPolicy, reason: str, now: datetime) -> None:
    """What the policy wants when these waves have breached; on a way back or in an abort that is under way already."""
    if rollout.state not in {Rollout.State.RUNNING, Rollout.State.PAUSED}:
        return
    on_error = policy.on_error
    if on_error != "pause" and has_impossible(rollout):
        on_error = "pause"
        reason = _("%s The package has no way back on some CIs: nothing more is offered; decide what to do.") % reason
    if on_error == "rollback_all":
        order_rollback(rollout, actor=None, now=now, reason=reason)
        return
    # Of a paused rollout, it is the stronger reason, and asks for a second person. One breach keeps another's.
    if rollout.pause_kind == Rollout.PauseKind.BREACH:
        reason = f"{rollout.pause_reason} {reason}"
    pause(rollout, kind=Rollout.PauseKind.BREACH, reason=reason, actor=None, now=now)
    if on_error == "rollback_wave":
        for wave in waves:
            order_wave_rollback(wave, rollout=rollout, actor=None, now=now, reason=reason)
