"""The engine's steps of a rollback: queue the way back of each CI, wait, stop where it fails on too many of them, list
those that are not back, end it.
"""

from datetime import datetime

from django.db.models import Exists, OuterRef, QuerySet
from django.utils.translation import gettext as _

from distribution import services as distribution
from distribution.models import OPEN, Batch, Deployment, DeploymentState
from failpoints import failpoint
from releases.conditions import failures, is_breached
from releases.judging import judge_errors, store_verdict
from releases.models import Release, Rollout, RolloutEvent, RolloutException, Verdict, Wave
from releases.policy import RolloutPolicy
from releases.services import cascade
from releases.services.breach import call_for_rollback
from releases.services.failures import numbers_of_wave
from releases.services.log import cis_text, log, wait_for
from releases.services.rollbacks import overtaking, stopped_waves
from tickets.lifecycle import move
from tickets.models import EntryKind
from tickets.services import move_ticket, record

_NOT_BACK = (RolloutException.Kind.NO_WAY_BACK, RolloutException.Kind.ROLLBACK_FAILED)


def open_waves(rollout: Rollout) -> QuerySet[Wave]:
    """Rollbacks that are under way or wait for a person, the oldest first."""
    states = [Wave.State.DEPLOYING, Wave.State.SOAKING, Wave.State.FAILED]
    waves = rollout.waves.filter(kind=Wave.Kind.ROLLBACK, state__in=states)
    return waves.select_related("batch", "undoes__batch").order_by("number")


def waits_for(rollout: Rollout) -> str:
    """Whom rollbacks of it wait for that cannot go on by themselves; empty: nobody."""
    is_stopped = stopped_waves(rollout).exists()
    return _("a person: the rollback failed on too many CIs") if is_stopped else ""


def roll_back(rollout: Rollout, now: datetime) -> bool:
    """Queues the way back for each CI as soon as its forward deployment has ended; ends when all have ended."""
    if judge_errors(rollout, now).has_acted:
        return True
    *parts, wave = open_waves(rollout)  # the last one is that of the whole rollback
    for part in parts:
        if _settle_wave(rollout, part, now):
            return True
    forward = list(rollout.waves.filter(kind=Wave.Kind.FORWARD))
    batches = rollout.forward_batch_ids()
    if _advance_wave(rollout, wave, batches, now):
        return True
    counts = distribution.counts([*batches, wave.batch_id, *(part.batch_id for part in parts)])
    waiting = sum(c.open - c.overdue for c in counts.values())
    if waiting or Wave.State.FAILED in {wave.state, *(part.state for part in parts)}:
        return wait_for(rollout, waits_for(rollout) or _("%d CIs are still under way") % waiting, now)
    _end_wave(rollout, wave, batches, now)
    for taken_back in forward:
        if taken_back.state not in {Wave.State.WAITING, Wave.State.ROLLED_BACK}:
            move(taken_back, "roll_back", actor=None, now=now, touch=None)
    is_clean = not rollout.exceptions.filter(kind__in=_NOT_BACK).exists()
    verb = "finish_rollback" if is_clean else "finish_rollback_with_exceptions"
    move(rollout, verb, actor=None, now=now, update={"finished_at": now, "waits_for": ""})
    _move_release(rollout, "roll_back" if is_clean else "roll_back_partially", now)
    text = cis_text(counts[wave.batch_id].total)
    log(rollout, RolloutEvent.Kind.ROLLED_BACK, now=now, text=text, told=False)
    cascade.begin(rollout, cascade.ROLLED_BACK, now=now)
    return True


def _move_release(rollout: Rollout, verb: str, now: datetime) -> None:
    """The release follows unless it went on without this rollout (closed, edited after an abort): then a note."""
    release = rollout.release
    text = _("%s rolled back.") % rollout.number
    if release.state in {Release.State.DEPLOYING, Release.State.COMPLETED}:
        move_ticket(release, verb, actor=None, now=now, text=text)
    else:
        record(release, kind=EntryKind.SYSTEM, actor=None, now=now, text=text)


def settle_waves(rollout: Rollout, now: datetime) -> bool:
    """Rollbacks of one CI or one wave, in a rollout whose state stays."""
    moved = [_settle_wave(rollout, wave, now) for wave in open_waves(rollout)]
    return any(moved)


def _settle_wave(rollout: Rollout, wave: Wave, now: datetime) -> bool:
    forward = [wave.undoes.batch_id] if wave.undoes is not None else []
    if _advance_wave(rollout, wave, forward, now):
        return True
    if wave.state == Wave.State.FAILED:
        return False
    counts = distribution.counts([*forward, wave.batch_id])
    if any(c.open > c.overdue for c in counts.values()):
        return False
    _end_wave(rollout, wave, forward, now)
    if wave.undoes is not None and wave.undoes.state != Wave.State.ROLLED_BACK:
        move(wave.undoes, "roll_back", actor=None, now=now, touch=None)
    log(rollout, RolloutEvent.Kind.ROLLED_BACK, now=now, text=cis_text(counts[wave.batch_id].total))
    if rollout.state == Rollout.State.COMPLETED:
        cascade.begin(rollout, cascade.PARTIAL, now=now)
    return True


def _advance_wave(rollout: Rollout, wave: Wave, forward: list[int], now: datetime) -> bool:
    """Queues what can go back by now, marks what is overdue, stops at too many failures; True when that wrote."""
    wrote = 0
    if forward:
        wrote = distribution.queue_rollback(
            wave.batch,
            forward_batch_ids=rollout.forward_batch_ids(),
            only_of=wave.undoes.batch_id if wave.undoes is not None else None,
            ci_ids=_not_yet_back(rollout, wave, forward),
            now=now,
        )
    if wrote and wave.state == Wave.State.DEPLOYING and not wave.batch.is_open:
        distribution.cancel_open([wave.batch_id], now=now, reason=_("The rollback was ended by a person."))
    failpoint("rollback.queued")
    wrote += distribution.pass_deadlines([*forward, wave.batch_id], now=now)
    size = distribution.counts([wave.batch_id])[wave.batch_id].total
    if wave.size != size:
        Wave.objects.filter(pk=wave.pk).update(size=size)
        wave.size = size
    return _stop(rollout, wave, now) or wrote > 0


def _stop(rollout: Rollout, wave: Wave, now: datetime) -> bool:
    """Stops a rollback that fails on more CIs than its policy bears, while others still wait, and calls a person."""
    policy = RolloutPolicy.from_json(rollout.policy).of_rollback()
    numbers = numbers_of_wave(wave)
    if wave.state != Wave.State.DEPLOYING or not wave.batch.is_open or not is_breached(numbers, policy):
        return False
    waiting = Deployment.objects.filter(batch=wave.batch_id, state=DeploymentState.QUEUED, overdue_at__isnull=True)
    if not waiting.exists():
        return False  # nothing is left to stop: it ends, and lists them
    store_verdict(rollout, wave, Verdict.Kind.ERROR, Verdict.Outcome.BREACHED, numbers, now)
    distribution.close_batch(wave.batch)
    move(wave, "fail", actor=None, now=now, update={"finished_at": now}, touch=None)
    text = _("%(failed)d of %(size)d CIs did not come back; at most %(threshold)d %% may fail.") % {
        "failed": failures(numbers, policy),
        "size": wave.size,
        "threshold": policy.error_threshold,
    }
    log(rollout, RolloutEvent.Kind.ROLLBACK_STOPPED, now=now, text=text, wave=wave)
    call_for_rollback(rollout, wave, numbers, policy.error_threshold, now=now)
    return True


def _not_yet_back(rollout: Rollout, wave: Wave, forward: list[int]) -> list[int] | None:
    """The CIs that this wave takes back; None: all of them.

    Others are back already or on their way by a rollback of a part, or were offered a later version since.
    """
    back = Deployment.objects.filter(batch__wave__rollout=rollout, batch__purpose=Batch.Purpose.ROLLBACK)
    settled = [*OPEN, DeploymentState.SUCCEEDED, DeploymentState.SKIPPED]
    others = set(back.exclude(batch=wave.batch_id).filter(state__in=settled).values_list("ci", flat=True))
    if Rollout.objects.filter(pk__gt=rollout.pk).exists():
        others |= set(overtaking(rollout).values_list("ci", flat=True))
    if not others:
        return None
    cis = Deployment.objects.filter(batch__in=forward).values_list("ci", flat=True)
    return sorted(set(cis) - others)


def _end_wave(rollout: Rollout, wave: Wave, forward: list[int], now: datetime) -> None:
    _list_exceptions(rollout, wave, forward, now)
    failpoint("rollback.listed")
    move(wave, "succeed", actor=None, now=now, update={"finished_at": now}, touch=None)
    if not Deployment.objects.filter(batch=wave.batch_id, state__in=OPEN).exists():
        # Otherwise it stays open for those that may still come back.
        distribution.close_batch(wave.batch)


def _list_exceptions(rollout: Rollout, wave: Wave, forward: list[int], now: datetime) -> None:
    """Lists the CIs that are not back: their rollback failed or is overdue, or they had no way back."""
    back = Deployment.objects.filter(batch__wave__rollout=rollout, batch__purpose=Batch.Purpose.ROLLBACK)
    done = back.filter(state__in=[DeploymentState.SUCCEEDED, DeploymentState.SKIPPED])
    # Not as a list of ids, which would be looked through once for each CI of a large fleet.
    is_done, is_on_its_way = Exists(done.filter(ci=OuterRef("ci"))), Exists(back.filter(ci=OuterRef("ci")))
    silent = _("It did not answer.")
    rows: dict[int, tuple[str, str]] = {}
    for d in Deployment.objects.filter(~is_done, batch=wave.batch_id).order_by("attempt"):
        why = silent if d.state in OPEN else d.message or d.error_code or str(d.get_state_display())
        rows[d.ci_id] = (RolloutException.Kind.ROLLBACK_FAILED, why)
    changed = Deployment.objects.filter(batch__in=forward, offered_at__isnull=False)
    # One that fell back by itself has a later attempt that says so.
    later = Deployment.objects.filter(batch=OuterRef("batch"), ci=OuterRef("ci"), attempt__gt=OuterRef("attempt"))
    for d in changed.filter(~Exists(later), ~is_on_its_way):
        if d.state == DeploymentState.SUCCEEDED:
            rows[d.ci_id] = (RolloutException.Kind.NO_WAY_BACK, _("It had no way back."))
        elif d.state in OPEN:
            rows[d.ci_id] = (RolloutException.Kind.ROLLBACK_FAILED, silent)
    # Those that a rollback of a part had listed, and that are back now.
    rollout.exceptions.filter(kind__in=_NOT_BACK, recorded_by__isnull=True, ci__in=done.values("ci")).delete()
    RolloutException.objects.bulk_create(
        [
            RolloutException(
                release=rollout.release, rollout=rollout, ci_id=ci, kind=kind, reason=reason, created_at=now
            )
            for ci, (kind, reason) in sorted(rows.items())
        ],
        ignore_conflicts=True,
    )
