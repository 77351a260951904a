"""The end of a rollout: an abort waits for what is under way; what has ended tells the tickets and waits for
stragglers, then the tick need not look any more."""

from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from changes.services import return_change_to_schedule
from distribution import services as distribution
from releases import going_back
from releases.judging import judge_errors
from releases.models import Rollout, RolloutEvent
from releases.services import cascade
from releases.services.log import log, under_way_text, wait_for
from releases.services.rollouts import close_forward_batches
from tickets.lifecycle import move
from tickets.services import move_ticket

State = Rollout.State


def finish_abort(rollout: Rollout, now: datetime) -> bool:
    """Cancels what is open, in chunks; ends the abort as soon as nothing is under way any more."""
    batches = close_forward_batches(rollout)
    if distribution.cancel_rest(batches, now=now):
        return True
    if judge_errors(rollout, now).has_acted or distribution.pass_deadlines(batches, now=now):
        return True
    if waiting := distribution.under_way(batches):
        return wait_for(rollout, under_way_text(waiting), now)
    move(rollout, "finish_abort", actor=None, now=now, update={"finished_at": now, "waits_for": ""})
    # Closed by the device and overdue for its proof: it may have been installed.
    installed = sum(c.succeeded + c.confirming for c in distribution.counts(batches).values())
    text = ngettext(
        "%(rollout)s aborted; installed on %(n)d CI.", "%(rollout)s aborted; installed on %(n)d CIs.", installed
    ) % {"rollout": rollout.number, "n": installed}
    move_ticket(rollout.release, "return_to_ready", actor=None, now=now, text=text)
    if not installed:
        _return_changes(rollout, text, now)
    log(rollout, RolloutEvent.Kind.ABORTED, now=now, text=text, told=False)
    return True


def _return_changes(rollout: Rollout, text: str, now: datetime) -> None:
    for change in rollout.release.changes.order_by("pk"):
        return_change_to_schedule(change, now=now, key=f"rollout:{rollout.pk}:aborted", text=text)


def settle(rollout: Rollout, now: datetime) -> bool:
    """After the end: the cascade, rollbacks of parts, CIs that catch up; then the tick need not look any more."""
    if rollout.cascade:
        cascade.advance(rollout, now=now)
        return True
    if going_back.settle_waves(rollout, now):
        return True
    if going_back.open_waves(rollout).exists():
        return wait_for(rollout, going_back.waits_for(rollout) or _("CIs on their way back"), now)
    kind = _CASCADES.get(State(rollout.state))
    if kind and cascade.ended_of(rollout) != rollout.cascade_ended:
        # Somebody caught up, or fell back: tell whom it concerns.
        cascade.begin(rollout, kind, now=now)
        return True
    batches = list(rollout.waves.values_list("batch", flat=True))
    # Who comes back later still gets it, until a newer rollout has reached him or he runs something newer.
    if distribution.end_stragglers(batches, now=now):
        return True
    if distribution.has_open(batches):
        return wait_for(rollout, _("CIs that may still catch up"), now)
    Rollout.objects.filter(pk=rollout.pk).update(settled_at=now, waits_for="", updated_at=now)
    return False


_CASCADES = {
    State.COMPLETED: cascade.COMPLETED,
    State.ROLLED_BACK: cascade.ROLLED_BACK,
    State.ROLLED_BACK_WITH_EXCEPTIONS: cascade.ROLLED_BACK,
}
