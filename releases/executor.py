"""The rollout engine: one tick looks at every unsettled rollout and moves each one step, in its own transaction.

preparing: freezes the targets, in chunks, as one deployment each · running: opens waves, gives verdicts, goes on,
pauses, rolls back or completes · paused: verdicts only · rolling_back: brings CIs back, waits for them · aborting:
waits until nothing is under way · ended: tells the tickets, waits for stragglers, then settles.
A step may be repeated, interrupted or run by several at once: rows decide, not this process.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Case, Max, Min, When
from django.utils.translation import gettext as _

from changes.services import return_change_to_schedule
from distribution import services as distribution
from distribution.models import OPEN, Deployment
from incidents.models import Incident
from releases import conditions, going_back
from releases.models import Release, Rollout, RolloutEvent, Verdict, Wave
from releases.policy import RolloutPolicy, TargetSelector
from releases.services import cascade
from releases.services.breach import open_breach_incident
from releases.services.deploy import start_ordered
from releases.services.log import cis_text, log, wait_for
from releases.services.rollbacks import order_rollback, order_wave_rollback
from releases.services.rollouts import close_forward_batches, pause, standing_waves
from releases.services.testing import advance_test_runs
from releases.targets import target_cis
from tickets.exceptions import DomainError
from tickets.lifecycle import move
from tickets.services import content_hash, move_ticket

logger = logging.getLogger(__name__)
FREEZE_CHUNK = 5000
State = Rollout.State


def advance_rollouts(*, now: datetime, budget_seconds: float = 1.0) -> int:
    """One tick: test runs and every unsettled rollout. Stops after the budget; the next tick goes on.

    Returns how many objects moved. A rollout that somebody else holds just now is left to him.
    """
    deadline = time.monotonic() + budget_seconds
    moved = advance_test_runs(now=now) + start_ordered(now=now)
    # Those that only wait for stragglers come last, so that they cannot use up the time of the others.
    has_ended = Case(When(state__in=Rollout.ACTIVE, then=0), default=1)
    unsettled = Rollout.objects.filter(settled_at__isnull=True).order_by(has_ended, "updated_at", "pk")
    for key in list(unsettled.values_list("pk", flat=True)):
        while _advance_one(key, now=now):
            moved += 1
            if time.monotonic() >= deadline:
                return moved
        if time.monotonic() >= deadline:
            break
    return moved


def _advance_one(key: int, *, now: datetime) -> bool:
    """One step of one rollout; True when it did something, so that another step may follow at once."""
    try:
        with transaction.atomic():
            rollout = (
                Rollout.objects.select_for_update(skip_locked=True, of=("self",))
                .select_related("release")
                .filter(pk=key, settled_at__isnull=True)
                .first()
            )
            return advance(rollout, now=now) if rollout is not None else False
    except DomainError as error:
        # A refusal means that somebody moved a ticket of it in the same moment: the next tick sees the new state.
        logger.warning("rollout %s: %s", key, error)
        return False
    except (OperationalError, InterfaceError):
        raise  # the database itself: nobody else can go on, either
    except Exception:
        # One rollout that cannot go on must not hold up the others.
        logger.exception("rollout %s could not be advanced", key)
        return False


def advance(rollout: Rollout, *, now: datetime) -> bool:
    """One step, by state. True when it wrote something."""
    step: Callable[[Rollout, datetime], bool] = {
        State.PREPARING: _freeze,
        State.RUNNING: _run,
        State.PAUSED: _watch,
        State.ROLLING_BACK: going_back.roll_back,
        State.ABORTING: _abort,
    }.get(State(rollout.state), _settle)
    return step(rollout, now)


# --- preparing ---------------------------------------------------------------------------------
def _freeze(rollout: Rollout, now: datetime) -> bool:
    """Writes the next chunk of deployments; the waves fill up in the order of the CIs' ids."""
    waves = list(rollout.waves.filter(kind=Wave.Kind.FORWARD).select_related("batch").order_by("number"))
    have = distribution.counts([wave.batch_id for wave in waves])
    open_waves = [wave for wave in waves if have[wave.batch_id].total < wave.size or wave is waves[-1]]
    wave = open_waves[0]
    room = FREEZE_CHUNK if wave is waves[-1] else min(FREEZE_CHUNK, wave.size - have[wave.batch_id].total)
    targets = target_cis(rollout.release).filter(pk__gt=rollout.freeze_mark)
    cis = list(targets.values_list("pk", flat=True)[:room])
    if cis:
        package = list(rollout.release.items.values_list("product_id", "version_id", "position"))
        fresh = TargetSelector.from_json(rollout.targets).fresh
        distribution.queue_deployments(wave.batch, ci_ids=cis, package=package, fresh=dict(fresh), now=now)
        Rollout.objects.filter(pk=rollout.pk).update(freeze_mark=cis[-1], updated_at=now)
        return True
    frozen = list(
        Deployment.objects.filter(batch__in=[w.batch_id for w in waves], attempt=1)
        .order_by("ci_id")
        .values_list("ci", flat=True)
    )
    for wave in waves:
        if wave.size != have[wave.batch_id].total:
            Wave.objects.filter(pk=wave.pk).update(size=have[wave.batch_id].total)
    update = {"frozen_at": now, "target_count": len(frozen), "target_hash": content_hash({"cis": frozen})}
    move(rollout, "run", actor=None, now=now, update=update)
    log(rollout, RolloutEvent.Kind.FROZEN, now=now, text=cis_text(len(frozen)))
    return True


# --- running -----------------------------------------------------------------------------------
def _run(rollout: Rollout, now: datetime) -> bool:
    if going_back.settle_waves(rollout, now):
        return True
    if _judge_errors(rollout, now):
        return True
    wave = _current(rollout)
    if wave is None:
        return _complete(rollout, now)
    if wave.state == Wave.State.WAITING:
        return _open(rollout, wave, now)
    return _follow(rollout, wave, now)


def _current(rollout: Rollout) -> Wave | None:
    """The first wave that has not ended."""
    return standing_waves(rollout).exclude(state=Wave.State.PASSED).first()


def _planned_window(rollout: Rollout) -> tuple[datetime | None, datetime | None]:
    """The latest planned start and the earliest planned end of its RFCs."""
    found = rollout.release.changes.aggregate(start=Max("planned_start"), end=Min("planned_end"))
    return found["start"], found["end"]


def _open(rollout: Rollout, wave: Wave, now: datetime) -> bool:
    """Change management decides when: no wave before the planned start, none after the planned end."""
    start = _planned_window(rollout)[0]
    if start is not None and now < start and rollout.release.release_type != Release.Type.EMERGENCY:
        return wait_for(rollout, _("the planned start of its RFCs: %s") % start.isoformat(timespec="minutes"), now)
    if _pause_after_planned_end(rollout, now):
        return True
    move(wave, "open", actor=None, now=now, update={"started_at": now}, touch=None)
    distribution.open_batch(wave.batch, now=now)
    if RolloutPolicy.from_json(rollout.policy).supersede:
        distribution.supersede_older(wave.batch, now=now)
    log(rollout, RolloutEvent.Kind.WAVE_OPENED, now=now, text=cis_text(wave.size), wave=wave)
    wait_for(rollout, "", now)
    return True


def _numbers(wave: Wave) -> conditions.WaveNumbers:
    counts = distribution.counts([wave.batch_id])[wave.batch_id]
    return conditions.numbers_of(counts, size=wave.size, accepted=wave.accepted_failures)


def _store_verdict(
    rollout: Rollout, wave: Wave, kind: str, outcome: str, numbers: conditions.WaveNumbers, now: datetime
) -> None:
    Verdict.objects.get_or_create(
        wave=wave,
        kind=kind,
        round=rollout.round,
        defaults={
            "outcome": outcome,
            "numbers": numbers.to_json(),
            "policy": rollout.policy,
            "event_position": distribution.last_event_position([wave.batch_id]),
            "at": now,
        },
    )


def _judge_errors(rollout: Rollout, now: datetime) -> bool:
    """The error threshold of every wave that is under way or has passed, before anything else; also while paused."""
    policy = RolloutPolicy.from_json(rollout.policy)
    waves = [wave for wave in _started(rollout) if wave.state != Wave.State.FAILED]
    if not waves:
        return False
    overdue = distribution.pass_deadlines([wave.batch_id for wave in waves], now=now)
    for wave in waves:
        numbers = _numbers(wave)
        if wave.accepted_failures > conditions.not_confirmed(numbers):
            # Some of what was accepted caught up or is retried: what fails from now on is not accepted.
            wave.accepted_failures = conditions.not_confirmed(numbers)
            Wave.objects.filter(pk=wave.pk).update(accepted_failures=wave.accepted_failures)
            numbers = _numbers(wave)
        if not conditions.is_breached(numbers, policy):
            continue
        _store_verdict(rollout, wave, Verdict.Kind.ERROR, Verdict.Outcome.BREACHED, numbers, now)
        move(wave, "fail", actor=None, now=now, update={"finished_at": now}, touch=None)
        reason = _("Wave %(wave)d: %(failed)d of %(size)d CIs failed; at most %(threshold)d %% may.") % {
            "wave": wave.number,
            "failed": conditions.failures(numbers, policy),
            "size": wave.size,
            "threshold": policy.error_threshold,
        }
        log(rollout, RolloutEvent.Kind.WAVE_FAILED, now=now, text=reason, wave=wave)
        open_breach_incident(rollout, wave, numbers, now=now)
        _react(rollout, wave, policy, reason, now)
        return True
    return overdue > 0


def _started(rollout: Rollout) -> list[Wave]:
    """Waves that have begun; one that has passed can still get worse while some of its CIs are open."""
    return list(standing_waves(rollout).exclude(state=Wave.State.WAITING))


def _react(rollout: Rollout, wave: Wave, policy: RolloutPolicy, reason: str, now: datetime) -> None:
    if policy.on_error == "rollback_all":
        order_rollback(rollout, actor=None, now=now, reason=reason)
        return
    if rollout.state == State.RUNNING:
        pause(rollout, kind=Rollout.PauseKind.BREACH, reason=reason, actor=None, now=now)
    else:
        # Already paused by a person: the breach is the stronger reason, and asks for a second person.
        Rollout.objects.filter(pk=rollout.pk).update(
            pause_kind=Rollout.PauseKind.BREACH, pause_reason=reason, updated_at=now
        )
    if policy.on_error == "rollback_wave":
        order_wave_rollback(wave, rollout=rollout, actor=None, now=now, reason=reason)


def _follow(rollout: Rollout, wave: Wave, now: datetime) -> bool:
    """A wave under way: threshold met → soak → passed."""
    policy = RolloutPolicy.from_json(rollout.policy)
    if not wave.batch.is_open:
        distribution.open_batch(wave.batch, now=now)
    numbers = _numbers(wave)
    reached = conditions.is_success_reached(numbers, policy)
    if wave.state == Wave.State.DEPLOYING and reached:
        _store_verdict(rollout, wave, Verdict.Kind.SUCCESS, Verdict.Outcome.PASSED, numbers, now)
        move(wave, "soak", actor=None, now=now, update={"soak_started_at": now}, touch=None)
        log(rollout, RolloutEvent.Kind.WAVE_SOAKING, now=now, wave=wave, told=False)
        return True
    if wave.state == Wave.State.DEPLOYING:
        if conditions.is_stuck(numbers, policy):
            _store_verdict(rollout, wave, Verdict.Kind.SUCCESS, Verdict.Outcome.INSUFFICIENT, numbers, now)
            reason = _("Wave %(wave)d: only %(ok)d of %(size)d CIs are confirmed, and nothing is under way.") % {
                "wave": wave.number,
                "ok": numbers.confirmed,
                "size": wave.size,
            }
            pause(rollout, kind=Rollout.PauseKind.STRAGGLERS, reason=reason, actor=None, now=now)
            return True
        return _pause_after_planned_end(rollout, now) or wait_for(rollout, _whom_it_waits_for(rollout, wave), now)
    if not reached:
        move(wave, "reopen", actor=None, now=now, update={"soak_started_at": None}, touch=None)
        return True
    return _soak(rollout, wave, numbers, policy, now)


def _whom_it_waits_for(rollout: Rollout, wave: Wave) -> str:
    """Other rollouts that are under way on CIs of the wave; empty: none."""
    others = [(label, number) for label, number in distribution.waits_behind(wave.batch) if label != rollout.number]
    return ", ".join(_("%(rollout)s on %(n)d CIs") % {"rollout": label, "n": number} for label, number in others)[:200]


def _pause_after_planned_end(rollout: Rollout, now: datetime) -> bool:
    """A rollout that runs past the planned end lets in-flight CIs finish and pauses. Resuming accepts the overrun."""
    end = _planned_window(rollout)[1]
    if end is None or now < end or rollout.release.release_type == Release.Type.EMERGENCY:
        return False
    resumed = rollout.events.filter(kind=RolloutEvent.Kind.RESUMED, at__gte=end)
    # Who started it does not accept the overrun himself by a pause and a resume of his own.
    if resumed.exclude(actor=rollout.started_by_id).exists():
        return False
    reason = _("The planned end of its RFCs has passed: %s") % end.isoformat(timespec="minutes")
    pause(rollout, kind=Rollout.PauseKind.WINDOW, reason=reason, actor=None, now=now)
    return True


def _soak(rollout: Rollout, wave: Wave, numbers: conditions.WaveNumbers, policy: RolloutPolicy, now: datetime) -> bool:
    """The problem-free period after the threshold; a new incident on one of the wave's CIs begins it anew."""
    assert wave.soak_started_at is not None
    from_incident = _newest_incident(rollout, wave)
    if from_incident is not None and from_incident > wave.soak_started_at:
        Wave.objects.filter(pk=wave.pk).update(soak_started_at=from_incident)
        text = _("An incident on one of its CIs: the problem-free period begins anew.")
        log(rollout, RolloutEvent.Kind.WAVE_SOAKING, now=now, text=text, wave=wave)
        return True
    if not conditions.is_soak_over(wave.soak_started_at, now, policy):
        return False
    _store_verdict(rollout, wave, Verdict.Kind.PASS, Verdict.Outcome.PASSED, numbers, now)
    move(wave, "succeed", actor=None, now=now, update={"finished_at": now}, touch=None)
    log(rollout, RolloutEvent.Kind.WAVE_PASSED, now=now, wave=wave)
    if policy.manual_gate and _current(rollout) is not None:
        reason = _("Wave %d has passed; the next one waits for a person.") % wave.number
        pause(rollout, kind=Rollout.PauseKind.GATE, reason=reason, actor=None, now=now)
    return True


def _newest_incident(rollout: Rollout, wave: Wave) -> datetime | None:
    """When the newest incident on a CI of the wave was reported since it began; cancelled ones do not count."""
    found: datetime | None = (
        Incident.objects.filter(ci__in=Deployment.objects.filter(batch=wave.batch_id).values("ci"))
        .filter(created_at__gte=wave.started_at)
        .exclude(state=Incident.State.CANCELLED)
        .aggregate(at=Max("created_at"))["at"]
    )
    return found


def _complete(rollout: Rollout, now: datetime) -> bool:
    batches = [wave.batch_id for wave in _forward_waves(rollout)]
    under_way = sum(counts.open - counts.overdue for counts in distribution.counts(batches).values())
    if under_way:
        return wait_for(rollout, _("%d CIs are still under way") % under_way, now)
    if going_back.open_waves(rollout).exists():
        return wait_for(rollout, _("CIs on their way back"), now)
    move(rollout, "complete", actor=None, now=now, update={"finished_at": now, "waits_for": ""})
    move_ticket(rollout.release, "complete", actor=None, now=now, text=_("%s completed.") % rollout.number)
    log(rollout, RolloutEvent.Kind.COMPLETED, now=now, told=False)
    cascade.begin(rollout, cascade.COMPLETED, now=now)
    return True


def _forward_waves(rollout: Rollout) -> list[Wave]:
    return list(rollout.waves.filter(kind=Wave.Kind.FORWARD).select_related("batch"))


# --- paused ------------------------------------------------------------------------------------
def _watch(rollout: Rollout, now: datetime) -> bool:
    """Verdicts are made while paused, too: what was under way goes on."""
    return going_back.settle_waves(rollout, now) or _judge_errors(rollout, now)


# --- aborting ----------------------------------------------------------------------------------
def _abort(rollout: Rollout, now: datetime) -> bool:
    batches = close_forward_batches(rollout)
    if distribution.pass_deadlines(batches, now=now):
        return True
    counts = distribution.counts(batches)
    waiting = sum(c.open - c.overdue for c in counts.values())
    if waiting:
        return wait_for(rollout, _("%d CIs are still under way") % waiting, now)
    move(rollout, "finish_abort", actor=None, now=now, update={"finished_at": now, "waits_for": ""})
    # Closed by the device and overdue for its proof: it may have been installed.
    installed = sum(c.succeeded + c.confirming for c in counts.values())
    text = _("%(rollout)s aborted; installed on %(n)d CIs.") % {"rollout": rollout.number, "n": installed}
    move_ticket(rollout.release, "return_to_ready", actor=None, now=now, text=text)
    if not installed:
        _return_changes(rollout, text, now)
    log(rollout, RolloutEvent.Kind.ABORTED, now=now, text=text, told=False)
    return True


def _return_changes(rollout: Rollout, text: str, now: datetime) -> None:
    for change in rollout.release.changes.order_by("pk"):
        return_change_to_schedule(change, now=now, key=f"rollout:{rollout.pk}:aborted", text=text)


# --- ended -------------------------------------------------------------------------------------
def _settle(rollout: Rollout, now: datetime) -> bool:
    """After the end: the cascade, rollbacks of parts, CIs that catch up; then the tick need not look any more."""
    if rollout.cascade:
        cascade.advance(rollout, now=now)
        return True
    if going_back.settle_waves(rollout, now):
        return True
    if going_back.open_waves(rollout).exists():
        return wait_for(rollout, _("CIs on their way back"), now)
    kind = _CASCADES.get(State(rollout.state))
    if kind and cascade.position_of(rollout) > rollout.cascade_position:
        # Somebody caught up, or an agent reported once more: tell whom it concerns.
        cascade.begin(rollout, kind, now=now)
        return True
    batches = list(rollout.waves.values_list("batch", flat=True))
    if distribution.quit_cancellations(batches, now=now):
        return True
    if Deployment.objects.filter(batch__in=batches, state__in=OPEN).exists():
        return wait_for(rollout, _("CIs that may still catch up"), now)
    Rollout.objects.filter(pk=rollout.pk).update(settled_at=now, waits_for="", updated_at=now)
    return False


_CASCADES = {
    State.COMPLETED: cascade.COMPLETED,
    State.ROLLED_BACK: cascade.ROLLED_BACK,
    State.ROLLED_BACK_WITH_EXCEPTIONS: cascade.ROLLED_BACK,
}
