"""What must hold in every database of the portal, whatever failed; `manage.py check_invariants` looks for violations.

Each check is a query that returns what violates it. I13 and I16 can only be proven by the test suite.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.db import connection

from distribution.models import LEGAL_STEPS, LIVE, OPEN, TERMINAL, Deployment
from distribution.services import Counts
from notifications.models import Outbox
from releases import conditions, invariant_queries, invariant_queries_deployments, invariant_queries_ways_back
from releases.gates import probe_verdicts, reported_since_installation
from releases.models import Release, Rollout, Verdict, Wave
from releases.policy import RolloutPolicy
from releases.services.content import release_hash
from software.models import Artifact

# Clocks of a request and of a tick are read at their start and written later; as long as a tick may take.
TOLERANCE_SECONDS = 30
LIMIT = 50
QUERIES = (
    *invariant_queries.QUERIES,
    *invariant_queries_deployments.QUERIES,
    *invariant_queries_ways_back.QUERIES,
)
UNDECIDED = {
    "I13": "proven by the test suite only: no decision uses an agent's clock",
    "I16": "proven by the test suite only: a second tick on a quiet database writes nothing",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One row that breaks an invariant: which one, and what is wrong with it."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


def check_invariants(
    *, journals: Path | None = None, files: bool = True, tolerance: int = TOLERANCE_SECONDS
) -> list[Violation]:
    """Every violation in this database, at most `LIMIT` for each check.

    `journals` is a folder with the agents' journals, `<controller>/…/journal.jsonl` (adds I3). `files` also reads the
    stored files (I12). `tolerance` in seconds is for clocks that different processes read (I6, I7).
    """
    steps = [(source, target) for source, targets in LEGAL_STEPS.items() for target in targets]
    params: dict[str, Any] = {
        "limit": LIMIT,
        "tolerance": tolerance,
        "live": [state.value for state in LIVE],
        "open": [state.value for state in OPEN],
        "terminal": [state.value for state in TERMINAL],
        "message_states": Outbox.State.values,
        "sources": [source for source, _target in steps],
        "targets": [target for _source, target in steps],
    }
    found: list[Violation] = []
    with connection.cursor() as cursor:
        for invariant, text, sql in QUERIES:
            cursor.execute(f"{sql} LIMIT %(limit)s", params)
            found += [Violation(invariant.format(*row), text.format(*row)) for row in cursor.fetchall()]
    checks: list[tuple[str, Callable[[], Iterable[str]]]] = [("I6", _verdicts), ("I11", _approved), ("I12", _digests)]
    if files:
        checks.append(("I12", _files))
    for invariant, check in checks:
        found += [Violation(invariant, text) for text, _n in zip(check(), range(LIMIT), strict=False)]
    if journals is not None:
        found += [Violation("I3", text) for text in _journals(journals)]
    return sorted(found, key=lambda violation: (int(violation.invariant[1:]), violation.text))


# --- I6 --------------------------------------------------------------------------------------------
_NUMBERS = """
SELECT state, count(*), count(*) FILTER (WHERE is_overdue), count(*) FILTER (WHERE is_ignored),
    count(*) FILTER (WHERE is_ignored AND is_overdue)
FROM (
    SELECT DISTINCT ON (d.ci_id) newest.to_state AS state, newest.is_overdue, EXISTS (
        SELECT 1 FROM releases_failuredecision x
        WHERE x.deployment_id = d.id AND x.kind = 'ignored' AND coalesce(x.after_verdict_id, 0) < %s) AS is_ignored
    FROM distribution_deployment d
    CROSS JOIN LATERAL (
        SELECT (array_agg(e.to_state ORDER BY e.id DESC))[1] AS to_state,
            bool_or(e.details = '["overdue"]'::jsonb) AS is_overdue
        FROM distribution_deploymentevent e WHERE e.deployment_id = d.id AND e.id <= %s
    ) newest
    WHERE d.batch_id = %s AND newest.to_state IS NOT NULL
    ORDER BY d.ci_id, d.attempt DESC
) standing GROUP BY state
"""


def numbers_at(verdict: Verdict) -> conditions.WaveNumbers:
    """The numbers of a verdict, computed again from the event log up to its position."""
    values: dict[str, int] = {}
    overdue = accepted_failed = accepted_overdue = accepted_other = 0
    with connection.cursor() as cursor:
        cursor.execute(_NUMBERS, [verdict.pk, verdict.event_position, verdict.wave.batch_id])
        for state, number, late, ignored, ignored_late in cursor.fetchall():
            values[state] = number
            overdue += late if state in OPEN else 0
            accepted_overdue += ignored_late if state in OPEN else 0
            accepted_failed += ignored if state == "failed" else 0
            accepted_other += ignored if state in {"cancelled", "superseded"} else 0
    counts = Counts(**values, overdue=overdue, total=sum(values.values()))
    total = accepted_failed + accepted_overdue + accepted_other
    accepted = conditions.Accepted(total, accepted_failed, accepted_overdue)
    numbers = conditions.numbers_of(counts, size=verdict.numbers["size"], accepted=accepted)
    # Cancelled since, an incident no longer speaks against the wave; what spoke against it then must be there.
    reported = verdict.numbers.get("incidents", 0)
    if reported:
        then = reported_since_installation(verdict.wave.rollout, verdict.wave).filter(created_at__lte=verdict.at)
        reported = min(reported, then.count())
    said = probe_verdicts(verdict.wave, RolloutPolicy.from_json(verdict.policy), round=verdict.round, until=verdict.at)
    return replace(
        numbers,
        incidents=reported,
        accepted_incidents=verdict.numbers.get("accepted_incidents", 0),
        failed_probes=said.count("fail"),
    )


def _verdicts() -> Iterator[str]:
    holds: dict[tuple[str, str], Callable[[conditions.WaveNumbers, RolloutPolicy], bool]] = {
        ("error", "breached"): conditions.is_breached,
        ("success", "passed"): conditions.is_success_reached,
        ("success", "insufficient"): conditions.is_stuck,
        ("pass", "passed"): conditions.is_success_reached,
        ("override", "overridden"): _is_said,
    }
    for verdict in Verdict.objects.select_related("wave__rollout").iterator(1000):
        numbers, policy = numbers_at(verdict), RolloutPolicy.from_json(verdict.policy)
        if verdict.wave.kind == Wave.Kind.ROLLBACK:
            policy = policy.of_rollback()
        name = f"verdict {verdict.pk} on {verdict.wave} of {verdict.wave.rollout.number}"
        decides = holds.get((verdict.kind, verdict.outcome))
        if decides is None:
            yield f"{name} is {verdict.kind}/{verdict.outcome}, which no rule gives"
        elif numbers.accepted != verdict.numbers["accepted"]:
            yield f"{name} counts {verdict.numbers['accepted']} accepted failures; {numbers.accepted} are named"
        elif not decides(numbers, policy):
            yield f"{name} says {verdict.outcome}; the log up to {verdict.event_position} says otherwise: {numbers}"
        elif verdict.policy != verdict.wave.rollout.policy:
            yield f"{name} used another policy than its rollout"


def _is_said(_numbers: conditions.WaveNumbers, _policy: RolloutPolicy) -> bool:
    """No rule gives a person's decision; that a person made it stands in the rollout's events (see the queries)."""
    return True


# --- I11, I12 --------------------------------------------------------------------------------------
_FIXED = (Release.State.DEPLOYING, Release.State.COMPLETED, Release.State.ROLLED_BACK)


def _approved() -> Iterator[str]:
    """While a rollout runs, and after it, the release is what was approved."""
    newest = Rollout.objects.filter(release__state__in=_FIXED).order_by("release_id", "-pk").distinct("release_id")
    for rollout in newest.select_related("release"):
        if release_hash(rollout.release) != rollout.approved_hash:
            yield f"{rollout.number}: {rollout.release.number} is no longer what was approved"


def _digests() -> Iterator[str]:
    """No deployment is under way with a version whose files were not stored before the rollout was approved."""
    offered = Deployment.objects.filter(offered_at__isnull=False, batch__wave__kind="forward")
    artifacts = Artifact.objects.filter(version__deployments__deployment__in=offered).distinct()
    for artifact in artifacts.iterator(1000):
        late = offered.filter(
            items__to_version=artifact.version_id, batch__wave__rollout__started_at__lt=artifact.uploaded_at
        )
        for deployment in late.select_related("batch")[:1]:
            yield f"{artifact} was stored after {deployment.batch.label} had been approved"


def _files() -> Iterator[str]:
    """Every file of a version that was ever queued has the digest that stands in its row."""
    queued = Artifact.objects.filter(version__deployments__isnull=False).exclude(version__state="archived")
    for artifact in queued.distinct().iterator(1000):
        try:
            with artifact.file.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            yield f"{artifact} of {artifact.version_id}: its file cannot be read ({type(error).__name__})"
            continue
        if digest != artifact.sha256:
            yield f"{artifact} of version {artifact.version_id}: the file is {digest}, the row says {artifact.sha256}"


# --- I3 --------------------------------------------------------------------------------------------
_REPORTS = """
SELECT count(*) FROM distribution_deploymentevent
WHERE deployment_id = %s AND kind IN ('report', 'cancel_report') AND NOT is_duplicate
"""


def _journals(folder: Path) -> Iterator[str]:
    """Each report that a device saw accepted has its event; there are none that the device did not send.

    Repetitions aside: a device that was killed while it waited for the answer has written down the repetition only.
    """
    reports: dict[tuple[int, Any], bool] = {}
    for path in sorted(folder.rglob("journal.jsonl*")):
        for position, line in enumerate(_lines(path)):
            if line.get("action") is None:
                continue
            report = int(line["action"]), line.get("report", f"line {position}")
            reports[report] = reports.get(report, False) or line.get("status") == 200
    sent = Counter(action for action, _number in reports)
    accepted = Counter(action for (action, _number), is_accepted in reports.items() if is_accepted)
    with connection.cursor() as cursor:
        for action in sorted(sent):
            cursor.execute(_REPORTS, [action])
            events = cursor.fetchone()[0]
            if not accepted[action] <= events <= sent[action]:
                yield (
                    f"deployment {action}: the device saw {accepted[action]} reports accepted and sent at most "
                    f"{sent[action]}; there are {events} events"
                )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # cut by a full disk
        if isinstance(line, dict):
            yield line
