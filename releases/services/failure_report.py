"""What is known about one CI whose deployment did not succeed: what its device said, how often, and who else."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from accounts.models import User
from cmdb.models import ConfigurationItem
from distribution.models import Deployment, DeploymentEvent
from releases.models import FailureDecision, Rollout
from releases.services.failures import DECISIONS, check_decide, newest_deployment
from tickets.exceptions import DomainError

# How many of the device's last texts, and of the CIs with the same error, are shown.
LINES = 40
NAMED = 10


@dataclass(frozen=True, slots=True)
class Option:
    """One decision: what it means, and why it is not possible now, if so."""

    name: str
    label: str
    meaning: str
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class FailureReport:
    """What was reported; `others` with the same error code in this rollout, `named` those that the person may see."""

    deployment: Deployment
    attempts: list[Deployment]
    log: list[tuple[datetime, str]]
    others: int
    named: list[Deployment]
    decisions: list[FailureDecision]
    options: list[Option]


def failure_report(rollout: Rollout, ci: ConfigurationItem, *, actor: Any) -> FailureReport:
    """The report and the four decisions; refuses a CI that is no target. A fixed number of queries."""
    newest = newest_deployment(rollout, ci)
    attempts = list(Deployment.objects.filter(batch=newest.batch_id, ci=ci).order_by("-attempt"))
    last = next((one for one in attempts if one.error_code or one.message), newest)
    events = DeploymentEvent.objects.filter(deployment__in=attempts, is_duplicate=False).exclude(details=[])
    lines = [(event.at, text) for event in reversed(events.order_by("-pk")[:LINES]) for text in event.details if text][
        -LINES:
    ]
    same = Deployment.objects.filter(batch__wave__rollout=rollout, batch__purpose="forward", state="failed")
    same = same.filter(error_code=last.error_code).exclude(ci=ci)
    visible: Any = same.visible_to(actor).select_related("ci").order_by("ci__name", "-attempt").distinct("ci__name")
    return FailureReport(
        deployment=newest,
        attempts=attempts,
        log=lines,
        others=same.values("ci").distinct().count() if last.error_code else 0,
        named=list(visible[:NAMED]) if last.error_code else [],
        decisions=list(
            FailureDecision.objects.filter(deployment__in=attempts).select_related("decided_by").order_by("-pk")
        ),
        options=[
            Option(name, label, meaning, _refusal(rollout, newest, name, actor))
            for name, (label, meaning) in _meanings().items()
        ],
    )


def _refusal(rollout: Rollout, deployment: Deployment, decision: str, actor: User) -> str:
    try:
        check_decide(rollout, deployment, decision=decision, actor=actor)
    except DomainError as error:
        return error.message
    return ""


def _meanings() -> dict[str, tuple[str, str]]:
    found = {
        "fail": (_("Leave it as failed"), _("It counts as a failure, and is not tried again by itself.")),
        "retry": (
            _("Try it again"),
            _("One more attempt, as soon as its wave is offered; until then it counts as open."),
        ),
        "ignore": (
            _("Ignore the failure"),
            _("It is accepted by you, with your reason, and counts against its wave no longer. It may be tried later."),
        ),
        "exclude": (
            _("Exclude the CI"),
            _("It is taken out of this rollout: counted as excluded, and not tried again in it."),
        ),
    }
    assert found.keys() == DECISIONS.keys()
    return found
