"""What has to hold for deployments at any time; the same facts as the invariants of the rollout engine."""

from collections import Counter

from distribution.models import LEGAL_STEPS, LIVE, TERMINAL, Deployment, DeploymentEvent


def check_history(deployment: Deployment) -> None:
    """A legal path without holes from its creation to its state, one terminal step at most and nothing after it."""
    deployment.refresh_from_db()
    events = list(DeploymentEvent.objects.filter(deployment=deployment).order_by("id"))
    assert (events[0].kind, events[0].from_state, events[0].to_state) == ("created", "", "queued")
    at = "queued"
    for event in events[1:]:
        assert event.from_state == at, f"hole before event {event.pk}: {at} … {event.from_state}"
        assert at not in TERMINAL, f"event {event.pk} after the end"
        assert event.to_state == at or event.to_state in LEGAL_STEPS[at], f"{at} → {event.to_state}"
        at = event.to_state
    assert at == deployment.state
    assert (deployment.finished_at is not None) == (at in TERMINAL)


def check_deployments() -> None:
    """Every deployment's history, and one live deployment per CI."""
    deployments = list(Deployment.objects.all())
    for deployment in deployments:
        check_history(deployment)
    live = Counter(d.ci_id for d in deployments if d.state in LIVE)
    assert all(number == 1 for number in live.values()), live


def accepted_reports(deployment: Deployment) -> int:
    """Events that stand for a report which was answered with 200."""
    return DeploymentEvent.objects.filter(deployment=deployment, kind__in=["report", "cancel_report"]).count()
