"""What the live page of a rollout shows: lanes, counts, cells; read in a constant number of queries."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Exists, Max, OuterRef, Q
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from cmdb.models import ConfigurationItem
from distribution.counting import Counts, counts, newest_moves
from distribution.models import OPEN, Batch, Deployment, DeploymentState
from distribution.stragglers import stragglers
from releases.census import census_of, charts_of
from releases.eta import ETA, eta_of
from releases.models import FailureDecision, ProbeSample, Rollout, RolloutEvent, Wave
from releases.probes import name_of
from releases.services.rollbacks import GONE
from releases.wave_text import wave_text
from releases.windows import STAMP
from tickets.appearance import Appearance, appearance_of
from tickets.charts import Chart

ENDING = (
    Rollout.State.ABORTING,
    Rollout.State.ABORTED,
    Rollout.State.ROLLING_BACK,
    Rollout.State.ROLLED_BACK,
    Rollout.State.ROLLED_BACK_WITH_EXCEPTIONS,
)
# Beyond this many CIs a cell stands for several.
MOST_CELLS = 2000
SOME_FAILURES = 20
SOME_SAMPLES = 12
GROUPED_CELLS = 600
# What is under way is shown anew after so long at the latest.
RENEWED_SECONDS = 30
# From the finished ones on the left to the waiting ones on the right.
ORDER = (
    "succeeded", "skipped", "confirming", "installing", "downloading", "offered", "cancelling", "unknown", "failed",
    "cancelled", "superseded", "excluded", "queued",
)  # fmt: skip
WORST = ("failed", "unknown", "cancelling", "installing", "downloading", "confirming", "offered", "queued")
SOLID = {"succeeded", "failed", "skipped"}

# By place between the first and the last CI of a wave, read from the ends of an index: nothing is sorted. A further
# attempt falls to the same place as those before it, which are left out; there are few.
_GROUPS = """
WITH ends AS MATERIALIZED (
    SELECT b.id, b.cells, (
        SELECT ci_id FROM distribution_deployment WHERE batch_id = b.id ORDER BY ci_id LIMIT 1) AS low, (
        SELECT ci_id FROM distribution_deployment WHERE batch_id = b.id ORDER BY ci_id DESC LIMIT 1) AS high
    FROM unnest(%s::bigint[], %s::bigint[]) AS b(id, cells)
), newest AS MATERIALIZED (
    SELECT batch_id, ci_id, max(attempt) AS attempt FROM distribution_deployment
    WHERE batch_id = ANY(%s) AND attempt > 1 GROUP BY batch_id, ci_id
)
SELECT d.batch_id, (d.ci_id - ends.low) * ends.cells / (ends.high - ends.low + 1) AS bucket, d.state, count(*),
    count(d.overdue_at)
FROM ends JOIN distribution_deployment d ON d.batch_id = ends.id
LEFT JOIN newest ON newest.batch_id = d.batch_id AND newest.ci_id = d.ci_id
WHERE d.attempt = coalesce(newest.attempt, 1)
GROUP BY d.batch_id, bucket, d.state ORDER BY d.batch_id, bucket
"""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a stacked bar, in percent of its length."""

    label: str
    look: Appearance
    count: int
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One CI, or `size` of them."""

    state: str
    look: Appearance
    text: str
    ci: str = ""
    number: str = ""
    size: int = 1
    is_overdue: bool = False


@dataclass(slots=True)
class Lane:
    """A wave with its numbers."""

    wave: Wave
    counts: Counts
    segments: list[Segment] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    is_grouped: bool = False

    @property
    def takes(self) -> str:
        """Whom it takes, as the plan says it."""
        text = wave_text([self.wave.rule])
        return text if len(text) <= 60 else f"{text[:59]}…"

    @property
    def done_percent(self) -> int:
        """Share of CIs whose deployment has ended."""
        return round(100 * self.counts.terminal / self.counts.total) if self.counts.total else 0


@dataclass(frozen=True, slots=True)
class LiveView:
    """Everything that changes while a rollout runs. `mark` is the same as long as nothing has changed."""

    lanes: list[Lane]
    totals: Counts
    mark: str
    is_live: bool
    charts: list[Chart]
    eta: ETA | None

    @property
    def is_stopped(self) -> bool:
        """Whether a rollback failed on too many CIs and waits for a person."""
        return any(lane.wave.kind == Wave.Kind.ROLLBACK and lane.wave.state == Wave.State.FAILED for lane in self.lanes)

    @property
    def tiles(self) -> list[tuple[str, int, str]]:
        """Numbers over all forward waves: label, count, tone where the count matters."""
        totals = self.totals
        return [
            (_("CIs"), totals.total, ""),
            (_("waiting"), totals.queued, ""),
            (_("under way"), totals.live, ""),
            (_("succeeded"), totals.succeeded + totals.skipped, "green"),
            (_("failed"), totals.failed, "red" if totals.failed else ""),
            (_("overdue"), totals.overdue, "amber" if totals.overdue else ""),
            (_("excluded or cancelled"), totals.excluded + totals.cancelled + totals.superseded, ""),
        ]


def mark_of(rollout: Rollout, batch_ids: list[int], *, now: datetime) -> str:
    """Changes with every move of its deployments, every event of the rollout, every answer to a probe, and its state.

    Costs the same for a large rollout as for a small one. Until it has settled it changes twice a minute, too: a move
    that commits after a later one is no newest one, devices report without a move, and the end is foretold anew.
    """
    moves = zlib.crc32(repr(newest_moves(batch_ids)).encode())
    event = RolloutEvent.objects.filter(rollout=rollout).aggregate(newest=Max("pk"))["newest"] or 0
    mark = f"{moves}-{event}-{int(rollout.updated_at.timestamp() * 1000)}"
    if rollout.policy.get("probes"):
        samples = ProbeSample.objects.filter(wave__rollout=rollout)
        newest = samples.aggregate(asked=Max("pk"), answered=Max("answered_at"))
        mark += f"-{newest['asked']}-{newest['answered'].timestamp() if newest['answered'] else ''}"
    if _is_live(rollout):
        mark += f"-{int(now.timestamp() // RENEWED_SECONDS)}"
    return mark


def _is_live(rollout: Rollout) -> bool:
    return rollout.state in Rollout.ACTIVE or rollout.settled_at is None


def live_view(rollout: Rollout, user: Any, *, now: datetime) -> LiveView:
    """The lanes as this person may see them: cells only for CIs that he may see, counts for all."""
    waves = list(rollout.waves.select_related("batch").order_by("kind", "number"))
    batch_ids = [wave.batch_id for wave in waves]
    mark = mark_of(rollout, batch_ids, now=now)  # first: what moves meanwhile is shown the next time
    found = counts(batch_ids)
    total = sum(number.total for number in found.values())
    is_grouped = total > MOST_CELLS and user.has_perm("cmdb.see_all_cis")
    cells = _grouped(found) if is_grouped else _single(batch_ids, user)
    lanes = []
    totals = Counts()
    for wave in waves:
        number = found[wave.batch_id]
        if wave.finished_at is not None and wave.kind == Wave.Kind.ROLLBACK and not number.total:
            continue  # everything was back already
        lanes.append(Lane(wave, number, segments_of(number), cells.get(wave.batch_id, []), is_grouped))
        if wave.kind == Wave.Kind.FORWARD:
            totals += number
    charts = charts_of(census_of(rollout, waves, now=now), waves) if waves else []
    return LiveView(lanes, totals, mark, _is_live(rollout), charts, eta_of(rollout, waves, found, now=now))


def visible_exceptions(owner: Any, user: Any) -> Any:
    """Exceptions of a release or rollout: those about no CI, and those about CIs that the person may see."""
    rows = owner.exceptions.select_related("ci", "recorded_by").order_by("pk")
    if user.has_perm("cmdb.see_all_cis"):
        return rows
    visible = ConfigurationItem.objects.visible_to(user).values("pk")
    return rows.filter(Q(ci__isnull=True) | Q(ci__in=visible))


def stragglers_of(rollout: Rollout, user: Any) -> Any:
    """Newest deployments that have not brought it; once the rollout goes back, those that are not back, or under way
    yet. On CIs that the person may see."""
    waves = rollout.waves.exclude(state=Wave.State.ROLLED_BACK)
    rows = stragglers(waves.values_list("batch_id", flat=True), user)
    if rollout.state in GONE:
        # What never got it need not come back.
        rows = rows.exclude(~Q(state__in=OPEN), batch__purpose=Batch.Purpose.FORWARD)
    return rows


def failures_of(rollout: Rollout, user: Any) -> list[Deployment]:
    """Newest attempts that did not succeed, or wait for another try, on CIs that the person may see; some of them."""
    decided = FailureDecision.objects.filter(deployment=OuterRef("pk"), kind=FailureDecision.Kind.IGNORED)
    later = Deployment.objects.filter(batch=OuterRef("batch"), ci=OuterRef("ci"), attempt__gt=OuterRef("attempt"))
    # What an abort or a rollback cancels is no news.
    ended = ["failed"] if rollout.state in ENDING else ["failed", "cancelled"]
    lost = Q(state__in=ended) | Q(state__in=OPEN, overdue_at__isnull=False)
    # Each of the three by an index of its own, not among all that wait.
    waits = Q(state=DeploymentState.QUEUED, attempt__gt=1, not_before__isnull=False)
    batches = list(rollout.waves.filter(kind=Wave.Kind.FORWARD).values_list("batch_id", flat=True))
    rows = Deployment.objects.visible_to(user).filter(lost | waits, ~Exists(later), batch__in=batches)
    rows = rows.annotate(is_ignored=Exists(decided))
    return list(rows.select_related("ci", "batch__wave").order_by("is_ignored", "pk")[:SOME_FAILURES])


def samples_of(rollout: Rollout) -> list[tuple[ProbeSample, str]]:
    """The last questions of its probes and what came back, the newest first, each with the probe's name."""
    probes = rollout.policy.get("probes", [])
    if not probes:
        return []
    rows = ProbeSample.objects.filter(wave__rollout=rollout).select_related("wave").order_by("-pk")
    return [(sample, name_of(probes[sample.position - 1])) for sample in rows[:SOME_SAMPLES]]


def segments_of(number: Counts) -> list[Segment]:
    """The stacked bar of some counts."""
    labels = dict(DeploymentState.choices)
    segments, start = [], 0.0
    for state in ORDER:
        count = getattr(number, state)
        if count:
            width = 100 * count / number.total
            segments.append(Segment(str(labels[state]), appearance_of(state), count, round(start, 3), round(width, 3)))
            start += width
    return segments


def _single(batch_ids: list[int], user: Any) -> dict[int, list[Cell]]:
    newest = (
        Deployment.objects.visible_to(user)
        .filter(batch__in=batch_ids)
        .order_by("batch_id", "ci_id", "-attempt")
        .distinct("batch_id", "ci_id")
        .select_related("ci")
        .only("batch_id", "ci__name", "state", "overdue_at", "error_code", "message", "attempt", "not_before")
    )
    cells: dict[int, list[Cell]] = {}
    for deployment in newest[:MOST_CELLS]:
        words = [deployment.ci.name, str(deployment.get_state_display())]
        if deployment.attempt > 1:
            words.append(_("attempt %(number)d") % {"number": deployment.attempt})
        if deployment.overdue_at:
            words.append(_("overdue"))
        if deployment.not_before and deployment.state == DeploymentState.QUEUED:
            words.append(_("next attempt at %s") % deployment.not_before.strftime(STAMP))
        words += [text for text in (deployment.error_code, deployment.message) if text]
        cells.setdefault(deployment.batch_id, []).append(
            Cell(
                state=deployment.state,
                look=appearance_of(deployment.state),
                text=" · ".join(words),
                ci=deployment.ci.name,
                number=deployment.ci.number,
                is_overdue=deployment.overdue_at is not None and deployment.finished_at is None,
            )
        )
    return cells


def _grouped(found: dict[int, Counts]) -> dict[int, list[Cell]]:
    size = math.ceil(sum(number.total for number in found.values()) / GROUPED_CELLS)
    cells_of = [math.ceil(number.total / size) for number in found.values()]
    groups: dict[tuple[int, int], dict[str, int]] = {}
    late: dict[tuple[int, int], int] = {}
    with connection.cursor() as cursor:
        cursor.execute(_GROUPS, [list(found), cells_of, list(found)])
        for batch_id, bucket, state, count, overdue in cursor.fetchall():
            groups.setdefault((batch_id, bucket), {})[state] = count
            late[batch_id, bucket] = late.get((batch_id, bucket), 0) + overdue
    labels = dict(DeploymentState.choices)
    cells: dict[int, list[Cell]] = {}
    for key, states in groups.items():
        worst = next((state for state in WORST if state in states), next(iter(states)))
        text = ", ".join(f"{number_format(count)} {labels[state]}" for state, count in states.items())
        cells.setdefault(key[0], []).append(
            Cell(
                state=worst,
                look=appearance_of(worst),
                text=text,
                size=sum(states.values()),
                is_overdue=late[key] > 0,
            )
        )
    return cells


# The numbers of a verdict, in the order in which people ask for them.
_NUMBERS = {
    "confirmed": gettext_lazy("%s confirmed"),
    "failed": gettext_lazy("%s failed"),
    "overdue": gettext_lazy("%s overdue"),
    "under_way": gettext_lazy("%s under way"),
    "excluded": gettext_lazy("%s excluded"),
    "cancelled": gettext_lazy("%s cancelled"),
    "accepted": gettext_lazy("%s accepted"),
    "incidents": gettext_lazy("%s new incidents"),
    "failed_probes": gettext_lazy("%s failed probes"),
}


def numbers_text(numbers: Mapping[str, int]) -> str:
    """What a verdict saw, in words: `of 12: 9 confirmed, 3 failed`."""
    parts = [str(text) % number_format(numbers[name]) for name, text in _NUMBERS.items() if numbers.get(name)]
    return _("of %(size)s: %(parts)s") % {
        "size": number_format(numbers.get("size", 0)),
        "parts": ", ".join(parts) or "–",
    }
