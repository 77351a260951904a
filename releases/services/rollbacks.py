"""The ways back: everything, one wave, one CI; and how one goes on that had to stop. The orders are rows; the tick
queues, waits, stops and ends them.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Exists, Max, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from accounts import language
from accounts.models import User
from cmdb.models import ConfigurationItem, InstalledVersion
from distribution import services as distribution
from distribution.models import OPEN, Batch, Deployment, DeploymentItem, DeploymentState, WayBack
from releases.models import Release, Rollout, RolloutEvent, Wave
from releases.policy import RolloutPolicy
from releases.services.failures import accept_failures
from releases.services.log import log
from releases.services.rollouts import add_wave, close_forward_batches, lock_rollout, standing_waves
from releases.services.signatures import check_ways_back
from software.models import Version
from tickets.exceptions import ConditionRefused, InvalidInput, TransitionRefused
from tickets.lifecycle import check_move, check_permission, move
from tickets.services import move_ticket, required

RIGHT = "releases.roll_back_rollout"
ENDED = (Rollout.State.COMPLETED, Rollout.State.ABORTED)
# How a rollback goes on that failed on too many CIs: what failed stays as it is, is tried once more, or all the rest
# stays as it is, too.
GO_ON, RETRY, END = "go_on", "retry", "end"
GONE = (
    Rollout.State.ROLLING_BACK,
    Rollout.State.ROLLED_BACK,
    Rollout.State.ROLLED_BACK_WITH_EXCEPTIONS,
)


def roll_back_rollout(rollout: Rollout, *, actor: User, now: datetime, reason: str) -> None:
    """Sends every CI that got the package back to what it ran before.

    Also after completion or abort, until a later rollout of the same product has offered to one of its CIs.
    """
    reason = required(reason, "reason", _("Say why."))
    check_permission(actor, RIGHT, _("roll back a rollout"))
    with transaction.atomic():
        if rollout.state in ENDED:
            # The release first, as a start does: both make a rollout of it the active one. The tick writes its entries.
            Release.objects.select_for_update(no_key=True).only("pk").get(pk=rollout.release_id)
        rollout = lock_rollout(rollout)
        if rollout.state in GONE:
            return
        check_roll_back(rollout, actor=actor, now=now)
        order_rollback(rollout, actor=actor, now=now, reason=reason)


def check_roll_back(rollout: Rollout, *, actor: User, now: datetime) -> None:
    """Refuses by state, right, a later rollout of the same products, and missing signatures."""
    check_permission(actor, RIGHT, _("roll back a rollout"))
    check_move(rollout, "roll_back", actor=actor)
    check_has_way_back(rollout)
    if rollout.state in ENDED:
        check_not_overtaken(rollout)
        _check_alone(rollout)
        check_ways_back(rollout, now=now)
    if rollout.state == Rollout.State.ABORTED and not brought(rollout).exists():
        raise ConditionRefused(_("%(number)s installed nothing.") % {"number": rollout.number})


def order_rollback(rollout: Rollout, *, actor: User | None, now: datetime, reason: str) -> None:
    """The order itself, for people and for the engine: nothing more is offered, open deployments are cancelled, and
    one rollback wave takes every CI back."""
    update = {"pause_kind": "", "pause_reason": "", "waits_for": "", "settled_at": None, "finished_at": None}
    move(rollout, "roll_back", actor=actor, now=now, update=update)
    if rollout.release.state == Release.State.READY:
        # An aborted rollout: nobody edits or starts the release while its CIs go back.
        text = language.gettext("%s is rolled back.") % rollout.number
        move_ticket(rollout.release, "deploy", actor=None, now=now, text=text)
    distribution.cancel_open(close_forward_batches(rollout), now=now, reason=reason)
    _open_rollback_wave(rollout, undoes=None, now=now)
    log(rollout, RolloutEvent.Kind.ROLLBACK_ORDERED, now=now, text=reason, actor=actor)


def check_has_way_back(rollout: Rollout, cis: Any = None) -> None:
    """Refuses when the package says of all the CIs (or of `cis`, ids or a query) that nothing leads back from it."""
    items = DeploymentItem.objects.filter(deployment__batch__in=rollout.forward_batch_ids())
    if cis is not None:
        items = items.filter(deployment__ci__in=cis)
    stuck = items.filter(way_back=WayBack.IMPOSSIBLE)
    if not stuck.exists() or items.exclude(deployment__ci__in=stuck.values("deployment__ci")).exists():
        return
    raise ConditionRefused(
        _(
            "The package of %s has no way back, as was accepted before the start. Pause or abort the rollout, and mend "
            "the CIs by a new version."
        )
        % rollout.number,
        code="no_way_back",
    )


def has_impossible(rollout: Rollout) -> bool:
    """Whether nothing leads back from the package on some of its CIs: the engine then never rolls back by itself."""
    items = DeploymentItem.objects.filter(deployment__batch__in=rollout.forward_batch_ids())
    return items.filter(way_back=WayBack.IMPOSSIBLE).exists()


def not_ready(version: str) -> QuerySet[DeploymentItem]:
    """Items whose `from_version` or `to_version` is not, or no longer, offered to anybody: withdrawn or archived."""
    named = DeploymentItem.objects.filter(**{f"{version}__isnull": False})
    return named.exclude(**{f"{version}__state": Version.State.READY})


def _check_alone(rollout: Rollout) -> None:
    other = Rollout.objects.active().filter(release=rollout.release_id).exclude(pk=rollout.pk).first()
    if other is not None:
        raise ConditionRefused(
            _("%(other)s of the same release is under way. Abort it first.") % {"other": other.number}
        )


def brought(rollout: Rollout) -> QuerySet[Deployment]:
    """Deployments that changed their CI, or may have."""
    changed = [DeploymentState.SUCCEEDED, DeploymentState.CONFIRMING]
    return brought_deployments(rollout).filter(Q(state__in=changed) | Q(offered_at__isnull=False, state__in=OPEN))


def forward_deployments(rollout: Rollout) -> QuerySet[Deployment]:
    # By their ids, so that PostgreSQL knows how many deployments they have.
    batches = rollout.waves.filter(kind=Wave.Kind.FORWARD).values_list("batch", flat=True)
    return Deployment.objects.filter(batch__in=list(batches))


def brought_deployments(rollout: Rollout) -> QuerySet[Deployment]:
    """Those that go back with it: its own, and those of its release's rollouts that were aborted before it."""
    return Deployment.objects.filter(batch__in=rollout.forward_batch_ids())


def overtaking(rollout: Rollout) -> QuerySet[Deployment]:
    """Deployments of later rollouts of the same products that this rollout's CIs were offered.

    Those that ended and left this rollout's version on the CI (failed there, or rolled back since) do not count.
    """
    brought = brought_deployments(rollout)
    items = DeploymentItem.objects.filter(deployment__in=brought.values("pk"))
    ours = InstalledVersion.objects.filter(
        ci=OuterRef("ci"),
        product=OuterRef("items__product"),
        valid_to__isnull=True,
        version__in=items.values("to_version"),
    )
    return Deployment.objects.filter(
        Q(state__in=OPEN) | ~Exists(ours),
        batch__wave__rollout__pk__gt=rollout.pk,
        offered_at__isnull=False,
        ci__in=brought.filter(offered_at__isnull=False).values("ci"),
        items__product__in=items.values("product"),
    )


def check_not_overtaken(rollout: Rollout, cis: Iterable[int] | None = None) -> None:
    """Refuses when a later rollout of one of the products has offered to one of its CIs (or one of `cis`)."""
    found = overtaking(rollout)
    if cis is not None:
        found = found.filter(ci__in=list(cis))
    later = found.values_list("batch__label", flat=True).first()
    if later:
        raise ConditionRefused(
            _("%(later)s has already offered a later version to some of these CIs. Roll that one back instead.")
            % {"later": later},
            code="overtaken",
        )


def _open_rollback_wave(rollout: Rollout, *, undoes: Wave | None, now: datetime) -> Wave:
    policy = RolloutPolicy.from_json(rollout.policy).of_rollback()
    highest = rollout.waves.filter(kind=Wave.Kind.ROLLBACK).aggregate(n=Max("number"))["n"] or 0
    wave = add_wave(rollout, number=highest + 1, kind=Wave.Kind.ROLLBACK, size=0, policy=policy, now=now, undoes=undoes)
    move(wave, "open", actor=None, now=now, update={"started_at": now}, touch=None)
    distribution.open_batch(wave.batch, now=now)
    return wave


def _check_partial(rollout: Rollout, actor: User, now: datetime) -> None:
    check_permission(actor, RIGHT, _("roll back"))
    if rollout.state not in {Rollout.State.PAUSED, Rollout.State.COMPLETED}:
        raise TransitionRefused(
            _("%(number)s is “%(state)s”; pause it first to roll back a part of it.")
            % {"number": rollout.number, "state": rollout.get_state_display()}
        )
    if rollout.state == Rollout.State.COMPLETED:
        check_ways_back(rollout, now=now)


def check_roll_back_wave(rollout: Rollout, wave: Wave, *, actor: User, now: datetime) -> None:
    """Refuses by state and right, and a wave that has not begun or is overtaken by a later rollout."""
    _check_partial(rollout, actor, now)
    if not standing_waves(rollout).exclude(state=Wave.State.WAITING).filter(pk=wave.pk).exists():
        raise TransitionRefused(_("This wave has nothing to take back."))
    check_not_overtaken(rollout, Deployment.objects.filter(batch=wave.batch_id).values_list("ci", flat=True))
    check_has_way_back(rollout, Deployment.objects.filter(batch=wave.batch_id).values("ci"))


def roll_back_wave(wave: Wave, *, actor: User, now: datetime, reason: str) -> Wave:
    """Sends one wave's CIs back, in a paused or completed rollout, whose state stays. Ordered again: that rollback."""
    reason = required(reason, "reason", _("Say why."))
    check_permission(actor, RIGHT, _("roll back"))
    with transaction.atomic():
        rollout = lock_rollout(wave.rollout)
        current = Wave.objects.select_related("batch").get(pk=wave.pk)
        if (ordered := current.rollbacks.order_by("pk").last()) is not None:
            return ordered
        check_roll_back_wave(rollout, current, actor=actor, now=now)
        return order_wave_rollback(current, rollout=rollout, actor=actor, now=now, reason=reason)


def order_wave_rollback(wave: Wave, *, rollout: Rollout, actor: User | None, now: datetime, reason: str) -> Wave:
    """The order itself, for people and for the engine."""
    distribution.close_batch(wave.batch)
    distribution.cancel_open([wave.batch_id], now=now, reason=reason)
    Rollout.objects.filter(pk=rollout.pk, settled_at__isnull=False).update(settled_at=None, updated_at=now)
    undo = _open_rollback_wave(rollout, undoes=wave, now=now)
    log(rollout, RolloutEvent.Kind.ROLLBACK_ORDERED, now=now, text=reason, actor=actor, wave=wave)
    return undo


def check_roll_back_ci(rollout: Rollout, ci: ConfigurationItem, *, actor: User, now: datetime) -> None:
    """Refuses by state and right, and a CI that a later rollout has reached."""
    _check_partial(rollout, actor, now)
    check_not_overtaken(rollout, [ci.pk])
    check_has_way_back(rollout, [ci.pk])


def way_back_of(rollout: Rollout, ci: ConfigurationItem) -> Wave | None:
    """The rollback that has brought this CI back, or is doing so."""
    going = Deployment.objects.filter(batch__wave__rollout=rollout, batch__purpose=Batch.Purpose.ROLLBACK, ci=ci)
    found = going.exclude(state__in=[DeploymentState.FAILED, DeploymentState.CANCELLED]).order_by("pk").last()
    return found.batch.wave if found is not None else None


def roll_back_ci(rollout: Rollout, *, ci: ConfigurationItem, actor: User, now: datetime, reason: str) -> Wave:
    """Sends one CI back, in a paused or completed rollout, whose state stays. Ordered again: that rollback."""
    reason = required(reason, "reason", _("Say why."))
    check_permission(actor, RIGHT, _("roll back"))
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        if (ordered := way_back_of(rollout, ci)) is not None:
            return ordered
        check_roll_back_ci(rollout, ci, actor=actor, now=now)
        forward = list(brought_deployments(rollout).filter(ci=ci).values_list("batch", flat=True))
        undo = _open_rollback_wave(rollout, undoes=None, now=now)
        queued = distribution.queue_rollback(undo.batch, forward_batch_ids=forward, ci_ids=[ci.pk], now=now)
        if not queued:
            raise ConditionRefused(_("%(ci)s did not get the package, so there is nothing to take back.") % {"ci": ci})
        Wave.objects.filter(pk=undo.pk).update(size=queued)
        Rollout.objects.filter(pk=rollout.pk, settled_at__isnull=False).update(settled_at=None, updated_at=now)
        log(rollout, RolloutEvent.Kind.ROLLBACK_ORDERED, now=now, text=f"{ci}: {reason}", actor=actor)
    return undo


def stopped_waves(rollout: Rollout) -> QuerySet[Wave]:
    """Rollbacks that failed on too many CIs and wait for a person."""
    stopped = rollout.waves.filter(kind=Wave.Kind.ROLLBACK, state=Wave.State.FAILED)
    return stopped.select_related("batch").order_by("number")


def check_continue(rollout: Rollout, *, actor: User) -> list[Wave]:
    """Refuses by right, and where no rollback was stopped; gives those that were."""
    check_permission(actor, RIGHT, _("decide about a rollback"))
    waves = list(stopped_waves(rollout))
    if not waves:
        raise TransitionRefused(_("No rollback of %s has been stopped.") % rollout.number)
    return waves


def continue_rollback(rollout: Rollout, *, actor: User, now: datetime, reason: str, choice: str = GO_ON) -> None:
    """A person decides about rollbacks that were stopped: `go_on` with the rest, `retry` what failed as well, or `end`.

    Failures so far count as accepted; the CIs that are not back stand in the list of exceptions.
    """
    if not reason.strip():
        raise InvalidInput(_("Say why."), field="reason")
    if choice not in (GO_ON, RETRY, END):
        raise InvalidInput(_("Choose one of go_on, retry, end."), field="choice")
    check_permission(actor, RIGHT, _("decide about a rollback"))
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        waves = check_continue(rollout, actor=actor)
        Rollout.objects.filter(pk=rollout.pk).update(
            round=rollout.round + 1, waits_for="", settled_at=None, updated_at=now
        )
        rollout.refresh_from_db()
        for wave in waves:
            if choice == RETRY and distribution.retry_failed(wave.batch, now=now):
                log(rollout, RolloutEvent.Kind.RETRY, now=now, actor=actor, wave=wave, told=False)
            accept_failures(rollout, [wave], actor=actor, now=now, reason=reason)
            move(wave, "go_on", actor=None, now=now, update={"finished_at": None}, touch=None)
            if choice == END:
                distribution.cancel_open([wave.batch_id], now=now, reason=reason)
            else:
                distribution.open_batch(wave.batch, now=now)
            log(rollout, RolloutEvent.Kind.ROLLBACK_CONTINUED, now=now, text=reason, actor=actor, wave=wave)
