"""The report of a rollout: what was decided, by whom, what became of each CI, and how long it took.

Counted in SQL; what names single CIs or quotes what was said about them is only for people who may see them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Count, Exists, Max, Min, OuterRef
from django.utils.translation import gettext_lazy

from changes.models import Change, ChangeApproval
from distribution.counting import Counts, counts
from distribution.models import Deployment, DeploymentState
from releases.census import census_of, charts_of
from releases.live import visible_exceptions
from releases.models import FailureDecision, Rollout, RolloutEvent, RolloutException, TestRun, Verdict, Wave
from releases.wave_text import wave_text
from tickets.charts import Chart

# More kinds of failure, events or decisions are counted, not listed.
MOST = 100

# What can become of a CI, in the order in which it is shown, with the tone of its colour.
OUTCOMES = {
    "updated": (gettext_lazy("updated"), "green"),
    "had_it": (gettext_lazy("had it already"), "green"),
    "went_back": (gettext_lazy("went back"), "violet"),
    "not_back": (gettext_lazy("could not go back"), "red"),
    "failed": (gettext_lazy("failed"), "red"),
    "excluded": (gettext_lazy("excluded"), "neutral"),
    "cancelled": (gettext_lazy("cancelled before it was installed"), "neutral"),
    "open": (gettext_lazy("not ended yet"), "blue"),
}
_FORWARD = {
    "succeeded": "updated", "skipped": "had_it", "failed": "failed", "excluded": "excluded",
    "cancelled": "cancelled", "superseded": "cancelled",
}  # fmt: skip
_BACK = {"succeeded": "went_back", "skipped": "went_back", "failed": "not_back", "excluded": "not_back"}
# A way back that was called off says nothing about the CI.
_CALLED_OFF = {None, "cancelled", "superseded"}

# The newest attempt on each CI, there and back.
_OUTCOMES = """
WITH forward AS (
    SELECT DISTINCT ON (ci_id) ci_id, state FROM distribution_deployment
    WHERE batch_id = ANY(%(forward)s) ORDER BY ci_id, attempt DESC
), back AS (
    SELECT DISTINCT ON (ci_id) ci_id, state FROM distribution_deployment
    WHERE batch_id = ANY(%(back)s) ORDER BY ci_id, id DESC
)
SELECT forward.state, back.state, count(*) FROM forward LEFT JOIN back USING (ci_id) GROUP BY 1, 2
"""
_TIMES = """
SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - offered_at)::float8)
FROM distribution_deployment
WHERE batch_id = ANY(%(forward)s) AND state = 'succeeded' AND offered_at IS NOT NULL AND finished_at IS NOT NULL
"""

_Kind = RolloutEvent.Kind
# What is told of its course; the rest stands in the log of the rollout.
COURSE = (
    _Kind.STARTED, _Kind.FROZEN, _Kind.WAVE_FAILED, _Kind.PAUSED, _Kind.HELD, _Kind.RESUMED, _Kind.ABORTING,
    _Kind.ABORTED, _Kind.ROLLBACK_ORDERED, _Kind.ROLLBACK_STOPPED, _Kind.ROLLBACK_CONTINUED, _Kind.ROLLED_BACK,
    _Kind.COMPLETED, _Kind.INCIDENT_OPENED, _Kind.WINDOW_OVERRIDDEN, _Kind.RETRY, _Kind.UNSIGNED, _Kind.SIGNED,
    _Kind.WITHDRAWN, _Kind.OVERRIDDEN, _Kind.SUPERSEDED,
)  # fmt: skip
_ENDS_A_PAUSE = (_Kind.RESUMED, _Kind.ABORTING, _Kind.ROLLBACK_ORDERED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many CIs came to this end; `name` is a key of `OUTCOMES`."""

    name: str
    label: str
    tone: str
    count: int


@dataclass(frozen=True, slots=True)
class WaveRow:
    """A wave as it was planned and as it went; `seconds` from its opening to its end, None while it is open."""

    wave: Wave
    takes: str
    counts: Counts
    seconds: float | None
    verdicts: list[Verdict]


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """CIs whose newest attempt failed for the same reason, with one of their messages."""

    error_code: str
    message: str
    count: int


@dataclass(frozen=True, slots=True)
class Pause:
    """From when to when nothing new was offered (`until` None: still), and why."""

    since: datetime
    until: datetime | None
    reason: str
    by: Any
    resumed_by: Any
    resumed_reason: str

    @property
    def seconds(self) -> float | None:
        """How long it was; None while it lasts."""
        return (self.until - self.since).total_seconds() if self.until is not None else None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on the page. The counts of `outcomes` add up to `total`, the frozen number of CIs."""

    rollout: Rollout
    is_over: bool
    changes: list[Change]
    change_approvals: list[ChangeApproval]
    release_approvals: list[Any]
    test: TestRun | None
    exceptions: list[RolloutException]
    total: int
    outcomes: list[Outcome]
    waves: list[WaveRow]
    failures: list[FailureGroup]
    pauses: list[Pause]
    decisions: list[FailureDecision]
    decision_count: int
    course: list[RolloutEvent]
    seconds: float | None
    lead_seconds: float | None
    median_seconds: float | None
    p95_seconds: float | None
    charts: list[Chart]

    @property
    def paused_seconds(self) -> float:
        """Time in pauses that are over."""
        return sum(pause.seconds or 0 for pause in self.pauses)


def report_of(rollout: Rollout, user: Any, *, now: datetime) -> Report:
    """The report as this person may read it; a fixed number of statements, whatever the number of CIs."""
    release = rollout.release
    waves = list(rollout.waves.select_related("batch").order_by("kind", "number"))
    forward = [wave.batch_id for wave in waves if wave.kind == Wave.Kind.FORWARD]
    batches = {"forward": forward, "back": [wave.batch_id for wave in waves if wave.kind == Wave.Kind.ROLLBACK]}
    found = outcomes_of(batches)
    changes = Change.objects.visible_to(user).filter(releases=release).order_by("pk").distinct()
    seen = list(changes.select_related("requester")[:MOST])
    events = _told(rollout.events.filter(kind__in=COURSE).order_by("-pk")[: 5 * MOST], user)[::-1]
    visible = Deployment.objects.visible_to(user).values("pk")
    decisions = FailureDecision.objects.filter(wave__rollout=rollout, deployment__in=visible)
    median, p95 = _times(batches)
    return Report(
        rollout=rollout,
        is_over=rollout.state not in Rollout.ACTIVE,
        changes=seen,
        change_approvals=list(
            ChangeApproval.objects.filter(change__in=seen).select_related("change", "approver").order_by("pk")
        ),
        release_approvals=list(release.approvals.select_related("approver").order_by("pk")),
        test=_test_of(rollout),
        exceptions=list(visible_exceptions(release, user)[:MOST]),
        total=sum(one.count for one in found),
        outcomes=found,
        waves=list(_wave_rows(rollout, waves)),
        failures=_failures(forward, user),
        pauses=list(pauses_of(_of_pauses(rollout, user))),
        decisions=list(decisions.select_related("wave", "deployment__ci", "decided_by")[:MOST]),
        decision_count=decisions.count(),
        course=events,
        seconds=(rollout.finished_at - rollout.started_at).total_seconds() if rollout.finished_at else None,
        lead_seconds=_lead(rollout, release),
        median_seconds=median,
        p95_seconds=p95,
        charts=charts_of(census_of(rollout, waves, now=now), waves) if waves else [],
    )


def outcome_of(forward: str, back: str | None) -> str:
    """What became of a CI, by the state of its newest attempt there and, if there is one, back."""
    return _FORWARD.get(forward, "open") if back in _CALLED_OFF else _BACK.get(str(back), "open")


def outcomes_of(batches: dict[str, list[int]]) -> list[Outcome]:
    """How many CIs came to which end; each CI counts once."""
    totals = dict.fromkeys(OUTCOMES, 0)
    with connection.cursor() as cursor:
        cursor.execute(_OUTCOMES, batches)
        for forward, back, count in cursor.fetchall():
            totals[outcome_of(forward, back)] += count
    return [Outcome(name, str(OUTCOMES[name][0]), OUTCOMES[name][1], count) for name, count in totals.items()]


def pauses_of(events: Iterable[RolloutEvent]) -> Iterator[Pause]:
    """The pauses that the events tell of, in their order; ordered again while it is paused, it is the same one."""
    begun: RolloutEvent | None = None
    for event in events:
        if event.kind == _Kind.PAUSED and begun is None:
            begun = event
        elif event.kind in _ENDS_A_PAUSE and begun is not None:
            yield Pause(begun.at, event.at, begun.text, begun.actor, event.actor, event.text)
            begun = None
    if begun is not None:
        yield Pause(begun.at, None, begun.text, begun.actor, None, "")


def _told(events: Any, user: Any) -> list[RolloutEvent]:
    """The events as this person may read them: what is said may speak of single CIs."""
    found = list(events.select_related("actor", "wave"))
    if not user.has_perm("releases.see_all_releases"):
        for event in found:
            event.text = ""
    return found


def _of_pauses(rollout: Rollout, user: Any) -> list[RolloutEvent]:
    return _told(rollout.events.filter(kind__in=(_Kind.PAUSED, *_ENDS_A_PAUSE)).order_by("pk"), user)


def _wave_rows(rollout: Rollout, waves: list[Wave]) -> Iterator[WaveRow]:
    found = counts([wave.batch_id for wave in waves])
    verdicts: dict[int, list[Verdict]] = {}
    for verdict in Verdict.objects.filter(wave__rollout=rollout).order_by("at", "pk"):
        verdicts.setdefault(verdict.wave_id, []).append(verdict)
    for wave in waves:
        is_over = wave.started_at is not None and wave.finished_at is not None
        seconds = (wave.finished_at - wave.started_at).total_seconds() if is_over else None  # type: ignore[operator]
        takes = wave_text([wave.rule]) if wave.rule else ""
        yield WaveRow(wave, takes, found[wave.batch_id], seconds, verdicts.get(wave.pk, []))


def _failures(forward: list[int], user: Any) -> list[FailureGroup]:
    later = Deployment.objects.filter(batch=OuterRef("batch"), ci=OuterRef("ci"), attempt__gt=OuterRef("attempt"))
    rows = Deployment.objects.filter(~Exists(later), batch__in=forward, state=DeploymentState.FAILED)
    grouped = rows.values("error_code").annotate(count=Count("pk"), message=Max("message")).order_by("-count")
    found = [FailureGroup(**row) for row in grouped[:MOST]]
    # A message may speak of the CI that it came from.
    return found if user.has_perm("cmdb.see_all_cis") else [replace(one, message="") for one in found]


def _times(batches: dict[str, list[int]]) -> tuple[float | None, float | None]:
    """Seconds from the offer to the confirmed version: the median, and that of 95 of 100 CIs."""
    with connection.cursor() as cursor:
        cursor.execute(_TIMES, batches)
        found = cursor.fetchone()[0]
    return (found[0], found[1]) if found else (None, None)


def _lead(rollout: Rollout, release: Any) -> float | None:
    """From the first of its RFCs to the end, as the reports count it."""
    asked = release.changes.aggregate(first=Min("created_at"))["first"]
    return (rollout.finished_at - asked).total_seconds() if rollout.finished_at and asked else None


def _test_of(rollout: Rollout) -> TestRun | None:
    """The test that stood behind it when it started."""
    rows = rollout.release.test_runs.filter(state=TestRun.State.PASSED, finished_at__lte=rollout.started_at)
    return rows.select_related("environment__source", "started_by").order_by("-finished_at").first()


@dataclass(frozen=True, slots=True)
class CIRow:
    """One CI of the rollout, for the list of all of them."""

    number: str
    name: str
    wave: int
    outcome: str
    attempts: int
    error_code: str
    message: str
    reason: str
    moved_at: datetime


def rows_of(rollout: Rollout, user: Any) -> Iterator[CIRow]:
    """Every CI that the person may see, wave by wave, read in parts."""
    rows = Deployment.objects.visible_to(user).filter(batch__wave__rollout=rollout)
    there = rows.filter(batch__wave__kind=Wave.Kind.FORWARD).order_by("ci_id", "-attempt").distinct("ci_id")
    back_rows = rows.filter(batch__wave__kind=Wave.Kind.ROLLBACK).order_by("ci_id", "-pk").distinct("ci_id")
    back = dict(back_rows.values_list("ci_id", "state"))
    for one in there.select_related("ci", "batch__wave").iterator(chunk_size=2000):
        outcome = outcome_of(one.state, back.get(one.ci_id))
        yield CIRow(
            one.ci.number, one.ci.name, one.batch.wave.number, str(OUTCOMES[outcome][0]), one.attempt, one.error_code,
            one.message, one.reason, one.moved_at,
        )  # fmt: skip
