"""Too many CIs of a wave failed: the evidence becomes an incident, linked as caused by the release."""

from datetime import datetime

from django.utils.translation import gettext as _

from distribution.models import Deployment, DeploymentState
from incidents.services import open_incident_for_portal
from notifications.services import notify
from releases.conditions import WaveNumbers
from releases.models import Rollout, RolloutEvent, Wave
from releases.services.log import log
from tickets.text import as_data

# How many failed CIs the incident names; the rollout's page lists them all.
NAMED = 20


def open_breach_incident(rollout: Rollout, wave: Wave, numbers: WaveNumbers, *, now: datetime) -> None:
    """Opens it once for each rollout; further breaches are entries of the rollout."""
    if rollout.breach_incident_id is not None:
        return
    failed = list(
        Deployment.objects.filter(batch=wave.batch_id, state=DeploymentState.FAILED)
        .select_related("ci")
        .order_by("pk")[:NAMED]
    )
    most = rollout.policy.get("error_count")
    most_failed = [] if most is None else [_("At most so many failed CIs: %d") % most]
    lines = [
        _("%(rollout)s of %(release)s: too many failures in wave %(wave)d.")
        % {"rollout": rollout.number, "release": rollout.release.number, "wave": wave.number},
        "",
        _("CIs: %(size)d · confirmed: %(confirmed)d · failed: %(failed)d · overdue: %(overdue)d")
        % {
            "size": numbers.size,
            "confirmed": numbers.confirmed,
            "failed": numbers.failed,
            "overdue": numbers.overdue,
        },
        _("Error threshold: %d %%") % rollout.policy["error_threshold"],
        *most_failed,
        "",
        *(f"- {d.ci.name}: " + as_data(f"{d.error_code or '?'} {d.message}") for d in failed),
    ]
    incident = open_incident_for_portal(
        now=now,
        title=_("%(release)s fails in wave %(wave)d of %(rollout)s")
        % {"release": rollout.release.number, "wave": wave.number, "rollout": rollout.number},
        description="\n".join(lines),
        ci=failed[0].ci if len(failed) == 1 else None,
        impact="high",
        urgency="high",
        requester=rollout.started_by,
    )
    Rollout.objects.filter(pk=rollout.pk).update(breach_incident=incident, updated_at=now)
    rollout.breach_incident = incident
    rollout.release.caused_incidents.add(incident)
    log(rollout, RolloutEvent.Kind.INCIDENT_OPENED, now=now, text=incident.number, wave=wave)
    author = rollout.release.created_by
    if author is not None and author != rollout.started_by:  # who started it is told as the incident's requester
        notify(
            event=f"rollout:{rollout.pk}:breach",
            recipient=author,
            thread=incident.number,
            subject=f"[{incident.number}] {incident.title}",
            text="\n".join(lines),
            now=now,
            path=f"/incidents/{incident.number}/",
        )
