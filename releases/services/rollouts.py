"""Starts a rollout, and what its other verbs share. They write rows; the tick does the rest."""

from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from accounts import language
from accounts.models import User
from changes.models import Change
from changes.services import implement_change
from distribution import services as distribution
from distribution.models import Batch, WayBack
from problems.models import Problem
from problems.services import fix_problem_by_release
from releases.models import Release, Rollout, RolloutEvent, RolloutException, Wave
from releases.plan_findings import check_plan
from releases.policy import RolloutPolicy
from releases.selector import TargetSelector
from releases.services.approval import valid_approval
from releases.services.content import check_files, check_ready, lock_release, release_hash
from releases.services.generations import keep_generation
from releases.services.log import log
from releases.services.signatures import check_signed
from releases.targets import check_groups, failed_before, without_way_back
from releases.wave_plan import PlannedWave, check_wave_groups, planned_waves
from releases.waves import Rule
from tickets.exceptions import ConditionRefused, SeparationOfDuties, TransitionRefused
from tickets.lifecycle import check_permission
from tickets.services import move_ticket

# A list of targets that grew or shrank by more than this since the approval asks for a new one, in percent.
TARGET_TOLERANCE = 10
START = "releases.start_rollout"
ROLLBACK_WEIGHT = 900


def start_rollout(release: Release, *, actor: User, now: datetime) -> Rollout:
    """Starts the release's plan: writes the rollout and its waves, and moves release, RFCs and problems.

    Refuses without a valid approval by somebody else, when the number of targets changed by more than 10 % since,
    when a target has no way back and no exception is recorded. Ordered again while it runs, it gives that rollout.
    """
    check_permission(actor, START, _("start a rollout"))
    with transaction.atomic():
        release = lock_release(release)
        if (running := started(release)) is not None:
            return running
        planned = [wave for wave in check_start(release, actor, now) if wave.size]
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
        for number, wave in enumerate(planned, start=1):
            add_wave(
                rollout, number=number, kind=Wave.Kind.FORWARD, size=wave.size, rule=wave.rule, policy=policy, now=now
            )
        Release.objects.filter(pk=release.pk).update(start_for=None, start_at=None)
        move_ticket(release, "deploy", actor=None, now=now, text=language.gettext("%s started.") % rollout.number)
        _start_tickets(rollout, now)
        log(rollout, RolloutEvent.Kind.STARTED, now=now, actor=actor, told=False)
    return rollout


def started(release: Release) -> Rollout | None:
    """The rollout of the release that is under way and goes forward."""
    ahead = [Rollout.State.PREPARING, Rollout.State.RUNNING, Rollout.State.PAUSED]
    return Rollout.objects.filter(release=release, state__in=ahead).first()


def check_start(release: Release, actor: User, now: datetime) -> list[PlannedWave]:
    """Refuses while a gate of the release is closed; gives the waves of its plan over the targets as they are now.

    Of a large fleet each question takes its time, so none is asked twice.
    """
    if release.state != Release.State.READY:
        raise TransitionRefused(
            _("%(number)s is “%(state)s”; a rollout starts from ready.")
            % {"number": release.number, "state": release.get_state_display()}
        )
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
    planned = planned_waves(release)
    targets = sum(wave.size for wave in planned)
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
    check_plan(release, planned, now=now)
    unfit = release.changes.exclude(
        state__in=[Change.State.AUTHORISED, Change.State.SCHEDULED, Change.State.IMPLEMENTING]
    )
    if names := [f"{change.number} ({change.get_state_display()})" for change in unfit]:
        raise ConditionRefused(_("These RFCs are no longer authorised: %s.") % ", ".join(names))
    return planned


def _start_tickets(rollout: Rollout, now: datetime) -> None:
    """RFCs to implementing, their problems to fix in progress."""
    key = f"rollout:{rollout.pk}:started"
    text = language.gettext("%(rollout)s of %(release)s started.") % {
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
