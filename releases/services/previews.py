"""What a verb would do now, before anybody gives the order: how many CIs, for how long, who is told.

Read-only, a fixed number of queries whatever the fleet's size, and asked of the same checks and conditions that the
verb itself uses: what is refused here is refused there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db import connection
from django.utils.translation import gettext as _

from accounts.models import User
from cmdb.models import ConfigurationItem
from distribution import services as distribution
from distribution.models import Batch, Deployment, DeploymentState
from distribution.services import Counts
from releases import conditions
from releases.models import Rollout, Wave
from releases.policy import RolloutPolicy
from releases.services import failures, pausing, rollbacks
from releases.services.rollouts import standing_waves
from tickets.exceptions import DomainError, InvalidInput
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


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that happens, to so many CIs. `key` is stable for API clients, `text` is for people."""

    key: str
    text: str
    count: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to give the order (`name` is the verb's mode; empty: there is only one). `refusal`: why not now."""

    name: str
    label: str
    effects: list[Effect] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Preview:
    """What an order would do. `is_done`: it was given before, and giving it again changes nothing.

    `seconds` is how long it takes until what is under way has ended, or has gone back: the half and the nine tenths of
    `measured_on` CIs of the same rollout needed at most so long. None: nothing was measured yet.
    """

    verb: str
    choices: list[Choice]
    in_flight: str = ""
    told: str = ""
    is_done: bool = False
    seconds_p50: int | None = None
    seconds_p90: int | None = None
    measured_on: int = 0

    @property
    def is_possible(self) -> bool:
        return self.is_done or any(not choice.refusal for choice in self.choices)


@dataclass(slots=True)
class Facts:
    """Everything that previews of a rollout look at."""

    rollout: Rollout
    actor: User
    now: datetime
    policy: RolloutPolicy
    waves: list[Wave]
    counts: dict[int, Counts]
    accepted: dict[int, conditions.Accepted]
    asked: dict[str, Any]

    @property
    def total(self) -> Counts:
        return sum(self.counts.values(), Counts())

    def numbers(self, wave: Wave) -> conditions.WaveNumbers:
        return conditions.numbers_of(self.counts[wave.batch_id], size=wave.size, accepted=self.accepted[wave.pk])

    def current(self) -> Wave | None:
        return next((wave for wave in self.waves if wave.state != Wave.State.PASSED), None)

    def count(self, *states: str) -> int:
        return sum(getattr(self.total, state) for state in states)

    def ci(self) -> ConfigurationItem:
        if self.asked.get("ci") is None:
            raise InvalidInput(_("Name the CI."), field="ci")
        found: ConfigurationItem = self.asked["ci"]
        return found


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


def _refusal(check: Callable[..., Any], *args: Any, **values: Any) -> str:
    """Why the order would be refused; empty: it would not."""
    try:
        check(*args, **values)
    except DomainError as error:
        return error.message
    return ""


def _effects(*rows: tuple[str, str, int]) -> list[Effect]:
    return [Effect(*row) for row in rows if row[2]]


def _pause(facts: Facts) -> Preview:
    total, rollout = facts.total, facts.rollout
    going = [wave for wave in facts.waves if wave.batch.is_open]
    queued = sum(facts.counts[wave.batch_id].queued for wave in going)
    go_on = ("under_way", _("are under way and go on to their end"), total.live)
    later = total.queued - queued
    refused = _refusal(check_move, rollout, "pause", actor=facts.actor)
    held = rollout.state == Rollout.State.PAUSED
    return Preview(
        "pause",
        [
            Choice(
                pausing.FREEZE,
                _("Freeze offers"),
                _effects(("held", _("wait, and are offered nothing until it is resumed"), total.queued), go_on),
                refusal="" if held else refused,
            ),
            Choice(
                pausing.LET_RUN,
                _("Let the open waves run"),
                _effects(
                    ("offered", _("wait in open waves, and are still offered"), queued),
                    ("held", _("wait in later waves, which do not open"), later),
                    go_on,
                ),
                refusal="" if held else refused,
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
    failed = sum(facts.counts[wave.batch_id].failed for wave in facts.waves)
    lost = sum(conditions.not_confirmed(n) - n.accepted for n in numbers)
    opened = [wave for wave in facts.waves if wave.state != Wave.State.WAITING]
    waiting = sum(facts.counts[wave.batch_id].queued for wave in opened)
    offered = ("offered", _("wait in waves that are offered again"), waiting)
    after = rollout.pause_kind in pausing.AFTER_FAILURES
    accept = Choice(
        pausing.ACCEPT,
        _("Accept the failures") if after else _("Go on"),
        _effects(("ignored", _("failed or silent so far, and count no longer"), lost if after else 0), offered),
        refusal=_refusal(pausing.check_resume, rollout, actor=facts.actor),
    )
    again = [replace(n, failed=0, accepted_failed=0, under_way=n.under_way + n.failed) for n in numbers]
    retry = Choice(
        pausing.RETRY,
        _("Try the failed ones again"),
        _effects(("retried", _("failed, and get one more attempt"), failed), offered),
        warnings=[
            _("It would stop again at once: too many CIs are overdue. Accept or exclude them.")
            for n in again
            if conditions.is_breached(n, facts.policy)
        ][:1],
        refusal=accept.refusal or ("" if failed else _("No CI of this rollout has failed.")),
    )
    current = facts.current()
    number = facts.counts[current.batch_id] if current is not None else Counts()
    following = next((w for w in facts.waves if current is not None and w.number > current.number), None)
    skip = Choice(
        pausing.SKIP,
        _("Skip the rest of this wave"),
        _effects(
            ("excluded", _("wait in this wave, and are taken out"), number.queued),
            ("under_way", _("are under way in it, and go on to their end"), number.live),
            ("next", _("get it with the next wave"), following.size if following is not None else 0),
        ),
        refusal=_refusal(pausing.check_resume, rollout, actor=facts.actor, mode=pausing.SKIP),
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
    effects = _effects(
        ("cancelled", _("wait, and are cancelled at once"), facts.total.queued),
        ("cancelling", _("are under way: their devices are asked to stop, and may refuse"), asked),
        ("confirming", _("have installed it and still confirm it"), facts.total.confirming),
        ("kept", _("keep the new version"), facts.total.succeeded),
    )
    return Preview(
        "abort",
        [Choice("", _("Abort"), effects, refusal=_refusal(check_move, facts.rollout, "abort", actor=facts.actor))],
        in_flight=_("A device that has begun to install usually ends what it does. It can be rolled back later."),
        told=_("The release's timeline. The release is ready again, so it can be started once more."),
        is_done=facts.rollout.state in {Rollout.State.ABORTING, Rollout.State.ABORTED},
    )


def _back_effects(
    facts: Facts, batches: list[int], cis: list[int] | None = None, only_of: int | None = None
) -> list[Effect]:
    changed, lost = distribution.count_changed(facts.rollout.forward_batch_ids(), ci_ids=cis, only_of=only_of)
    back = Deployment.objects.filter(
        batch__wave__rollout=facts.rollout,
        batch__purpose=Batch.Purpose.ROLLBACK,
        state__in=[DeploymentState.SUCCEEDED, DeploymentState.SKIPPED],
        ci__in=Deployment.objects.filter(batch__in=batches).values("ci"),
    )
    were = back.filter(ci__in=cis).count() if cis is not None else back.count()
    counts = [facts.counts[batch] for batch in batches] if cis is None else []
    going = sum(c.offered + c.downloading + c.installing for c in counts)
    return _effects(
        ("back", _("go back to what they ran before"), max(changed - lost - were, 0)),
        ("lost", _("have no way back, and are listed"), lost),
        ("cancelling", _("are under way: stopped, or taken back when they have ended"), going),
        ("cancelled", _("wait, and are cancelled"), sum(c.queued for c in counts)),
        ("were_back", _("are back already"), were),
    )


def _back(facts: Facts, verb: str, label: str, effects: list[Effect], refusal: str, *, is_done: bool) -> Preview:
    return Preview(
        verb,
        [Choice("", label, effects, refusal=refusal)],
        in_flight=_("What is being installed is stopped if its device agrees; else it ends first, and then goes back."),
        told=_("When it has ended: owners of the CIs and requesters whose tickets this release was to fix."),
        is_done=is_done,
    )


def _roll_back(facts: Facts) -> Preview:
    batches = list(facts.counts)
    refusal = _refusal(rollbacks.check_roll_back, facts.rollout, actor=facts.actor, now=facts.now)
    is_done = facts.rollout.state in rollbacks.GONE
    return _back(facts, "roll_back", _("Roll back"), _back_effects(facts, batches), refusal, is_done=is_done)


def _roll_back_wave(facts: Facts) -> Preview:
    wave = facts.rollout.waves.filter(kind=Wave.Kind.FORWARD, number=facts.asked.get("wave") or 0).first()
    if wave is None:
        raise InvalidInput(_("Name the wave."), field="wave")
    refusal = _refusal(rollbacks.check_roll_back_wave, facts.rollout, wave, actor=facts.actor, now=facts.now)
    effects = _back_effects(facts, [wave.batch_id], only_of=wave.batch_id)
    return _back(facts, "roll_back_wave", _("Roll back"), effects, refusal, is_done=wave.rollbacks.exists())


def _roll_back_ci(facts: Facts) -> Preview:
    ci = facts.ci()
    refusal = _refusal(rollbacks.check_roll_back_ci, facts.rollout, ci, actor=facts.actor, now=facts.now)
    effects = _back_effects(facts, list(facts.counts), [ci.pk])
    is_done = rollbacks.way_back_of(facts.rollout, ci) is not None
    if not effects and not is_done:
        refusal = refusal or _("%(ci)s did not get the package, so there is nothing to take back.") % {"ci": ci}
    return _back(facts, "roll_back_ci", _("Roll back"), effects, refusal, is_done=is_done)


def _retry(facts: Facts) -> Preview:
    failed = sum(facts.counts[wave.batch_id].failed for wave in facts.waves)
    refusal = _refusal(failures.check_retry, facts.rollout, actor=facts.actor)
    return Preview(
        "retry_failed",
        [
            Choice(
                "",
                _("Retry failed"),
                _effects(("retried", _("failed, and get one more attempt when it is resumed"), failed)),
                refusal=refusal or ("" if failed else _("No CI of this rollout has failed.")),
            )
        ],
        in_flight=_("What is under way is not touched."),
        told=_("The release's timeline; nobody by mail."),
    )


def _exclude(facts: Facts) -> Preview:
    ci = facts.ci()
    deployment = failures.newest_deployment(facts.rollout, ci)
    refusal = _refusal(failures.check_exclude, facts.rollout, deployment, actor=facts.actor)
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
    effects = _effects(("next", _("get it with the next wave, by the normal rules"), size))
    refusal = _refusal(check, facts.rollout, actor=facts.actor)
    return Preview(
        "next_wave",
        [Choice("", _("Next wave now"), effects, [] if is_gate else warnings, refusal)],
        in_flight=_("What is under way is not touched."),
        told=_("The release's timeline; nobody by mail."),
    )


def _supersede(facts: Facts) -> Preview:
    refusal = _refusal(pausing.check_supersede, facts.rollout, actor=facts.actor)
    waves = [wave for wave in facts.waves if wave.batch.is_open]
    found = [distribution.displaced_by(wave.batch) for wave in waves]
    ended, stopping, kept = (sum(one[n] for one in found) for n in range(3))
    effects = _effects(
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


PREVIEWS: dict[str, Callable[[Facts], Preview]] = {
    "pause": _pause,
    "resume": _resume,
    "abort": _abort,
    "roll_back": _roll_back,
    "roll_back_wave": _roll_back_wave,
    "roll_back_ci": _roll_back_ci,
    "retry_failed": _retry,
    "exclude_ci": _exclude,
    "next_wave": _next_wave,
    "supersede": _supersede,
}
