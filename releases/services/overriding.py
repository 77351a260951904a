"""The record of a decision to offer in spite of a freeze or of the planned time."""

from datetime import datetime

from django.utils.translation import gettext as _

from accounts.language import portal_language
from accounts.models import User
from releases.models import Rollout, RolloutEvent
from releases.services.log import log
from releases.services.second_person import check_not_starter
from releases.windows import Block, all_blocks, blocks
from tickets.exceptions import ConditionRefused
from tickets.lifecycle import check_permission

OVERRIDE = "releases.override_window"


def accept_blocks(rollout: Rollout, *, actor: User, now: datetime, reason: str) -> bool:
    """Records the override of what stands against the locked rollout; False: nothing does."""
    with portal_language():
        standing = blocks(rollout, now)
    if not standing:
        return False
    check_override(rollout, standing, actor=actor)
    rollout.overridden = [*rollout.overridden, *(block.key for block in standing)]
    Rollout.objects.filter(pk=rollout.pk).update(overridden=rollout.overridden, updated_at=now)
    text = f"{reason} ({' '.join(block.reason for block in standing)})"
    log(rollout, RolloutEvent.Kind.WINDOW_OVERRIDDEN, now=now, text=text, actor=actor)
    return True


def is_overridden(rollout: Rollout, now: datetime) -> bool:
    """Whether something stands against it that somebody has overridden, and nothing else does."""
    return not blocks(rollout, now) and bool(all_blocks(rollout, now))


def check_override(rollout: Rollout, standing: list[Block], *, actor: User) -> None:
    """Refuses by right, who started it, and where nothing stands against it."""
    check_permission(actor, OVERRIDE, _("override freezes and planned times"))
    if not standing:
        raise ConditionRefused(_("No freeze and no planned time stands against %s now.") % rollout.number)
    text = _("You started %(number)s; somebody else must decide that it goes on in spite of that.")
    check_not_starter(rollout, actor, text)
