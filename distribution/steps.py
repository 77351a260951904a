"""The only writers of deployment states: each step is one statement that moves rows and writes their events.

A step is a compare-and-set: rows that are not (or no longer) in a state from which it is legal stay as they
are. Event ids are drawn while the row is locked, so that a deployment's events are in the order of their ids.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection

from cmdb.prepared import fetch_row, fetch_rows
from distribution.models import LEGAL_STEPS, TERMINAL
from failpoints import failpoint

# Deployments that one step of the engine writes or moves at most, so that it is over soon and holds up nobody. The next
# step goes on: what has moved does not fulfil the condition any more. 1,000 take less than a tenth of a second.
CHUNK = 1000

_TERMINAL = [state.value for state in TERMINAL]

_MOVE = """
WITH {before} picked AS (
    SELECT d.id, d.state FROM distribution_deployment d
    WHERE d.state = ANY(%(sources)s::text[]) AND {where}
    ORDER BY d.id LIMIT {limit} FOR UPDATE OF d
), moved AS (
    UPDATE distribution_deployment d
    SET state = %(to_state)s::text, moved_at = %(now)s::timestamptz, finished_at = {finished} {assignments}
    FROM picked WHERE d.id = picked.id
    RETURNING d.id, picked.state AS from_state
)
INSERT INTO distribution_deploymentevent
    (deployment_id, kind, from_state, to_state, at, execution, result, details, is_duplicate)
SELECT id, %(kind)s::text, from_state, %(to_state)s::text, %(now)s::timestamptz, '', '', %(details)s::jsonb, false
FROM moved ORDER BY id
RETURNING deployment_id
"""

_RECORD = """
WITH moved AS (
    UPDATE distribution_deployment d SET {assignments}
    WHERE d.id = %(id)s AND d.state = %(from_state)s::text {conditions}
    RETURNING d.id, d.ci_id
) {effects}
INSERT INTO distribution_deploymentevent
    (deployment_id, kind, from_state, to_state, at, execution, result, details, fingerprint, is_duplicate)
SELECT id, %(kind)s::text, %(from_state)s::text, %(to_state)s::text, %(now)s::timestamptz, %(execution)s::text,
    %(result)s::text, %(details)s::jsonb,
    %(fingerprint)s::text, %(fingerprint)s::text <> '' AND EXISTS (
        SELECT 1 FROM distribution_deploymentevent e
        WHERE e.deployment_id = %(id)s AND e.fingerprint = %(fingerprint)s::text AND e.kind = %(kind)s::text)
FROM moved
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Effect:
    """What is written together with a step of one deployment, in the same statement.

    `writes`: common table expressions over `moved (id, ci_id)`, each with a comma before it. `condition`: “AND …” over
    the deployment `d`, without which nothing is written at all.
    """

    writes: str
    condition: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)


NO_EFFECT = Effect("")


def legal_sources(to_state: str) -> list[str]:
    """The states from which a deployment may go to `to_state`."""
    return [source for source, targets in LEGAL_STEPS.items() if to_state in targets]


def move_where(
    where: str,
    params: Mapping[str, Any],
    *,
    to_state: str,
    kind: str,
    now: datetime,
    details: Sequence[str] = (),
    assignments: Mapping[str, str] | None = None,
    sources: Sequence[str] | None = None,
    is_single: bool = False,
    before: str = "",
) -> list[int]:
    """Moves deployments `d` that fulfil the SQL condition `where`, with one event each: the first `CHUNK` by id.

    `assignments` are further columns as SQL expressions over `d`, `picked.state` and `params`. `is_single`: the
    condition names one deployment, for a device that asks; the statement is then planned once. `before`: common table
    expressions that the condition uses, each with a comma behind it. Returns the ids moved; with fewer than `CHUNK`
    of them nothing was left.
    """
    to_state = str(to_state)
    legal = legal_sources(to_state)
    statement = _MOVE.format(
        before=before,
        where=where,
        limit=CHUNK,
        finished="%(now)s" if to_state in _TERMINAL else "NULL",
        assignments="".join(f", {column} = {value}" for column, value in (assignments or {}).items()),
    )
    values = {
        **params,
        "sources": [s for s in legal if sources is None or s in sources],
        "to_state": to_state,
        "kind": str(kind),
        "now": now,
        "details": json.dumps(list(details)),
    }
    moved = [row[0] for row in _carry_out(statement, values, is_prepared=is_single)]
    failpoint("step.moved")
    return moved


def _carry_out(statement: str, values: Mapping[str, Any], *, is_prepared: bool) -> list[tuple[Any, ...]]:
    if is_prepared:
        return fetch_rows(statement, values)
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def record_step(
    deployment_id: int,
    *,
    from_state: str,
    to_state: str,
    kind: str,
    now: datetime,
    execution: str = "",
    result: str = "",
    details: Sequence[str] = (),
    fingerprint: str = "",
    values: Mapping[str, Any] | None = None,
    as_read: Mapping[str, Any] | None = None,
    effect: Effect | None = None,
) -> bool:
    """Writes one event of one deployment together with the step it makes, if any; False: it is not in
    `from_state`.

    An event with the fingerprint of an earlier one of its kind is marked as a duplicate. `values` are further
    columns. For a caller that did not lock the row: `as_read` are columns that have to be as he read them; False also
    when they are not, or the condition of the `effect` does not hold.
    """
    from_state, to_state = str(from_state), str(to_state)
    if to_state != from_state and to_state not in LEGAL_STEPS.get(from_state, frozenset()):
        raise ValueError(f"a deployment cannot go from {from_state} to {to_state}")
    columns: dict[str, Any] = dict(values or {})
    if to_state != from_state:
        columns |= {"state": to_state, "moved_at": now}
        if to_state in _TERMINAL:
            columns["finished_at"] = now
    assignments = ", ".join(f"{name} = %(set_{name})s" for name in columns) or "state = d.state"
    unchanged = [f"AND d.{name} IS NOT DISTINCT FROM %(was_{name})s" for name in as_read or ()]
    effect = effect or NO_EFFECT
    row = fetch_row(
        _RECORD.format(
            assignments=assignments, conditions=" ".join([*unchanged, effect.condition]), effects=effect.writes
        ),
        {
            **effect.params,
            **{f"set_{name}": value for name, value in columns.items()},
            **{f"was_{name}": value for name, value in (as_read or {}).items()},
            "id": deployment_id,
            "from_state": from_state,
            "to_state": to_state,
            "kind": str(kind),
            "now": now,
            "execution": execution,
            "result": result,
            "details": json.dumps(list(details)),
            "fingerprint": fingerprint,
        },
    )
    return row is not None
