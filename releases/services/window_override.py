"""Going on in spite of a freeze or of the planned time: by right, by a second person, with a reason, recorded."""

from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import language
from accounts.models import User
from distribution import services as distribution
from releases.models import Rollout, RolloutEvent, Wave
from releases.services.log import log
from releases.services.overriding import OVERRIDE, accept_blocks, is_overridden
from releases.services.rollouts import lock_rollout, standing_waves
from releases.services.soak_clock import start_soak_clock
from tickets.exceptions import ConditionRefused, InvalidInput
from tickets.lifecycle import check_permission, move


def override_window(rollout: Rollout, *, actor: User, now: datetime, reason: str) -> None:
    """Lets a rollout offer in spite of what stands against it just now; the next freeze, or a time that is moved, binds
    it again. Refuses who started it, and where nothing stands against it. Ordered again, it changes nothing."""
    check_permission(actor, OVERRIDE, _("override freezes and planned times"))
    if not reason.strip():
        raise InvalidInput(_("Say why it may go on."), field="reason")
    with transaction.atomic():
        rollout = lock_rollout(rollout)
        if is_overridden(rollout, now):
            return
        if not accept_blocks(rollout, actor=actor, now=now, reason=reason):
            raise ConditionRefused(_("No freeze and no planned time stands against %s now.") % rollout.number)
        if rollout.state == Rollout.State.PAUSED and rollout.pause_kind in Rollout.OUTSIDE:
            resume_after_window(rollout, now=now, actor=actor, reason=reason)


def resume_after_window(rollout: Rollout, *, now: datetime, actor: User | None = None, reason: str = "") -> None:
    """Goes on where the window stopped it; nothing is accepted by that."""
    update = {"pause_kind": "", "pause_reason": "", "round": rollout.round + 1}
    move(rollout, "resume", actor=actor, now=now, update=update)
    start_soak_clock(rollout, now=now)
    text = reason or language.gettext("Nothing stands against it any more.")
    log(rollout, RolloutEvent.Kind.RESUMED, now=now, text=text, actor=actor)
    for wave in standing_waves(rollout):
        if wave.state in {Wave.State.DEPLOYING, Wave.State.SOAKING, Wave.State.PASSED}:
            distribution.open_batch(wave.batch, now=now)
