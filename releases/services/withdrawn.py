"""A version of the package was withdrawn while its rollout is under way: whoever has not got it yet never will."""

from datetime import datetime

from django.utils.translation import gettext as _

from distribution.models import DeploymentState
from notifications.kinds import Kind
from releases.models import Rollout, RolloutEvent
from releases.services.log import log
from releases.services.rollbacks import forward_deployments
from software.models import Version
from tickets.notices import tell

_GONE = (Version.State.WITHDRAWN, Version.State.ARCHIVED)


def withdrawn_text(rollout: Rollout) -> str:
    """What of its package is withdrawn, and what to do, while CIs still wait for it; empty: nothing."""
    items = rollout.release.items.filter(version__state__in=_GONE).select_related("version__product")
    versions = [str(item.version) for item in items]
    if not versions or not _is_anybody_waiting(rollout):
        return ""
    text = _(
        "Withdrawn: %(versions)s. Nothing more of it is offered. Abort the rollout, or roll it back where the version "
        "does harm."
    )
    return text % {"versions": ", ".join(versions)}


def _is_anybody_waiting(rollout: Rollout) -> bool:
    waiting: bool = forward_deployments(rollout).filter(state=DeploymentState.QUEUED).exists()
    return waiting


def tell_withdrawn(rollout: Rollout, text: str, now: datetime) -> bool:
    """Writes the `withdrawn_text` on the rollout, and tells its people; once. True: it did."""
    if not text or rollout.events.filter(kind=RolloutEvent.Kind.WITHDRAWN, text=text).exists():
        return False
    log(rollout, RolloutEvent.Kind.WITHDRAWN, now=now, text=text)
    release = rollout.release
    tell(
        release,
        event=f"rollout:{rollout.pk}:withdrawn:{rollout.events.filter(kind=RolloutEvent.Kind.WITHDRAWN).count()}",
        recipients=[release.created_by, release.requester, release.assignee, rollout.started_by],
        actor=None,
        now=now,
        headline=lambda: _("%(rollout)s stands still: a version was withdrawn") % {"rollout": rollout.number},
        text=text,
        kind=Kind.ROLLOUT,
    )
    return True
