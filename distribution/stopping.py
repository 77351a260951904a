"""What people do to a single deployment: cancel it, and close a cancellation that its device does not answer."""

from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from distribution.models import Deployment
from distribution.services import cancel, force_quit
from tickets.lifecycle import check_permission
from tickets.services import required

STOP = "releases.pause_rollout"


def cancel_deployment(deployment: Deployment, *, actor: Any, now: datetime, reason: str) -> None:
    """Cancels what waits; asks the device to stop what it has begun. Refuses what it has closed or what has ended.

    Asking again changes nothing. One person is enough.
    """
    check_permission(actor, STOP, _("cancel a deployment"))
    cancel(deployment, now=now, reason=_said(actor, reason))


def force_quit_deployment(deployment: Deployment, *, actor: Any, now: datetime, reason: str) -> None:
    """Closes a cancellation without its device. Refuses what was not cancelled before: the device is asked first."""
    check_permission(actor, STOP, _("force a cancellation"))
    force_quit(deployment, now=now, reason=_said(actor, reason))


def _said(actor: Any, reason: str) -> str:
    reason = required(reason, "reason", _("Say why."))
    return f"{actor.username}: {reason}"[:200] if actor is not None else reason[:200]
