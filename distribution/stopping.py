"""What people do to a single deployment: cancel it, and close a cancellation that its device does not answer."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from distribution.models import Deployment, DeploymentEvent, DeploymentState
from distribution.services import force_quit
from distribution.steps import move_where
from tickets.exceptions import TransitionRefused
from tickets.lifecycle import check_permission
from tickets.services import required

STOP = "releases.pause_rollout"
_WITH_DEVICE = (DeploymentState.OFFERED, DeploymentState.DOWNLOADING, DeploymentState.INSTALLING)


def cancel_deployment(deployment: Deployment, *, actor: Any, now: datetime, reason: str) -> None:
    """Cancels what waits; asks the device to stop what it has begun. Refuses what it has closed or what has ended.

    Asking again changes nothing. One person is enough.
    """
    check_permission(actor, STOP, _("cancel a deployment"))
    text = _said(actor, reason)
    with transaction.atomic():
        moved = _move(deployment, DeploymentState.CANCELLED, [DeploymentState.QUEUED], text, now)
        if not moved:
            before = {"state_before_cancel": "picked.state"}
            moved = _move(deployment, DeploymentState.CANCELLING, _WITH_DEVICE, text, now, before)
        deployment.refresh_from_db()
    if not moved and deployment.state not in (DeploymentState.CANCELLING, DeploymentState.CANCELLED):
        raise TransitionRefused(
            _("The deployment is “%(state)s”; it cannot be cancelled any more.")
            % {"state": deployment.get_state_display()}
        )


def force_quit_deployment(deployment: Deployment, *, actor: Any, now: datetime, reason: str) -> None:
    """Closes a cancellation without its device. Refuses what was not cancelled before: the device is asked first."""
    check_permission(actor, STOP, _("force a cancellation"))
    force_quit(deployment, now=now, reason=_said(actor, reason))


def _said(actor: Any, reason: str) -> str:
    reason = required(reason, "reason", _("Say why."))
    return f"{actor.username}: {reason}"[:200] if actor is not None else reason[:200]


def _move(
    deployment: Deployment, to_state: str, sources: Any, text: str, now: datetime, more: dict[str, str] | None = None
) -> list[int]:
    return move_where(
        "d.id = %(id)s",
        {"id": deployment.pk, "reason": text},
        to_state=to_state,
        kind=DeploymentEvent.Kind.ENGINE,
        now=now,
        details=[text],
        assignments={"reason": "%(reason)s", **(more or {})},
        sources=list(sources),
    )
