"""What can hold a wave besides its own numbers: incidents on its CIs since the installation there, and probes."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Exists, Max, OuterRef, QuerySet

from distribution.models import DeploymentEvent, DeploymentState
from incidents.models import Incident
from releases.models import ProbeSample, Rollout, Wave
from releases.policy import RolloutPolicy
from releases.probes import verdict_of

# Steps from which on the CI may have been changed.
_CHANGED = (
    DeploymentState.INSTALLING,
    DeploymentState.CONFIRMING,
    DeploymentState.SUCCEEDED,
    DeploymentState.FAILED,
)


@dataclass(frozen=True, slots=True)
class Incidents:
    """How many qualify, and when the newest of them was reported."""

    count: int
    newest_at: datetime | None


def reported_since_installation(rollout: Rollout, wave: Wave) -> QuerySet[Incident]:
    """Incidents that were reported on a CI of the wave since its device began to install the package there.

    By the log of the deployments, so that the same incidents are found again whenever one asks. Not the one that the
    engine opened as evidence of a breach.
    """
    begun = DeploymentEvent.objects.filter(
        deployment__batch=wave.batch_id,
        deployment__ci=OuterRef("ci"),
        deployment__offered_at__isnull=False,
        to_state__in=_CHANGED,
        at__lte=OuterRef("created_at"),
    )
    incidents = Incident.objects.filter(Exists(begun), created_at__gte=wave.started_at)
    if rollout.breach_incident_id is not None:
        incidents = incidents.exclude(pk=rollout.breach_incident_id)
    return incidents


def incidents_since_installation(rollout: Rollout, wave: Wave) -> Incidents:
    """How many incidents speak against the wave now; cancelled ones do not."""
    rows = reported_since_installation(rollout, wave).exclude(state=Incident.State.CANCELLED)
    return Incidents(**rows.aggregate(count=Count("pk"), newest_at=Max("created_at")))


def early_life_ends(rollout: Rollout, policy: RolloutPolicy) -> datetime | None:
    """Until when the rollout is watched after its last wave has passed; None: it is not."""
    last = rollout.waves.filter(kind=Wave.Kind.FORWARD, state=Wave.State.PASSED).aggregate(at=Max("finished_at"))["at"]
    return last + timedelta(seconds=policy.early_life_seconds) if last and policy.early_life_seconds else None


def probe_verdicts(wave: Wave, policy: RolloutPolicy, *, round: int, until: datetime | None = None) -> list[str]:
    """What each probe of the policy says about the wave in this round (up to a time): see `releases.probes`."""
    said = []
    for position, probe in enumerate(policy.probes, start=1):
        samples = ProbeSample.objects.filter(wave=wave, position=position, round=round).exclude(outcome="")
        if until is not None:
            samples = samples.filter(answered_at__lte=until)
        last = samples.order_by("-pk").values_list("outcome", flat=True)[: probe["samples"]]
        said.append(verdict_of(list(last)[::-1], probe))
    return said
