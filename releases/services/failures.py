"""What becomes of CIs whose deployment did not succeed: tried again, ignored, taken out, or left as failed.

What is ignored are rows with a name and a reason, one for each CI; a wave's numbers count them.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils.translation import gettext as _

from accounts.language import portal_language
from accounts.models import User
from cmdb.models import ConfigurationItem
from distribution import services as distribution
from distribution.failures import FAILED_BEFORE
from distribution.models import OPEN, Batch, Deployment, DeploymentState
from releases import conditions
from releases.conditions import Accepted, WaveNumbers
from releases.models import FailureDecision, Rollout, RolloutEvent, Verdict, Wave
from releases.policy import RolloutPolicy
from releases.services.log import cis_text, log
from releases.services.rollouts import START, lock_rollout, standing_waves
from releases.services.second_person import check_not_starter
from tickets.exceptions import ConditionRefused, InvalidInput, TransitionRefused
from tickets.lifecycle import check_permission, move
from tickets.services import required

Kind = FailureDecision.Kind
DECISIONS = {"fail": Kind.FAILED, "retry": Kind.RETRIED, "ignore": Kind.IGNORED, "exclude": Kind.EXCLUDED}
STATES = (Rollout.State.RUNNING, Rollout.State.PAUSED)

# Newest attempts that will not be confirmed by themselves.
_LOST = """
(d.state IN ('failed', 'cancelled', 'superseded') OR d.state = ANY(%(open)s) AND d.overdue_at IS NOT NULL)
AND NOT EXISTS (
    SELECT 1 FROM distribution_deployment later
    WHERE later.batch_id = d.batch_id AND later.ci_id = d.ci_id AND later.attempt > d.attempt)
"""
_ACCEPTED = f"""
SELECT x.wave_id, count(*), count(*) FILTER (WHERE d.state = 'failed'), count(*) FILTER (WHERE d.state = ANY(%(open)s))
FROM releases_failuredecision x JOIN distribution_deployment d ON d.id = x.deployment_id
WHERE x.kind = 'ignored' AND x.wave_id = ANY(%(waves)s) AND {_LOST}
GROUP BY x.wave_id
"""  # noqa: S608 - put together from constants
_ACCEPT = f"""
INSERT INTO releases_failuredecision (wave_id, deployment_id, kind, reason, after_verdict_id, decided_by_id, at)
SELECT w.id, d.id, 'ignored', %(reason)s, %(verdict)s, %(actor)s, %(now)s
FROM distribution_deployment d JOIN releases_wave w ON w.batch_id = d.batch_id
WHERE w.id = ANY(%(waves)s) AND {_LOST}
ORDER BY d.id
ON CONFLICT (deployment_id, kind) DO NOTHING
"""  # noqa: S608 - put together from constants


def accepted_of(waves: Iterable[int]) -> dict[int, Accepted]:
    """How many failures of each wave (by id) are ignored and still stand as the CI's newest attempt."""
    keys = list(waves)
    with connection.cursor() as cursor:
        cursor.execute(_ACCEPTED, {"waves": keys, "open": [str(state) for state in OPEN]})
        found = {row[0]: Accepted(*row[1:]) for row in cursor.fetchall()}
    return {key: found.get(key, Accepted()) for key in keys}


def numbers_of_waves(waves: Sequence[Wave]) -> dict[int, WaveNumbers]:
    """What a verdict on each wave (by id) sees now. Two statements."""
    counts, accepted = distribution.counts([wave.batch_id for wave in waves]), accepted_of([wave.pk for wave in waves])
    return {
        wave.pk: conditions.numbers_of(counts[wave.batch_id], size=wave.size, accepted=accepted[wave.pk])
        for wave in waves
    }


def numbers_of_wave(wave: Wave) -> WaveNumbers:
    """What a verdict on the wave sees now."""
    return numbers_of_waves([wave])[wave.pk]


def _newest_verdict(rollout: Rollout) -> int | None:
    return Verdict.objects.filter(wave__rollout=rollout).order_by("pk").values_list("pk", flat=True).last()


def accept_failures(rollout: Rollout, waves: Iterable[Wave], *, actor: User, now: datetime, reason: str) -> int:
    """Ignores every failure so far of those waves that have begun and not passed; how many. The rollout is locked."""
    begun = {Wave.State.FAILED, Wave.State.DEPLOYING, Wave.State.SOAKING}
    with connection.cursor() as cursor:
        cursor.execute(
            _ACCEPT,
            {
                "waves": [wave.pk for wave in waves if wave.state in begun],
                "open": [str(state) for state in OPEN],
                "reason": reason,
                "verdict": _newest_verdict(rollout),
                "actor": actor.pk,
                "now": now,
            },
        )
        return cursor.rowcount


def newest_deployment(rollout: Rollout, ci: ConfigurationItem) -> Deployment:
    """The newest attempt of the rollout on this CI; refuses a CI that is none of its targets."""
    found = Deployment.objects.filter(batch__wave__rollout=rollout, batch__purpose=Batch.Purpose.FORWARD, ci=ci)
    deployment = found.select_related("batch", "ci").order_by("-attempt").first()
    if deployment is None:
        raise ConditionRefused(_("%(ci)s is not a target of %(rollout)s.") % {"ci": ci, "rollout": rollout})
    return deployment


def exclude_ci(rollout: Rollout, *, ci: ConfigurationItem, actor: User, now: datetime, reason: str) -> None:
    """Takes a CI out: one that still waits, also for catching up, or one that failed; it counts as excluded."""
    reason = required(reason, "reason", _("Say why."))
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        deployment = newest_deployment(rollout, ci)
        check_exclude(rollout, deployment, actor=actor)
        if deployment.state == DeploymentState.FAILED:
            _decide(rollout, deployment, Kind.EXCLUDED, actor=actor, now=now, reason=reason)
        elif distribution.exclude_deployment(deployment, now=now, reason=reason):
            log(rollout, RolloutEvent.Kind.EXCLUDED, now=now, text=f"{ci}: {reason}", actor=actor)


def check_exclude(rollout: Rollout, deployment: Deployment, *, actor: User) -> None:
    """One's own CI, or by right, while it waits; a failure that then counts no longer, as one ignores it.

    What is overdue, or waits for another try, was or is a failure, too: the starter does not make it disappear.
    """
    if deployment.state == DeploymentState.FAILED:
        check_decide(rollout, deployment, decision="exclude", actor=actor)
        return
    if deployment.ci.owner_id != actor.pk:
        check_permission(actor, "releases.pause_rollout", _("exclude a CI"))
    if deployment.state in OPEN and (deployment.overdue_at is not None or deployment.attempt > 1):
        check_accepts(rollout, actor)


def retry_failed_cis(rollout: Rollout, *, actor: User, now: datetime) -> int:
    """Queues the failed CIs of a paused rollout once more (attempt + 1); they are offered when it is resumed."""
    check_permission(actor, START, _("retry failed CIs"))
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        check_retry(rollout, actor=actor)
        waves = list(standing_waves(rollout))
        if not _is_retried(rollout):
            check_any_failed(waves)
        return retry_waves(rollout, waves, actor=actor, now=now)


def retry_waves(rollout: Rollout, waves: Iterable[Wave], *, actor: User, now: datetime) -> int:
    """Queues the failed CIs of these waves once more; a failed wave goes on. How many. The rollout is locked."""
    retried = 0
    for wave in waves:
        count = distribution.retry_failed(wave.batch, now=now)
        retried += count
        if count and wave.state == Wave.State.FAILED:
            move(wave, "go_on", actor=None, now=now, update={"finished_at": None}, touch=None)
    if retried:
        with portal_language():
            log(rollout, RolloutEvent.Kind.RETRY, now=now, text=cis_text(retried), actor=actor)
    return retried


def check_any_failed(waves: Iterable[Wave]) -> None:
    """Refuses where no CI of these waves would be tried again."""
    if not distribution.count_retryable([wave.batch_id for wave in waves]):
        raise ConditionRefused(_("No CI of this rollout has failed."))


def check_retry(rollout: Rollout, *, actor: User) -> None:
    """Refuses unless the rollout is paused."""
    check_permission(actor, START, _("retry failed CIs"))
    if rollout.state != Rollout.State.PAUSED:
        raise TransitionRefused(_("Pause %(number)s first.") % {"number": rollout.number})


def _is_retried(rollout: Rollout) -> bool:
    """Whether further attempts are waiting or under way, so that the order was given before."""
    again = Deployment.objects.filter(batch__wave__rollout=rollout, batch__purpose=Batch.Purpose.FORWARD)
    return again.filter(attempt__gt=1, state__in=OPEN).exists()


def check_decide(rollout: Rollout, deployment: Deployment, *, decision: str, actor: User) -> None:
    """Refuses a decision that does not fit the state of rollout and deployment, or the person.

    To ignore or exclude a failure is to accept it: for somebody other than the starter.
    """
    check_permission(actor, START, _("decide on a failure"))
    if rollout.state not in STATES:
        raise TransitionRefused(
            _("%(number)s is “%(state)s”: nothing more is decided about its CIs.")
            % {"number": rollout.number, "state": rollout.get_state_display()}
        )
    wave = standing_waves(rollout).filter(batch=deployment.batch_id).first()
    if wave is None:
        raise TransitionRefused(_("The wave of this CI was taken back."))
    is_failed = deployment.state == DeploymentState.FAILED
    is_lost = is_failed or deployment.state in {DeploymentState.CANCELLED, DeploymentState.SUPERSEDED}
    is_overdue = deployment.state in OPEN and deployment.overdue_at is not None
    waits = deployment.state == DeploymentState.QUEUED and deployment.attempt > 1
    was_left_out = deployment.state == DeploymentState.EXCLUDED and deployment.error_code == FAILED_BEFORE
    fits = {
        "fail": is_failed or waits,
        "retry": is_failed or was_left_out,
        "ignore": is_lost or is_overdue,
        "exclude": is_failed or deployment.state == DeploymentState.QUEUED,
    }
    if not fits[decision]:
        raise TransitionRefused(
            _("The deployment to %(ci)s is “%(state)s”; that does not go together with this decision.")
            % {"ci": deployment.ci, "state": deployment.get_state_display()}
        )
    if decision in {"ignore", "exclude"}:
        check_accepts(rollout, actor)


def check_accepts(rollout: Rollout, actor: User) -> None:
    """Failures are accepted by somebody other than the starter."""
    text = _("You started %(number)s; somebody else must accept its failures.")
    check_not_starter(rollout, actor, text)


def decide_failure(
    rollout: Rollout, *, ci: ConfigurationItem, decision: str, actor: User, now: datetime, reason: str
) -> None:
    """Decides about one CI whose deployment did not succeed, by name and with the reason.

    fail: it stays failed, counts as one, and is not tried again by itself · retry: one more attempt, as soon as its
    wave is offered · ignore: it is accepted, and counts against its wave no longer · exclude: the CI is taken out.
    """
    if decision not in DECISIONS:
        raise InvalidInput(_("One of: %s.") % ", ".join(DECISIONS), field="decision")
    reason = required(reason, "reason", _("Say why."))
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        deployment = newest_deployment(rollout, ci)
        kind = DECISIONS[decision]
        if _is_decided(deployment, kind):
            check_permission(actor, START, _("decide on a failure"))
            return
        check_decide(rollout, deployment, decision=decision, actor=actor)
        _decide(rollout, deployment, kind, actor=actor, now=now, reason=reason)


def _is_decided(deployment: Deployment, kind: str) -> bool:
    """Whether this was decided before, and the CI is where that has led it."""
    decided = FailureDecision.objects.filter(kind=kind, deployment__batch=deployment.batch_id)
    decided = decided.filter(deployment__ci=deployment.ci_id)
    if kind == Kind.RETRIED:
        return deployment.state in OPEN and decided.filter(deployment__attempt=deployment.attempt - 1).exists()
    if kind == Kind.EXCLUDED:
        return deployment.state == DeploymentState.EXCLUDED and decided.exists()
    return decided.filter(deployment=deployment).exists()


def _decide(rollout: Rollout, deployment: Deployment, kind: str, *, actor: User, now: datetime, reason: str) -> None:
    batch, ci = deployment.batch, deployment.ci
    if kind == Kind.RETRIED:
        distribution.retry_failed(batch, ci_ids=[ci.pk], now=now)
        log(rollout, RolloutEvent.Kind.RETRY, now=now, text=str(ci), actor=actor, told=False)
    elif kind == Kind.EXCLUDED and deployment.state == DeploymentState.FAILED:
        distribution.exclude_after_failure(batch, ci_id=ci.pk, now=now, reason=reason)
    elif kind == Kind.EXCLUDED:
        distribution.exclude_deployment(deployment, now=now, reason=reason)
    elif kind == Kind.FAILED and deployment.state == DeploymentState.QUEUED:
        distribution.give_up(deployment.pk, now=now, reason=reason)
    FailureDecision.objects.create(
        wave=Wave.objects.get(batch=batch), deployment=deployment, kind=kind, reason=reason,
        after_verdict_id=_newest_verdict(rollout), decided_by=actor, at=now,
    )  # fmt: skip
    with portal_language():
        text = f"{ci}: {Kind(kind).label}. {reason}"
    log(rollout, RolloutEvent.Kind.DECIDED, now=now, text=text, actor=actor)


def retry_by_itself(rollout: Rollout, waves: list[Wave], policy: RolloutPolicy, now: datetime) -> int:
    """Queues once more what failed with an error class that the policy lists; before the verdict, so that it counts
    as under way; and lets those go whose time has come. How many.
    """
    if policy.retry is None or rollout.state not in STATES:
        return 0
    values: dict[str, Any] = dict(policy.retry)
    due = distribution.let_due_go([wave.batch_id for wave in waves], now=now)
    retried = sum(distribution.retry_listed(wave.batch, now=now, **values) for wave in waves)
    if retried:
        log(rollout, RolloutEvent.Kind.RETRY, now=now, text=cis_text(retried), told=False)
    return retried + due
