"""How the portal itself does: what the operations page and the metrics show."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Count, Min

from distribution.models import OPEN, Deployment, DeploymentState
from itsm_portal.heartbeats import TICK, WORKER, Beat, beats
from itsm_portal.schedule import SELDOM, TICKS
from notifications.models import Outbox
from releases.models import Rollout, SelfCheck

SEE = "releases.see_operations"
# A tick or a worker that was silent for so many seconds, beyond its own period, is late.
PATIENCE = 30.0
MOST_ROLLOUTS = 100


@dataclass(frozen=True, slots=True)
class Period:
    """A periodic work, its newest sign of life (None: none in a day) and whether it is late."""

    name: str
    task: str
    period: float
    beat: Beat | None

    @property
    def is_late(self) -> bool:
        return self.beat is None or self.beat.age > self.period + PATIENCE


@dataclass(frozen=True, slots=True)
class Operations:
    """The portal's state. `works` and `workers` are None when Valkey is out of reach."""

    check: SelfCheck | None
    rollouts: list[Rollout]
    rollout_counts: dict[str, int]
    deployments: dict[str, int]
    mails: dict[str, int]
    oldest_mail: datetime | None
    works: list[Period] | None
    workers: list[Beat] | None

    @property
    def labelled_deployments(self) -> list[tuple[str, int]]:
        """How many are in each state, by its name for people."""
        labels = dict(DeploymentState.choices)
        return [(str(labels[state]), count) for state, count in self.deployments.items()]

    @property
    def dead_mails(self) -> int:
        return self.mails.get(Outbox.State.DEAD, 0)

    @property
    def waiting_mails(self) -> int:
        return self.mails.get(Outbox.State.PENDING, 0)


def operations() -> Operations:
    """Looks at rows and signs of life; writes nothing."""
    unsettled = Rollout.objects.filter(settled_at__isnull=True)
    waiting = Outbox.objects.filter(state=Outbox.State.PENDING)
    signs = beats()
    return Operations(
        check=SelfCheck.objects.first(),
        rollouts=list(unsettled.select_related("release").order_by("pk")[:MOST_ROLLOUTS]),
        rollout_counts=_by_state(unsettled),
        deployments=_by_state(Deployment.objects.filter(state__in=OPEN)),
        mails=_by_state(Outbox.objects.filter(state__in=[Outbox.State.PENDING, Outbox.State.DEAD])),
        oldest_mail=waiting.aggregate(at=Min("created_at"))["at"],
        works=None if signs is None else _works(signs),
        workers=None if signs is None else [sign for sign in signs if sign.kind == WORKER],
    )


def _by_state(rows: Any) -> dict[str, int]:
    return dict(rows.order_by().values_list("state").annotate(n=Count("pk")))


def _works(signs: list[Beat]) -> list[Period]:
    newest = {sign.name: sign for sign in signs if sign.kind == TICK}
    periods = {**dict.fromkeys(TICKS, float(settings.TICK_SECONDS)), **dict.fromkeys(SELDOM, 600.0)}
    return [Period(name, task, periods[name], newest.get(task)) for name, task in {**TICKS, **SELDOM}.items()]
