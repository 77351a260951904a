"""Stops a rollout and lets it go on: pause, resume, next wave now, supersede, abort.

Each order may be given twice, also at once: it is done once, and the second one finds it done.
"""

from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import language
from accounts.models import User
from distribution import services as distribution
from releases import conditions
from releases.models import Rollout, RolloutEvent, Wave
from releases.policy import RolloutPolicy
from releases.services.failures import accept_failures, check_any_failed, numbers_of_wave, retry_waves
from releases.services.incident_gate import accept_incidents
from releases.services.log import log
from releases.services.overriding import accept_blocks
from releases.services.rollouts import START, close_forward_batches, lock_rollout, standing_waves
from releases.services.second_person import check_not_starter
from releases.services.skipping import override_wave, skip_wave
from releases.services.soak_clock import start_soak_clock, stop_soak_clock
from tickets.exceptions import ConditionRefused, InvalidInput, TransitionRefused
from tickets.lifecycle import check_move, check_permission, move
from tickets.services import required

State = Rollout.State
PauseKind = Rollout.PauseKind
STOP = "releases.pause_rollout"
# Pause: `freeze` offers nothing any more; `let_run` lets the open waves come to their end and opens no other one.
FREEZE, LET_RUN = "freeze", "let_run"
PAUSE_MODES = (FREEZE, LET_RUN)
# Resume after failures: accept them, try them again, or leave the wave as it is and go on with the next one.
ACCEPT, RETRY, SKIP = "accept", "retry", "skip"
RESUME_MODES = (ACCEPT, RETRY, SKIP)
AFTER_FAILURES = (PauseKind.BREACH, PauseKind.STRAGGLERS)
# Stops of the engine that a resume accepts. Not a probe that could not be asked: it is asked again.
AUTOMATIC = (*AFTER_FAILURES, *Rollout.OUTSIDE, PauseKind.INCIDENTS)
UNDER_WAY = (Wave.State.DEPLOYING, Wave.State.SOAKING)


def is_paused(rollout: Rollout, mode: str) -> bool:
    """Whether a pause in this mode would change nothing; a frozen rollout is held, too.

    What only a freeze or the planned time holds would go on by itself, so that a person's pause takes its place.
    """
    if rollout.state != State.PAUSED or rollout.pause_kind in Rollout.OUTSIDE:
        return False
    return mode == LET_RUN or rollout.pause_kind != PauseKind.HELD


def check_pause(rollout: Rollout, *, actor: User) -> None:
    """Refuses by right, and what is neither running nor paused."""
    check_permission(actor, STOP, _("pause a rollout"))
    if rollout.state != State.PAUSED:
        check_move(rollout, "pause", actor=actor)


def pause_rollout(rollout: Rollout, *, actor: User, now: datetime, reason: str, mode: str = FREEZE) -> None:
    """Offers nothing new, or (`let_run`) opens no other wave; what is under way goes on. One person is enough.

    Of a rollout that a freeze or the planned time holds, it stays paused when that is over, in either mode.
    """
    reason = required(reason, "reason", _("Say why."))
    _one_of(mode, PAUSE_MODES)
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        check_pause(rollout, actor=actor)
        if not is_paused(rollout, mode):
            kind = PauseKind.HELD if mode == LET_RUN and rollout.state == State.RUNNING else PauseKind.MANUAL
            pause(rollout, kind=kind, reason=reason, actor=actor, now=now)


def pause(rollout: Rollout, *, kind: str, reason: str, actor: User | None, now: datetime) -> None:
    """The pause itself, for people and for the engine; of a paused rollout, the stronger reason replaces the other."""
    update = {"pause_kind": kind, "pause_reason": reason, "waits_for": ""}
    was_frozen = rollout.state == State.PAUSED and rollout.pause_kind != PauseKind.HELD
    if rollout.state == State.PAUSED:
        Rollout.objects.filter(pk=rollout.pk).update(**update, updated_at=now)
        rollout.refresh_from_db()
    else:
        move(rollout, "pause", actor=actor, now=now, update=update)
    stop_soak_clock(rollout, now=now)
    if kind == PauseKind.HELD:
        log(rollout, RolloutEvent.Kind.HELD, now=now, text=reason, actor=actor)
        return
    close_forward_batches(rollout)
    if not was_frozen or actor is not None:
        log(rollout, RolloutEvent.Kind.PAUSED, now=now, text=reason, actor=actor)


def check_resume(rollout: Rollout, *, actor: User, mode: str = ACCEPT) -> list[Wave]:
    """Refuses who may not resume it, or not so; gives the waves that stand."""
    check_move(rollout, "resume", actor=actor)
    if rollout.pause_kind in AUTOMATIC:
        text = _("%(number)s stopped by itself; somebody other than the one who started it must resume it.")
        check_not_starter(rollout, actor, text)
    waves = list(standing_waves(rollout))
    if not waves:
        raise ConditionRefused(
            _("Every wave of %(number)s was taken back, so nothing is left to do. Roll it back or abort it.")
            % {"number": rollout.number}
        )
    if mode == RETRY:
        check_any_failed(waves)
    if mode == SKIP:
        check_departure(rollout, actor)
        if not any(wave.state in {*UNDER_WAY, Wave.State.FAILED} for wave in waves):
            raise ConditionRefused(_("No wave is under way, so there is none to skip. Resume without it."))
    return waves


def check_departure(rollout: Rollout, actor: User) -> None:
    """What departs from the approved policy is for somebody other than the starter."""
    text = _("You started %(number)s; somebody else must decide to go on in spite of its policy.")
    check_not_starter(rollout, actor, text)


def resume_rollout(
    rollout: Rollout,
    *,
    actor: User,
    now: datetime,
    reason: str = "",
    mode: str = ACCEPT,
    seen_round: int | None = None,
) -> None:
    """Goes on; verdicts begin a new round. After a stop by the engine by somebody other than the starter.

    `mode` says what becomes of the failures after such a stop: `accept` lets them count no longer, each by name;
    `retry` tries them again; `skip` also takes out what still waits in the present wave and goes on with the next.
    `seen_round` is the round whose stop the person had before him: of another one, nothing is resumed.
    """
    _one_of(mode, RESUME_MODES)
    check_permission(actor, START, _("resume a rollout"))
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        if rollout.state == State.RUNNING:
            return
        if seen_round is not None and seen_round != rollout.round:
            raise TransitionRefused(
                _("%s was resumed and has stopped again since you looked. Look at why, then decide.") % rollout.number,
                code="edit_conflict",
            )
        waves = check_resume(rollout, actor=actor, mode=mode)
        kind = rollout.pause_kind
        if (kind in AUTOMATIC or mode == SKIP) and not reason.strip():
            raise InvalidInput(_("Say why it may go on."), field="reason")
        if kind in Rollout.OUTSIDE:
            accept_blocks(rollout, actor=actor, now=now, reason=reason)
        update = {"pause_kind": "", "pause_reason": "", "round": rollout.round + 1}
        move(rollout, "resume", actor=actor, now=now, update=update)
        start_soak_clock(rollout, now=now)
        log(rollout, RolloutEvent.Kind.RESUMED, now=now, text=reason, actor=actor)
        if mode == RETRY:
            retry_waves(rollout, waves, actor=actor, now=now)
        elif kind in AFTER_FAILURES:
            accept_failures(rollout, waves, actor=actor, now=now, reason=reason)
        for wave in waves:
            if wave.state == Wave.State.FAILED:
                move(wave, "go_on", actor=None, now=now, update={"finished_at": None}, touch=None)
        if mode == SKIP:
            present = next(wave for wave in waves if wave.state in UNDER_WAY)
            skip_wave(rollout, present, actor=actor, now=now, reason=reason)
        for wave in waves:
            if kind in {PauseKind.BREACH, PauseKind.INCIDENTS}:
                accept_incidents(rollout, wave)
            # Also those that have passed: their stragglers may still come.
            if wave.state in {*UNDER_WAY, Wave.State.PASSED} and wave.skipped_by_id is None:
                distribution.open_batch(wave.batch, now=now)


def check_next_wave(rollout: Rollout, *, actor: User) -> Wave:
    """Refuses unless the present wave has its success and only its problem-free period holds the next one back."""
    check_permission(actor, START, _("open the next wave"))
    if rollout.state != State.RUNNING:
        raise TransitionRefused(
            _("%(number)s is “%(state)s”: only a running rollout opens its next wave. Resume it.")
            % {"number": rollout.number, "state": rollout.get_state_display()}
        )
    wave = standing_waves(rollout).exclude(state=Wave.State.PASSED).first()
    if wave is None or wave.state != Wave.State.SOAKING:
        raise ConditionRefused(
            _("No wave is in its problem-free period. To leave one behind that has not succeeded, pause and skip it.")
        )
    check_departure(rollout, actor)
    if wave.skipped_by_id is not None:
        raise TransitionRefused(_("Wave %d is being left behind already.") % wave.number)
    if conditions.is_breached(numbers_of_wave(wave), RolloutPolicy.from_json(rollout.policy)):
        raise ConditionRefused(_("Too many CIs of wave %d have failed.") % wave.number)
    return wave


def next_wave(rollout: Rollout, *, actor: User, now: datetime, wave: int, reason: str) -> None:
    """Ends the problem-free period of the wave with this number now; the next one opens by the normal rules.

    By somebody other than the starter; recorded as a verdict of its own kind. A wave that has passed stays as it is;
    if the rollout waits for a person between waves, it is resumed.
    """
    reason = required(reason, "reason", _("Say why it need not wait."))
    check_permission(actor, START, _("open the next wave"))
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        named = standing_waves(rollout).filter(number=wave).first()
        if named is None:
            raise InvalidInput(_("%(n)s has no wave %(wave)d.") % {"n": rollout.number, "wave": wave}, field="wave")
        if rollout.pause_kind == PauseKind.GATE:
            resume_rollout(rollout, actor=actor, now=now, reason=reason)
        elif named.state != Wave.State.PASSED:
            present = check_next_wave(rollout, actor=actor)
            if present.pk != named.pk:
                raise TransitionRefused(_("Wave %(n)d is the present one, not that.") % {"n": present.number})
            override_wave(rollout, present, actor=actor, now=now, reason=reason)


def check_supersede(rollout: Rollout, *, actor: User) -> list[Wave]:
    """Refuses unless waves of it are being offered; gives them."""
    check_permission(actor, START, _("displace older rollouts"))
    waves = [wave for wave in standing_waves(rollout) if wave.batch.is_open and wave.state in UNDER_WAY]
    if rollout.state != State.RUNNING or not waves:
        raise TransitionRefused(_("No wave of %(number)s is being offered just now.") % {"number": rollout.number})
    return waves


def supersede_older(rollout: Rollout, *, actor: User, now: datetime, reason: str) -> None:
    """Lets what older rollouts have not begun to install on the CIs of the open waves make way for this one."""
    reason = required(reason, "reason", _("Say why."))
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        waves = check_supersede(rollout, actor=actor)
        ended = stopping = 0
        for wave in waves:
            while any(done := distribution.supersede_older(wave.batch, now=now)):
                ended, stopping = ended + done[0], stopping + done[1]
        if ended or stopping:
            text = language.gettext("%(ended)d ended, %(stopping)d asked to stop: %(why)s") % {
                "ended": ended,
                "stopping": stopping,
                "why": reason,
            }
            log(rollout, RolloutEvent.Kind.SUPERSEDED, now=now, text=text, actor=actor)


def abort_rollout(rollout: Rollout, *, actor: User, now: datetime, reason: str) -> None:
    """Cancels everything that is open; what is installed stays and can be rolled back later. One person is enough.

    From now on nothing is offered; of a large fleet, the ticks cancel what is left.
    """
    reason = required(reason, "reason", _("Say why."))
    check_permission(actor, STOP, _("abort a rollout"))
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        if rollout.state in {State.ABORTING, State.ABORTED}:
            return
        move(
            rollout,
            "abort",
            actor=actor,
            now=now,
            update={"pause_kind": "", "pause_reason": "", "waits_for": ""},
        )
        distribution.cancel_open(close_forward_batches(rollout), now=now, reason=reason)
        log(rollout, RolloutEvent.Kind.ABORTING, now=now, text=reason, actor=actor)


def _one_of(mode: str, modes: tuple[str, ...]) -> None:
    if mode not in modes:
        raise InvalidInput(_("One of: %s.") % ", ".join(modes), field="mode")
