"""What a verb would do now, before anybody gives the order: how many CIs, for how long, who is told.

Read-only, a fixed number of queries whatever the fleet's size, and asked of the same checks and conditions that the
verb itself uses: what is refused here is refused there.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import connection
from django.utils.translation import gettext as _

from distribution import services as distribution
from distribution.models import DeploymentState
from distribution.services import Counts
from releases import conditions
from releases.models import Rollout, Wave
from releases.policy import RolloutPolicy
from releases.services import failures, overriding, pausing, previews_of_rollbacks
from releases.services.preview_parts import Choice, Effect, Facts, Preview, effects_of, refusal_of
from releases.services.rollouts import standing_waves
from releases.windows import blocks
from tickets.exceptions import InvalidInput
from tickets.lifecycle import check_move

_SECONDS = """
SELECT count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY took), percentile_cont(0.9) WITHIN GROUP (ORDER BY took)
FROM (
    SELECT extract(epoch FROM d.finished_at - d.offered_at) AS took
    FROM distribution_deployment d JOIN releases_wave w ON w.batch_id = d.batch_id
    WHERE w.rollout_id = %s AND w.kind = 'forward' AND d.state = 'succeeded' AND d.offered_at IS NOT NULL
    ORDER BY d.id DESC LIMIT 1000
) newest
"""


def preview_rollout(rollout: Rollout, verb: str, *, actor: Any, now: datetime, **asked: Any) -> Preview:
    """What the verb would do; `ci` and `wave` (number) for those that are about one. Refuses an unknown verb."""
    if verb not in PREVIEWS:
        raise InvalidInput(_("One of: %s.") % ", ".join(PREVIEWS), field="verb")
    waves = list(rollout.waves.filter(kind=Wave.Kind.FORWARD).select_related("batch").order_by("number"))
    standing = set(standing_waves(rollout).values_list("pk", flat=True))
    facts = Facts(
        rollout=rollout,
        actor=actor,
        now=now,
        policy=RolloutPolicy.from_json(rollout.policy),
        waves=[wave for wave in waves if wave.pk in standing],
        counts=distribution.counts([wave.batch_id for wave in waves]),
        accepted=failures.accepted_of([wave.pk for wave in waves]),
        asked=asked,
    )
    with connection.cursor() as cursor:
        cursor.execute(_SECONDS, [rollout.pk])
        measured, half, most = cursor.fetchone()
    found = PREVIEWS[verb](facts)
    if not measured:
        return found
    return replace(found, seconds_p50=round(half), seconds_p90=round(most), measured_on=measured)


def _pause(facts: Facts) -> Preview:
    total, rollout = facts.total, facts.rollout
    going = [wave for wave in facts.waves if wave.batch.is_open]
    queued = sum(facts.counts[wave.batch_id].queued for wave in going)
    go_on = ("under_way", _("are under way and go on to their end"), total.live)
    later = total.queued - queued
    refused = refusal_of(pausing.check_pause, rollout, actor=facts.actor)
    return Preview(
        "pause",
        [
            Choice(
                pausing.FREEZE,
                _("Freeze offers"),
                effects_of(("held", _("wait, and are offered nothing until it is resumed"), total.queued), go_on),
                refusal=refused,
            ),
            Choice(
                pausing.LET_RUN,
                _("Let the open waves run"),
                effects_of(
                    ("offered", _("wait in open waves, and are still offered"), queued),
                    ("held", _("wait in later waves, which do not open"), later),
                    go_on,
                ),
                refusal=refused,
            ),
        ],
        in_flight=_("Nothing is interrupted. Failures are judged while it is paused, too."),
        told=_("The release's timeline; nobody by mail."),
        is_done=pausing.is_paused(rollout, pausing.FREEZE),
    )


def _resume(facts: Facts) -> Preview:
    rollout = facts.rollout
    begun = [wave for wave in facts.waves if wave.state in {"failed", "deploying", "soaking"}]
    numbers = [facts.numbers(wave) for wave in begun]
    failed = distribution.count_retryable([wave.batch_id for wave in facts.waves])
    lost = sum(conditions.not_confirmed(n) - n.accepted for n in numbers)
    opened = [wave for wave in facts.waves if wave.state != Wave.State.WAITING]
    waiting = sum(facts.counts[wave.batch_id].queued for wave in opened)
    offered = ("offered", _("wait in waves that are offered again"), waiting)
    after = rollout.pause_kind in pausing.AFTER_FAILURES
    accept = Choice(
        pausing.ACCEPT,
        _("Accept the failures") if after else _("Go on"),
        effects_of(("ignored", _("failed or silent so far, and count no longer"), lost if after else 0), offered),
        refusal=refusal_of(pausing.check_resume, rollout, actor=facts.actor),
    )
    again = [replace(n, failed=0, accepted_failed=0, under_way=n.under_way + n.failed) for n in numbers]
    retry = Choice(
        pausing.RETRY,
        _("Try the failed ones again"),
        effects_of(("retried", _("failed, and get one more attempt"), failed), offered),
        warnings=[
            _("It would stop again at once: too many CIs are overdue. Accept or exclude them.")
            for n in again
            if conditions.is_breached(n, facts.policy)
        ][:1],
        refusal=refusal_of(pausing.check_resume, rollout, actor=facts.actor, mode=pausing.RETRY),
    )
    current = facts.current()
    number = facts.counts[current.batch_id] if current is not None else Counts()
    following = next((w for w in facts.waves if current is not None and w.number > current.number), None)
    skip = Choice(
        pausing.SKIP,
        _("Skip the rest of this wave"),
        effects_of(
            ("excluded", _("wait in this wave, and are taken out"), number.queued),
            ("under_way", _("are under way in it, and go on to their end"), number.live),
            ("next", _("get it with the next wave"), following.size if following is not None else 0),
        ),
        refusal=refusal_of(pausing.check_resume, rollout, actor=facts.actor, mode=pausing.SKIP),
    )
    return Preview(
        "resume",
        [accept, retry, skip],
        in_flight=_("What is under way is not touched."),
        told=_("The release's timeline; nobody by mail."),
        is_done=rollout.state == Rollout.State.RUNNING,
    )


def _abort(facts: Facts) -> Preview:
    asked = facts.count("offered", "downloading", "installing")
    effects = effects_of(
        ("cancelled", _("wait, and are cancelled at once"), facts.total.queued),
        ("cancelling", _("are under way: their devices are asked to stop, and may refuse"), asked),
        ("confirming", _("have installed it and still confirm it"), facts.total.confirming),
        ("kept", _("keep the new version"), facts.total.succeeded),
    )
    return Preview(
        "abort",
        [Choice("", _("Abort"), effects, refusal=refusal_of(check_move, facts.rollout, "abort", actor=facts.actor))],
        in_flight=_("A device that has begun to install usually ends what it does. It can be rolled back later."),
        told=_("The release's timeline. The release is ready again, so it can be started once more."),
        is_done=facts.rollout.state in {Rollout.State.ABORTING, Rollout.State.ABORTED},
    )


def _retry(facts: Facts) -> Preview:
    failed = distribution.count_retryable([wave.batch_id for wave in facts.waves])
    refusal = refusal_of(failures.check_retry, facts.rollout, actor=facts.actor)
    refusal = refusal or refusal_of(failures.check_any_failed, facts.waves)
    return Preview(
        "retry_failed",
        [
            Choice(
                "",
                _("Retry failed"),
                effects_of(("retried", _("failed, and get one more attempt when it is resumed"), failed)),
                refusal=refusal,
            )
        ],
        in_flight=_("What is under way is not touched."),
        told=_("The release's timeline; nobody by mail."),
    )


def _exclude(facts: Facts) -> Preview:
    ci = facts.ci()
    deployment = failures.newest_deployment(facts.rollout, ci)
    refusal = refusal_of(failures.check_exclude, facts.rollout, deployment, actor=facts.actor)
    can = {DeploymentState.QUEUED, DeploymentState.OFFERED, DeploymentState.FAILED, DeploymentState.EXCLUDED}
    if deployment.state not in can:
        refusal = refusal or _("The deployment is “%s”: its device has begun.") % deployment.get_state_display()
    effects = [Effect("excluded", _("is taken out, and counts as excluded"), 1)]
    return Preview(
        "exclude_ci",
        [Choice("", _("Exclude"), effects, refusal=refusal)],
        in_flight=_("Its device is not asked to do anything."),
        told=_("The release's timeline."),
        is_done=deployment.state == DeploymentState.EXCLUDED,
    )


def _next_wave(facts: Facts) -> Preview:
    current = facts.current()
    following = next((w for w in facts.waves if current is not None and w.number > current.number), None)
    warnings = []
    if current is not None and current.soak_started_at is not None:
        ends = conditions.soak_ends_at(current.soak_started_at, facts.policy, soaked_seconds=current.soaked_seconds)
        left = max(0, round((ends - facts.now).total_seconds()))
        text = _("%(seconds)d seconds of the problem-free period of wave %(wave)d are left out; that is recorded.")
        warnings = [text % {"seconds": left, "wave": current.number}]
    is_gate = facts.rollout.pause_kind == Rollout.PauseKind.GATE
    check = pausing.check_resume if is_gate else pausing.check_next_wave
    size = current.size if is_gate and current is not None else following.size if following is not None else 0
    effects = effects_of(("next", _("get it with the next wave, by the normal rules"), size))
    refusal = refusal_of(check, facts.rollout, actor=facts.actor)
    has_passed = any(w.number == facts.asked.get("wave") and w.state == Wave.State.PASSED for w in facts.waves)
    return Preview(
        "next_wave",
        [Choice("", _("Next wave now"), effects, [] if is_gate else warnings, refusal)],
        in_flight=_("What is under way is not touched."),
        told=_("The release's timeline; nobody by mail."),
        is_done=has_passed and not is_gate,
    )


def _supersede(facts: Facts) -> Preview:
    refusal = refusal_of(pausing.check_supersede, facts.rollout, actor=facts.actor)
    waves = [wave for wave in facts.waves if wave.batch.is_open]
    ended, stopping, kept = distribution.displaced_by([wave.batch_id for wave in waves])
    effects = effects_of(
        ("superseded", _("deployments of older rollouts wait, and are ended"), ended),
        ("cancelling", _("of them are fetched or downloading: their devices are asked to stop"), stopping),
        ("kept", _("of them are further, and come first all the same"), kept),
    )
    return Preview(
        "supersede",
        [Choice("", _("Displace older rollouts"), effects, refusal=refusal)],
        in_flight=_("What is being installed is never interrupted: this rollout waits for it."),
        told=_("The release's timeline; nobody by mail."),
    )


def _override_window(facts: Facts) -> Preview:
    rollout = facts.rollout
    standing = blocks(rollout, facts.now)
    is_paused = rollout.state == Rollout.State.PAUSED and rollout.pause_kind in Rollout.OUTSIDE
    begun = {Wave.State.DEPLOYING, Wave.State.SOAKING, Wave.State.PASSED}
    waves = [wave for wave in facts.waves if wave.state in begun or wave is facts.waves[0]]
    waiting = sum(facts.counts[wave.batch_id].queued for wave in waves)
    effects = effects_of(("offered", _("wait, and are offered in spite of it"), waiting)) if standing else []
    return Preview(
        "override_window",
        [
            Choice(
                "",
                _("Override the window"),
                effects,
                [block.reason for block in standing],
                refusal_of(overriding.check_override, rollout, standing, actor=facts.actor),
            )
        ],
        in_flight=_("What is under way goes on.")
        if is_paused
        else _("What is under way goes on. The rollout is not paused by it now."),
        told=_("The release's timeline. Another freeze, or a time that is moved, binds it again."),
        is_done=overriding.is_overridden(rollout, facts.now),
    )


PREVIEWS: dict[str, Callable[[Facts], Preview]] = {
    "pause": _pause,
    "resume": _resume,
    "abort": _abort,
    "roll_back": previews_of_rollbacks.roll_back,
    "roll_back_wave": previews_of_rollbacks.roll_back_wave,
    "roll_back_ci": previews_of_rollbacks.roll_back_ci,
    "continue_rollback": previews_of_rollbacks.continue_rollback,
    "retry_failed": _retry,
    "exclude_ci": _exclude,
    "next_wave": _next_wave,
    "supersede": _supersede,
    "override_window": _override_window,
}
