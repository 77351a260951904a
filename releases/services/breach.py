"""Too many CIs of a wave failed, forward or on the way back: the evidence becomes an incident, linked as caused by the
release.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from distribution.models import Deployment, DeploymentState
from incidents.models import Incident
from incidents.services import open_incident_for_portal
from notifications.kinds import Kind
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
    failed = _failed_of(wave)
    most = rollout.policy.get("error_count")
    most_failed = [] if most is None else [_("At most so many failed CIs: %d") % most]
    lines = [
        _("%(rollout)s of %(release)s: too many failures in wave %(wave)d.")
        % {"rollout": rollout.number, "release": rollout.release.number, "wave": wave.number},
        *_evidence(numbers, rollout.policy["error_threshold"]),
        *most_failed,
        *_named(failed),
    ]
    title = _("%(release)s fails in wave %(wave)d of %(rollout)s") % {
        "release": rollout.release.number,
        "wave": wave.number,
        "rollout": rollout.number,
    }
    incident = _open(rollout, title, lines, failed, now)
    Rollout.objects.filter(pk=rollout.pk).update(breach_incident=incident, updated_at=now)
    rollout.breach_incident = incident
    log(rollout, RolloutEvent.Kind.INCIDENT_OPENED, now=now, text=incident.number, wave=wave)
    _tell(incident, [rollout.release.created_by], f"rollout:{rollout.pk}:breach", lines, now)


def call_for_rollback(rollout: Rollout, wave: Wave, numbers: WaveNumbers, threshold: int, *, now: datetime) -> None:
    """A rollback fails on too many CIs and was stopped: opens an incident and tells the people, each time anew."""
    failed = _failed_of(wave)
    lines = [
        _(
            "The rollback of %(rollout)s (%(release)s) failed on too many CIs and was stopped. The others keep what "
            "they run until somebody decides on the page of the rollout how it goes on."
        )
        % {"rollout": rollout.number, "release": rollout.release.number},
        *_evidence(numbers, threshold),
        *_named(failed),
    ]
    incident = _open(rollout, _("The rollback of %s needs a person") % rollout.number, lines, failed, now)
    log(rollout, RolloutEvent.Kind.INCIDENT_OPENED, now=now, text=incident.number, wave=wave)
    ordered = rollout.events.filter(kind=RolloutEvent.Kind.ROLLBACK_ORDERED, actor__isnull=False)
    orderer = ordered.select_related("actor").order_by("-pk").first()
    people = [rollout.release.created_by, orderer.actor if orderer is not None else None]
    _tell(incident, people, f"rollout:{rollout.pk}:rollback_stopped:{rollout.round}", lines, now)


def _failed_of(wave: Wave) -> list[Deployment]:
    rows = Deployment.objects.filter(batch=wave.batch_id, state=DeploymentState.FAILED).select_related("ci")
    return list(rows.order_by("pk")[:NAMED])


def _evidence(numbers: WaveNumbers, threshold: int) -> list[str]:
    return [
        "",
        _("CIs: %(size)d · confirmed: %(confirmed)d · failed: %(failed)d · overdue: %(overdue)d")
        % {
            "size": numbers.size,
            "confirmed": numbers.confirmed,
            "failed": numbers.failed,
            "overdue": numbers.overdue,
        },
        _("Error threshold: %d %%") % threshold,
    ]


def _named(failed: list[Deployment]) -> list[str]:
    return ["", *(f"- {d.ci.name}: " + as_data(f"{d.error_code or '?'} {d.message}") for d in failed)]


def _open(rollout: Rollout, title: str, lines: list[str], failed: list[Deployment], now: datetime) -> Incident:
    incident = open_incident_for_portal(
        now=now,
        title=title,
        description="\n".join(lines),
        ci=failed[0].ci if len(failed) == 1 else None,
        impact="high",
        urgency="high",
        requester=rollout.started_by,
    )
    rollout.release.caused_incidents.add(incident)
    return incident


def _tell(incident: Incident, people: Iterable[Any], event: str, lines: list[str], now: datetime) -> None:
    """Who started the rollout is told as the incident's requester."""
    for person in {person for person in people if person is not None and person != incident.requester}:
        notify(
            event=event,
            recipient=person,
            thread=incident.number,
            subject=f"[{incident.number}] {incident.title}",
            text="\n".join(lines),
            now=now,
            path=f"/incidents/{incident.number}/",
            kind=Kind.ROLLOUT,
        )
