"""The verbs of a rollout: start, pause, resume, abort, roll back. They write rows; the tick does the rest."""

from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from accounts.models import User
from changes.models import Change
from changes.services import implement_change
from cmdb.models import ConfigurationItem
from distribution import services as distribution
from distribution.models import Batch, Deployment, WayBack
from problems.models import Problem
from problems.services import fix_problem_by_release
from releases.conditions import not_confirmed, numbers_of
from releases.models import Release, Rollout, RolloutEvent, RolloutException, Wave
from releases.policy import RolloutPolicy
from releases.selector import TargetSelector
from releases.services.approval import valid_approval
from releases.services.content import check_files, check_ready, lock_release, release_hash
from releases.services.generations import keep_generation
from releases.services.incident_gate import accept_incidents
from releases.services.log import log
from releases.services.overriding import accept_blocks
from releases.services.signatures import check_signed
from releases.services.soak_clock import start_soak_clock, stop_soak_clock
from releases.targets import check_groups, failed_before, target_cis, without_way_back
from releases.wave_plan import check_wave_groups, planned_waves
from releases.waves import Rule
from tickets.exceptions import ConditionRefused, InvalidInput, SeparationOfDuties, TransitionRefused
from tickets.lifecycle import check_permission, move
from tickets.services import move_ticket

# A list of targets that grew or shrank by more than this since the approval asks for a new one, in percent.
TARGET_TOLERANCE = 10
ROLLBACK_WEIGHT = 900


def start_rollout(release: Release, *, actor: User, now: datetime) -> Rollout:
    """Starts the release's plan: writes the rollout and its waves, and moves release, RFCs and problems.

    Refuses without a valid approval by somebody else, when the number of targets changed by more than 10 % since,
    when a target has no way back and no exception is recorded, and while another rollout of it is active.
    """
    check_permission(actor, "releases.start_rollout", _("start a rollout"))
    with transaction.atomic():
        release = lock_release(release)
        if release.state != Release.State.READY:
            raise TransitionRefused(
                _("%(number)s is “%(state)s”; a rollout starts from ready.")
                % {"number": release.number, "state": release.get_state_display()}
            )
        _check_gates(release, actor, now)
        policy = RolloutPolicy.from_json(release.policy)
        rollout = Rollout.objects.create(
            release=release,
            policy=policy.to_json(),
            targets=TargetSelector.from_json(release.targets).to_json(),
            generation=keep_generation(release, actor=release.last_editor, now=now).number,
            approved_hash=release_hash(release),
            started_by=actor,
            started_at=now,
            updated_at=now,
        )
        planned = [wave for wave in planned_waves(release) if wave.size]
        for number, wave in enumerate(planned, start=1):
            add_wave(
                rollout, number=number, kind=Wave.Kind.FORWARD, size=wave.size, rule=wave.rule, policy=policy, now=now
            )
        move_ticket(release, "deploy", actor=None, now=now, text=_("%s started.") % rollout.number)
        _start_tickets(rollout, now)
        log(rollout, RolloutEvent.Kind.STARTED, now=now, actor=actor, told=False)
    return rollout


def _check_gates(release: Release, actor: User, now: datetime) -> None:
    approval = valid_approval(release)
    if approval is None:
        raise ConditionRefused(_("The present content is not approved. Ask a release manager to approve it."))
    if approval.approver_id == actor.pk:
        raise SeparationOfDuties(_("You approved this release; somebody else must start it."))
    # Otherwise whoever may not resume a rollout that stopped by itself would abort it and start another one.
    breached = release.rollouts.filter(
        breach_incident__isnull=False, breach_incident__created_at__gte=approval.created_at
    )
    if (stopped := breached.order_by("pk").last()) is not None:
        raise ConditionRefused(
            _("%(rollout)s had too many failures since the approval. Ask for a new approval.")
            % {"rollout": stopped.number},
            code="breached_since_approval",
        )
    check_ready(release)
    check_files(release)
    check_groups(release)
    check_wave_groups(release)
    check_signed(release, now=now)
    targets = target_cis(release).count()
    if not targets:
        raise ConditionRefused(_("No CI matches any more: there is nothing to roll out to."))
    if abs(targets - approval.target_count) * 100 > TARGET_TOLERANCE * approval.target_count:
        raise ConditionRefused(
            _("%(before)d CIs were approved, now %(now)d match: more than %(p)d %% difference. Ask for a new approval.")
            % {"before": approval.target_count, "now": targets, "p": TARGET_TOLERANCE},
            code="targets_changed",
        )
    exceptions = release.exceptions.filter(kind=RolloutException.Kind.NO_WAY_BACK, content_hash=release_hash(release))
    accepted = exceptions.filter(ci__isnull=False).values("ci")
    lost = list(without_way_back(release).exclude(pk__in=accepted).values_list("name", flat=True)[:20])
    if lost:
        raise ConditionRefused(
            _(
                "Without a way back: %(cis)s. Put their present version into the media library, exclude them, or have "
                "an exception recorded."
            )
            % {"cis": ", ".join(lost)},
            code="no_way_back",
        )
    impossible = release.items.filter(way_back=WayBack.IMPOSSIBLE).select_related("version__product")
    if impossible and not exceptions.filter(ci__isnull=True).exists():
        raise ConditionRefused(
            _(
                "Nothing leads back from %(versions)s, as the package says: too many failures will only stop the "
                "rollout. Have an exception for the whole package recorded, if that is accepted."
            )
            % {"versions": ", ".join(str(item.version) for item in impossible)},
            code="no_way_back",
        )
    if failed_before(release).count() == targets:
        raise ConditionRefused(
            _(
                "It failed before on every target, and no CI gets it again by itself. Name in the plan the CIs on "
                "which it is tried again, or make another version."
            ),
            code="failed_before",
        )
    unfit = release.changes.exclude(
        state__in=[Change.State.AUTHORISED, Change.State.SCHEDULED, Change.State.IMPLEMENTING]
    )
    if names := [f"{change.number} ({change.get_state_display()})" for change in unfit]:
        raise ConditionRefused(_("These RFCs are no longer authorised: %s.") % ", ".join(names))


def _start_tickets(rollout: Rollout, now: datetime) -> None:
    """RFCs to implementing, their problems to fix in progress."""
    key = f"rollout:{rollout.pk}:started"
    text = _("%(rollout)s of %(release)s started.") % {
        "rollout": rollout.number,
        "release": rollout.release.number,
    }
    for change in rollout.release.changes.order_by("pk"):
        if change.state != Change.State.IMPLEMENTING:
            implement_change(change, now=now, key=key, text=text)
    for problem in Problem.objects.filter(changes__releases=rollout.release).distinct().order_by("pk"):
        fix_problem_by_release(problem, now=now, key=key, text=text)


def add_wave(
    rollout: Rollout,
    *,
    number: int,
    kind: str,
    size: int,
    policy: RolloutPolicy,
    now: datetime,
    rule: Rule | None = None,
    undoes: Wave | None = None,
) -> Wave:
    """Writes a wave with its closed batch."""
    is_rollback = kind == Wave.Kind.ROLLBACK
    batch = distribution.create_batch(
        label=rollout.number,
        purpose=Batch.Purpose.ROLLBACK if is_rollback else Batch.Purpose.FORWARD,
        now=now,
        weight=ROLLBACK_WEIGHT if is_rollback else 500,
        max_in_flight=policy.max_in_flight,
        max_downloads=policy.max_downloads,
        offer_deadline=policy.offer_deadline,
        progress_deadline=policy.progress_deadline,
        confirm_deadline=policy.confirm_deadline,
        total_deadline=policy.total_deadline,
        cancel_deadline=policy.cancel_deadline,
        # What must go back goes back at once; so does what cannot wait for anybody's window.
        mode=Batch.Mode.FORCED if is_rollback else policy.mode,
        force_after=None if is_rollback else policy.force_after,
        ignores_windows=is_rollback or rollout.release.release_type == Release.Type.EMERGENCY,
    )
    return Wave.objects.create(
        rollout=rollout, number=number, kind=kind, size=size, rule=dict(rule or {}), batch=batch, undoes=undoes
    )


def lock_rollout(rollout: Rollout) -> Rollout:
    """The row, locked against the tick, read into the caller's own instance."""
    Rollout.objects.select_for_update().only("pk").get(pk=rollout.pk)
    rollout.refresh_from_db()
    return rollout


def standing_waves(rollout: Rollout) -> QuerySet[Wave]:
    """Forward waves, in order, that were not taken back and are not being taken back."""
    going_back = [Wave.State.DEPLOYING, Wave.State.SOAKING, Wave.State.FAILED]
    undone = rollout.waves.filter(kind=Wave.Kind.ROLLBACK, state__in=going_back, undoes__isnull=False)
    waves = rollout.waves.filter(kind=Wave.Kind.FORWARD).exclude(state=Wave.State.ROLLED_BACK)
    return waves.exclude(pk__in=undone.values("undoes")).select_related("batch").order_by("number")


def close_forward_batches(rollout: Rollout) -> list[int]:
    """Stops offering; returns the ids of all forward batches."""
    batches = [wave.batch for wave in rollout.waves.filter(kind=Wave.Kind.FORWARD).select_related("batch")]
    for batch in batches:
        if batch.is_open:
            distribution.close_batch(batch)
    return [batch.pk for batch in batches]


def pause_rollout(rollout: Rollout, *, actor: User, now: datetime, reason: str) -> None:
    """Offers nothing new; what is under way goes on. One person is enough."""
    if not reason.strip():
        raise InvalidInput(_("Say why."), field="reason")
    with transaction.atomic():
        pause(lock_rollout(rollout), kind=Rollout.PauseKind.MANUAL, reason=reason, actor=actor, now=now)


def pause(rollout: Rollout, *, kind: str, reason: str, actor: User | None, now: datetime) -> None:
    """The pause itself, for people and for the engine."""
    move(
        rollout,
        "pause",
        actor=actor,
        now=now,
        update={"pause_kind": kind, "pause_reason": reason, "waits_for": ""},
    )
    close_forward_batches(rollout)
    stop_soak_clock(rollout, now=now)
    log(rollout, RolloutEvent.Kind.PAUSED, now=now, text=reason, actor=actor)


def resume_rollout(rollout: Rollout, *, actor: User, now: datetime, reason: str = "") -> None:
    """Goes on. After a stop by the engine for failures: by somebody other than the starter, and the failures so far
    count as accepted; verdicts begin a new round."""
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        kind = rollout.pause_kind
        automatic = kind in {
            Rollout.PauseKind.BREACH,
            Rollout.PauseKind.STRAGGLERS,
            Rollout.PauseKind.WINDOW,
            Rollout.PauseKind.INCIDENTS,
        }
        if automatic and actor.pk == rollout.started_by_id:
            raise SeparationOfDuties(
                _("%(number)s stopped by itself; somebody other than the one who started it must resume it.")
                % {"number": rollout.number}
            )
        if automatic and not reason.strip():
            raise InvalidInput(_("Say why it may go on."), field="reason")
        waves = list(standing_waves(rollout))
        if not waves and rollout.state == Rollout.State.PAUSED:
            raise ConditionRefused(
                _("Every wave of %(number)s was taken back, so nothing is left to do. Roll it back or abort it.")
                % {"number": rollout.number}
            )
        if kind == Rollout.PauseKind.WINDOW:
            accept_blocks(rollout, actor=actor, now=now, reason=reason)
        update = {"pause_kind": "", "pause_reason": "", "round": rollout.round + 1}
        move(rollout, "resume", actor=actor, now=now, update=update)
        start_soak_clock(rollout, now=now)
        log(rollout, RolloutEvent.Kind.RESUMED, now=now, text=reason, actor=actor)
        for wave in waves:
            if kind in {Rollout.PauseKind.BREACH, Rollout.PauseKind.STRAGGLERS}:
                _accept_failures(wave, now)
            if kind in {Rollout.PauseKind.BREACH, Rollout.PauseKind.INCIDENTS}:
                accept_incidents(rollout, wave)
            # Also those that have passed: their stragglers may still come.
            if wave.state in {Wave.State.DEPLOYING, Wave.State.SOAKING, Wave.State.PASSED}:
                distribution.open_batch(wave.batch, now=now)


def _accept_failures(wave: Wave, now: datetime) -> None:
    if wave.state not in {Wave.State.FAILED, Wave.State.DEPLOYING, Wave.State.SOAKING}:
        return
    counts = distribution.counts([wave.batch_id])[wave.batch_id]
    numbers = numbers_of(counts, size=wave.size)
    accepted = not_confirmed(numbers)
    if wave.state == Wave.State.FAILED:
        update = {"accepted_failures": accepted, "finished_at": None}
        move(wave, "go_on", actor=None, now=now, update=update, touch=None)
    elif wave.accepted_failures != accepted:
        Wave.objects.filter(pk=wave.pk).update(accepted_failures=accepted)


def abort_rollout(rollout: Rollout, *, actor: User, now: datetime, reason: str) -> None:
    """Cancels everything that is open; what is installed stays and can be rolled back later. One person is enough."""
    if not reason.strip():
        raise InvalidInput(_("Say why."), field="reason")
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        move(
            rollout,
            "abort",
            actor=actor,
            now=now,
            update={"pause_kind": "", "pause_reason": "", "waits_for": ""},
        )
        distribution.cancel_open(close_forward_batches(rollout), now=now, reason=reason)
        log(rollout, RolloutEvent.Kind.ABORTING, now=now, text=reason, actor=actor)


def exclude_ci(rollout: Rollout, *, ci: ConfigurationItem, actor: User, now: datetime, reason: str) -> None:
    """Takes a CI out of a running or paused rollout while its deployment waits; it is counted as excluded."""
    if ci.owner_id != actor.pk:
        check_permission(actor, "releases.pause_rollout", _("exclude a CI"))
    if not reason.strip():
        raise InvalidInput(_("Say why."), field="reason")
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        deployment = (
            Deployment.objects.filter(batch__wave__rollout=rollout, batch__purpose=Batch.Purpose.FORWARD, ci=ci)
            .order_by("-attempt")
            .first()
        )
        if deployment is None:
            raise ConditionRefused(_("%(ci)s is not a target of %(rollout)s.") % {"ci": ci, "rollout": rollout})
        distribution.exclude_deployment(deployment, now=now, reason=reason)
        log(rollout, RolloutEvent.Kind.EXCLUDED, now=now, text=f"{ci}: {reason}", actor=actor)


def retry_failed_cis(rollout: Rollout, *, actor: User, now: datetime) -> int:
    """Queues the failed CIs of a paused rollout once more (attempt + 1); they are offered when it is resumed."""
    check_permission(actor, "releases.start_rollout", _("retry failed CIs"))
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        if rollout.state != Rollout.State.PAUSED:
            raise TransitionRefused(_("Pause %(number)s first.") % {"number": rollout.number})
        retried = 0
        for wave in standing_waves(rollout):
            count = distribution.retry_failed(wave.batch, now=now)
            retried += count
            if count and wave.state == Wave.State.FAILED:
                move(wave, "go_on", actor=None, now=now, update={"finished_at": None}, touch=None)
        if not retried:
            raise ConditionRefused(_("No CI of this rollout has failed."))
        log(rollout, RolloutEvent.Kind.RETRY, now=now, text=str(retried), actor=actor)
    return retried
