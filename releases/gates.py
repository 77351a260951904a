"""What can hold a wave besides its own numbers: incidents on its CIs since the package was installed there."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Case, Count, Exists, F, Max, OuterRef, When
from django.db.models.functions import Coalesce

from distribution.models import Deployment, DeploymentState
from incidents.models import Incident
from releases.models import Rollout, Wave

# States in which the device has begun to change the CI.
_BEGUN = (
    DeploymentState.INSTALLING,
    DeploymentState.CONFIRMING,
    DeploymentState.CANCELLING,
    DeploymentState.UNKNOWN,
)


@dataclass(frozen=True, slots=True)
class Incidents:
    """How many qualify, and when the newest of them was reported."""

    count: int
    newest_at: datetime | None


def incidents_since_installation(rollout: Rollout, wave: Wave) -> Incidents:
    """Incidents that were reported on a CI of the wave since the package was installed, or tried, on that CI.

    Cancelled ones do not count, nor does the one that the engine opened as evidence of a breach.
    """
    since = Coalesce("closed_at", "finished_at", Case(When(state__in=_BEGUN, then=F("moved_at"))))
    changed = Deployment.objects.filter(batch=wave.batch_id, ci=OuterRef("ci"), offered_at__isnull=False)
    incidents = Incident.objects.filter(
        Exists(changed.annotate(since=since).filter(since__lte=OuterRef("created_at"))),
        created_at__gte=wave.started_at,
    ).exclude(state=Incident.State.CANCELLED)
    if rollout.breach_incident_id is not None:
        incidents = incidents.exclude(pk=rollout.breach_incident_id)
    found = incidents.aggregate(count=Count("pk"), newest_at=Max("created_at"))
    return Incidents(**found)
