"""Devices without devices: their steps in sets, and the floor that a rollout is compared with.

`feed` moves deployments as reports of devices do, through the engine's own step functions. `bare_floor` makes the same
steps with nothing but one UPDATE and one INSERT of an event for each, into the same tables.
"""

from collections.abc import Iterator
from datetime import datetime

from django.db import connection, transaction

from distribution.models import Batch, Deployment, DeploymentEvent, DeploymentState
from distribution.services import create_batch
from distribution.steps import move_where

Kind = DeploymentEvent.Kind
State = DeploymentState
# What a device does when all goes well, and the kind of the event that says so.
PATH = (
    (State.OFFERED, Kind.OFFERED),
    (State.DOWNLOADING, Kind.REPORT),
    (State.INSTALLING, Kind.REPORT),
    (State.CONFIRMING, Kind.REPORT),
    (State.SUCCEEDED, Kind.ATTRIBUTES),
)
FLOOR_CHUNK = 1000

_INSTALLED = """
WITH done AS (
    SELECT d.ci_id, i.product_id, i.to_version_id, v.label
    FROM distribution_deployment d JOIN distribution_deploymentitem i ON i.deployment_id = d.id
    JOIN software_version v ON v.id = i.to_version_id
    WHERE d.id = ANY(%(ids)s)
), ended AS (
    UPDATE cmdb_installedversion iv SET valid_to = %(now)s FROM done
    WHERE iv.ci_id = done.ci_id AND iv.product_id = done.product_id AND iv.valid_to IS NULL
    RETURNING iv.id, iv.ci_id, iv.product_id
)
INSERT INTO cmdb_installedversion (ci_id, product_id, version_id, label, replaced_id, valid_from, source, is_drift)
SELECT ci_id, product_id, done.to_version_id, done.label, ended.id, %(now)s, 'benchmark', false
FROM done JOIN ended USING (ci_id, product_id)
"""
_QUEUE = """
WITH made AS (
    INSERT INTO distribution_deployment
        (batch_id, ci_id, attempt, state, state_before_cancel, weight, created_at, moved_at, error_code, message,
         reports, reason)
    SELECT %(batch)s, id, 1, 'queued', '', 500, %(now)s, %(now)s, '', '', 0, ''
    FROM cmdb_configurationitem WHERE id > %(after)s ORDER BY id LIMIT 10000
    RETURNING id, ci_id
)
INSERT INTO distribution_deploymentevent
    (deployment_id, kind, from_state, to_state, at, execution, result, details, is_duplicate)
SELECT id, 'created', '', 'queued', %(now)s, '', '', '[]', false FROM made ORDER BY id
RETURNING (SELECT max(ci_id) FROM made)
"""
_FLOOR_UPDATE = """
UPDATE distribution_deployment SET state = %(to)s, moved_at = %(now)s, finished_at = {finished}, reports = {reports}
WHERE batch_id = %(batch)s AND id BETWEEN %(first)s AND %(last)s AND state = %(from)s
"""
_FLOOR_INSERT = """
INSERT INTO distribution_deploymentevent
    (deployment_id, kind, from_state, to_state, at, execution, result, details, is_duplicate)
SELECT id, %(kind)s, %(from)s, %(to)s, %(now)s, '', '', '[]', false
FROM generate_series(%(first)s::int, %(last)s::int) AS id
"""


def feed(batch: int, ids: tuple[int, int], to_state: str, *, now: datetime) -> int:
    """Lets the devices of these deployments (first and last id) come to that state from the one before; how many.

    With the last one the CIs run the version.
    """
    place = [state for state, _kind in PATH].index(State(to_state))
    kind = PATH[place][1]
    source = PATH[place - 1][0] if place else State.QUEUED
    columns = {"reports": "d.reports + 1"} if kind == Kind.REPORT else {}
    if to_state == State.OFFERED:
        columns = {"offered_at": "%(now)s"}
    if to_state == State.CONFIRMING:
        columns["closed_at"] = "%(now)s"
    moved = _move(batch, ids, to_state, kind, source, now, columns)
    if to_state == State.SUCCEEDED and moved:
        with connection.cursor() as cursor:
            cursor.execute(_INSTALLED, {"ids": moved, "now": now})
    return len(moved)


def answer_cancellations(batch: int, *, now: datetime) -> int:
    """Every device that was asked to stop says that it has; how many."""
    ids = id_range(batch)
    columns = {"reports": "d.reports + 1"}
    return len(_move(batch, ids, State.CANCELLED, Kind.CANCEL_REPORT, State.CANCELLING, now, columns))


def _move(
    batch: int, ids: tuple[int, int], to: str, kind: str, source: str, now: datetime, columns: dict[str, str]
) -> list[int]:
    params = {"batch": batch, "first": ids[0], "last": ids[1]}
    where = "d.batch_id = %(batch)s AND d.id BETWEEN %(first)s AND %(last)s"
    moved: list[int] = []
    while some := move_where(where, params, to_state=to, kind=kind, now=now, assignments=columns, sources=[source]):
        moved += some
        params["first"] = some[-1] + 1
    return moved


def id_range(batch: int) -> tuple[int, int]:
    """The first and the last id of the batch's deployments."""
    keys = Deployment.objects.filter(batch=batch).order_by("pk").values_list("pk", flat=True)
    return keys[0], keys.reverse()[0]


def slices(ids: tuple[int, int], number: int) -> list[tuple[int, int]]:
    """The ids in so many parts of about the same size."""
    first, last = ids
    size = -(-(last - first + 1) // number)
    return [(low, min(low + size - 1, last)) for low in range(first, last + 1, size)]


def rounds(ids: tuple[int, int], number: int) -> Iterator[list[tuple[tuple[int, int], str]]]:
    """Who does what in each round: one part after the other begins, so that in between some are in each state."""
    parts = slices(ids, number)
    for turn in range(len(parts) + len(PATH) - 1):
        yield [(parts[turn - n], str(state)) for n, (state, _) in enumerate(PATH) if 0 <= turn - n < len(parts)]


def queue_for_floor(now: datetime) -> int:
    """A batch of its own with every CI, waiting; its id."""
    batch = create_batch(label="floor", purpose=Batch.Purpose.FORWARD, now=now).pk
    after: int | None = 0
    with connection.cursor() as cursor:
        while after is not None:
            cursor.execute(_QUEUE, {"batch": batch, "now": now, "after": after})
            last = cursor.fetchone()
            after = last[0] if last else None
    return batch


def bare_floor(batch: int, *, now: datetime) -> int:
    """Takes the batch along the path of a device, 1,000 deployments in a transaction; how many steps were made."""
    first, last = id_range(batch)
    made, source = 0, str(State.QUEUED)
    for to, kind in PATH:
        update = _FLOOR_UPDATE.format(
            finished="%(now)s" if to == State.SUCCEEDED else "NULL",
            reports="reports + 1" if kind == Kind.REPORT else "reports",
        )
        for low in range(first, last + 1, FLOOR_CHUNK):
            params = {"batch": batch, "now": now, "from": source, "to": str(to), "kind": str(kind)}
            params |= {"first": low, "last": min(low + FLOOR_CHUNK - 1, last)}
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(update, params)
                made += cursor.rowcount
                cursor.execute(_FLOOR_INSERT, params)
        source = str(to)
    return made
