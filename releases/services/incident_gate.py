"""What a person accepts who lets a rollout go on in spite of incidents."""

from releases.gates import incidents_since_installation
from releases.models import Rollout, Wave
from releases.policy import RolloutPolicy


def accept_incidents(rollout: Rollout, wave: Wave) -> None:
    """The incidents that came up on the wave's CIs so far no longer hold it; later ones do."""
    if RolloutPolicy.from_json(rollout.policy).incident_gate is None or wave.started_at is None:
        return
    count = incidents_since_installation(rollout, wave).count
    if count != wave.accepted_incidents:
        wave.accepted_incidents = count
        Wave.objects.filter(pk=wave.pk).update(accepted_incidents=count)
