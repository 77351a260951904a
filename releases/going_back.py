"""The engine's steps of a rollback: queue the way back of each CI, wait, stop where it fails on too many of them, list
those that are not back, end it.
"""

from datetime import datetime

from django.db.models import Exists, OuterRef, QuerySet, Sum
from django.utils.translation import gettext as _

from distribution import services as distribution
from distribution import steps
from distribution.models import OPEN, Deployment, DeploymentState
from failpoints import failpoint
from releases.conditions import failures, is_breached
from releases.judging import judge_errors, store_verdict
from releases.models import Release, Rollout, RolloutEvent, RolloutException, Verdict, Wave
from releases.policy import RolloutPolicy
from releases.services import cascade
from releases.services.breach import call_for_rollback
from releases.services.failures import numbers_of_wave
from releases.services.log import cis_text, log, under_way_text, wait_for
from releases.services.rollbacks import not_ready, overtaking, stopped_waves
from tickets.lifecycle import move
from tickets.models import EntryKind
from tickets.services import move_ticket, record

_BACK = (DeploymentState.SUCCEEDED, DeploymentState.SKIPPED)
_IS_NOT_BACK = tuple(state for state in DeploymentState if state not in _BACK)
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
    waiting = distribution.under_way([*batches, wave.batch_id, *(part.batch_id for part in parts)])
    if _advance_wave(rollout, wave, batches, now, is_waiting=waiting > 0):
        return True
    if waiting or Wave.State.FAILED in {wave.state, *(part.state for part in parts)}:
        return wait_for(rollout, waits_for(rollout) or under_way_text(waiting), now)
    if not _end_wave(rollout, wave, batches, now):
        return True
    for taken_back in forward:
        if taken_back.state not in {Wave.State.WAITING, Wave.State.ROLLED_BACK}:
            move(taken_back, "roll_back", actor=None, now=now, touch=None)
    is_clean = not rollout.exceptions.filter(kind__in=_NOT_BACK).exists()
    verb = "finish_rollback" if is_clean else "finish_rollback_with_exceptions"
    move(rollout, verb, actor=None, now=now, update={"finished_at": now, "waits_for": ""})
    _move_release(rollout, "roll_back" if is_clean else "roll_back_partially", now)
    log(rollout, RolloutEvent.Kind.ROLLED_BACK, now=now, text=cis_text(wave.size), told=False)
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
    is_waiting = distribution.under_way([*forward, wave.batch_id]) > 0
    if _advance_wave(rollout, wave, forward, now, is_waiting=is_waiting):
        return True
    if is_waiting or wave.state == Wave.State.FAILED:
        return False
    if not _end_wave(rollout, wave, forward, now):
        return True
    if wave.undoes is not None and wave.undoes.state != Wave.State.ROLLED_BACK:
        move(wave.undoes, "roll_back", actor=None, now=now, touch=None)
    log(rollout, RolloutEvent.Kind.ROLLED_BACK, now=now, text=cis_text(wave.size))
    if rollout.state == Rollout.State.COMPLETED:
        cascade.begin(rollout, cascade.PARTIAL, now=now)
    return True


def _advance_wave(rollout: Rollout, wave: Wave, forward: list[int], now: datetime, *, is_waiting: bool) -> bool:
    """Queues what can go back by now, marks what is overdue, stops at too many failures; True when that wrote."""
    if distribution.cancel_rest([*forward, wave.batch_id], now=now):
        return True
    queued = _queue(rollout, wave, now, is_waiting=is_waiting) if forward else 0
    if queued:
        wave.size += queued
        Wave.objects.filter(pk=wave.pk).update(size=wave.size)
        if wave.state == Wave.State.DEPLOYING and not wave.batch.is_open:
            distribution.cancel_open([wave.batch_id], now=now, reason=_("The rollback was ended by a person."))
    failpoint("rollback.queued")
    if queued >= steps.CHUNK:
        return True
    wrote = queued + distribution.pass_deadlines([*forward, wave.batch_id], now=now)
    return _stop(rollout, wave, now) or wrote > 0


def _queue(rollout: Rollout, wave: Wave, now: datetime, *, is_waiting: bool) -> int:
    """Queues some of those that can go back by now and do not yet; how many.

    To look for them is dear in a large fleet: only when something has happened that may have made one, and before the
    end, when it does not wait for anybody any more.
    """
    batches = rollout.forward_batch_ids()
    ended, newest, has_said = distribution.seen_for_rollback(batches, after=wave.seen_installed)
    is_known = ended == wave.seen_ended and not has_said
    if is_known and is_waiting:
        return 0
    queued = 0
    if not _has_everybody(wave, batches):
        queued = distribution.queue_rollback(
            wave.batch,
            forward_batch_ids=batches,
            only_of=wave.undoes.batch_id if wave.undoes is not None else None,
            left_out=lambda cis: _already_back(rollout, wave, cis),
            now=now,
        )
    if not queued and not is_known:
        Wave.objects.filter(pk=wave.pk).update(seen_ended=ended, seen_installed=newest)
    return queued


def _has_everybody(wave: Wave, forward: list[int]) -> bool:
    """Whether as many go back as those batches have CIs, so that nobody can be missing. The sizes are counts of rows
    that never go away, so that nothing has to be counted again."""
    sizes = Wave.objects.filter(batch__in=forward).aggregate(total=Sum("size"))
    return wave.size >= (sizes["total"] or 0)


def _stop(rollout: Rollout, wave: Wave, now: datetime) -> bool:
    """Stops a rollback that fails on more CIs than its policy bears, while others still wait, and calls a person."""
    if wave.state != Wave.State.DEPLOYING or not wave.batch.is_open:
        return False
    policy = RolloutPolicy.from_json(rollout.policy).of_rollback()
    numbers = numbers_of_wave(wave)
    if not is_breached(numbers, policy):
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


def _already_back(rollout: Rollout, wave: Wave, cis: list[int]) -> set[int]:
    """Those of the CIs that this wave does not take back: they are back already or on their way by a rollback of a
    part, or were offered a later version since.
    """
    parts = rollout.waves.filter(kind=Wave.Kind.ROLLBACK).exclude(pk=wave.pk).values_list("batch", flat=True)
    back = Deployment.objects.filter(ci__in=cis, batch__in=list(parts), state__in=[*OPEN, *_BACK])
    others = set(back.values_list("ci", flat=True))
    if Rollout.objects.filter(pk__gt=rollout.pk).exists():
        others |= set(overtaking(rollout).filter(ci__in=cis).values_list("ci", flat=True))
    return others


def _end_wave(rollout: Rollout, wave: Wave, forward: list[int], now: datetime) -> bool:
    """Lists who is not back, in chunks, and ends the rollback. False: it has not ended, perhaps there are more."""
    is_full = _list_exceptions(rollout, wave, forward, now) >= steps.CHUNK
    failpoint("rollback.listed")
    if is_full:
        return False
    move(wave, "succeed", actor=None, now=now, update={"finished_at": now}, touch=None)
    if not distribution.has_open([wave.batch_id]):
        # Otherwise it stays open for those that may still come back.
        distribution.close_batch(wave.batch)
    return True


def _list_exceptions(rollout: Rollout, wave: Wave, forward: list[int], now: datetime) -> int:
    """Lists the CIs that are not back: their rollback failed or is overdue, or they had no way back; how many more."""
    ways_back = rollout.waves.filter(kind=Wave.Kind.ROLLBACK).values_list("batch", flat=True)
    back = Deployment.objects.filter(batch__in=list(ways_back))
    done = back.filter(state__in=_BACK)
    # Those that a rollback of a part had listed, and that are back now.
    rollout.exceptions.filter(kind__in=_NOT_BACK, recorded_by__isnull=True, ci__in=done.values("ci")).delete()
    # One that fell back by itself has a later attempt that says so.
    later = Deployment.objects.filter(batch=OuterRef("batch"), ci=OuterRef("ci"), attempt__gt=OuterRef("attempt"))
    newest = Deployment.objects.filter(~Exists(later)).order_by("ci")
    failed = newest.filter(~Exists(done.filter(ci=OuterRef("ci"))), batch=wave.batch_id, state__in=_IS_NOT_BACK)
    failed = failed.annotate(is_gone=Exists(not_ready("to_version").filter(deployment=OuterRef("pk"))))
    # Mostly nobody, which is cheap to see. Not as a list of ids, which would be looked through once for each CI.
    if _has_everybody(wave, forward):
        forward = []
    stayed = newest.filter(~Exists(back.filter(ci=OuterRef("ci"))), batch__in=forward, offered_at__isnull=False)
    rows: list[RolloutException] = []
    for kind, found in (
        (RolloutException.Kind.ROLLBACK_FAILED, failed),
        (RolloutException.Kind.ROLLBACK_FAILED, stayed.filter(state__in=OPEN)),
        (RolloutException.Kind.NO_WAY_BACK, stayed.filter(state=DeploymentState.SUCCEEDED)),
    ):
        listed = RolloutException.objects.filter(rollout=rollout, kind=kind, ci=OuterRef("ci"))
        rows += [
            RolloutException(
                release=rollout.release, rollout=rollout, ci_id=d.ci_id, kind=kind, reason=_why(d), created_at=now
            )
            for d in found.filter(~Exists(listed))[: steps.CHUNK - len(rows)]
        ]
    RolloutException.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def _why(deployment: Deployment) -> str:
    if deployment.state == DeploymentState.SUCCEEDED:
        return _("It had no way back.")
    if deployment.state in OPEN and getattr(deployment, "is_gone", False):
        return _("The version of before is no longer ready in the media library.")
    if deployment.state in OPEN:
        return _("It did not answer.")
    return deployment.message or deployment.error_code or str(deployment.get_state_display())
