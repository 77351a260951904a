"""What stands on a CI and what it stands on: the only walk over relations, up and down, and the graph that people see.

Up are the CIs that an outage of this one hurts (they depend on it), down are those whose outage hurts it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.db import connection

from cmdb.models import ConfigurationItem, Relation

Direction = Literal["up", "down"]
# How far one may look, and what is drawn at once; what is beyond is told as a number.
MAX_DEPTH = 6
MAX_NODES = 1000
_MAX_EDGES = 4000
# Steps that are walked before counting ends.
_MAX_STEPS = 5000

_TO = {"up": "source_id", "down": "target_id"}
_FROM = {"up": "target_id", "down": "source_id"}
# UNION ends at circles; LIMIT ends the walk itself, which goes breadth first, so that what is near is complete.
_WALK = """
WITH RECURSIVE reached(base, ci_id, depth) AS (
    SELECT {base}, ci, 0 FROM unnest(%s::bigint[]) AS ci
    UNION
    SELECT reached.base, r.{to}, reached.depth + 1
    FROM reached JOIN cmdb_relation r ON r.{frm} = reached.ci_id
    WHERE reached.depth < %s {only}
)
"""
_NEAREST_FIRST = """
SELECT ci_id FROM reached WHERE ci_id <> ALL(%s::bigint[]) GROUP BY ci_id ORDER BY min(depth), ci_id
"""
_BOUNDED = """
SELECT ci_id, min(depth), count(*) FROM (SELECT ci_id, depth FROM reached LIMIT %s) AS walked
WHERE ci_id <> ALL(%s::bigint[]) GROUP BY ci_id
"""
_BASES = """
SELECT DISTINCT base, ci_id FROM (SELECT base, ci_id, depth FROM reached LIMIT %s) AS walked WHERE depth > 0
"""
_SERVICES = """
SELECT DISTINCT ci_id, base FROM reached WHERE EXISTS (SELECT FROM cmdb_relation r WHERE r.source_id = ci_id)
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A CI of the graph, `depth` steps from the one in the middle: above it (negative) or below it (positive)."""

    ci: ConfigurationItem
    depth: int

    @property
    def steps(self) -> int:
        return abs(self.depth)


@dataclass(frozen=True, slots=True)
class Edge:
    """`source` depends on `target`."""

    source: int
    target: int
    kind: str


@dataclass(frozen=True, slots=True)
class Graph:
    """The middle, what was found around it, and the relations between all of it. `more` CIs are beyond that; at least
    so many when `is_counted` is false.
    """

    middle: ConfigurationItem
    nodes: list[Node]
    edges: list[Edge]
    more: int
    is_counted: bool

    @property
    def all_nodes(self) -> list[Node]:
        return [Node(self.middle, 0), *self.nodes]


def dependencies_of(ci_id: int, *, depth: int = 3) -> list[int]:
    """Ids of the CIs that this one depends on, up to `depth` steps away; nearest first. One query."""
    return _nearest([ci_id], "down", depth)


def dependents_of(ci_ids: Sequence[int], *, depth: int = 3) -> list[int]:
    """Ids of the other CIs that depend on one of these, up to `depth` steps away; nearest first. One query."""
    return _nearest(list(ci_ids), "up", depth)


def bases_of(ci_ids: Sequence[int], *, depth: int = 3) -> list[tuple[int, int]]:
    """Pairs of one of these CIs and another one that it stands on, up to `depth` steps away. One query."""
    return _rows(_walk("down", base="ci") + _BASES, [list(ci_ids), depth, _MAX_STEPS])


def services_above(ci_ids: Sequence[int], *, depth: int = 3) -> list[tuple[int, int]]:
    """Pairs of a service (a CI that depends on others) and one of these CIs that it stands on or is. One query."""
    return _rows(_walk("up", base="ci") + _SERVICES, [list(ci_ids), depth])


def graph_of(ci: ConfigurationItem, user: Any, *, up: int = 2, down: int = 2, limit: int = 300) -> Graph:
    """What surrounds a CI, as far as this person may see it: the walk itself goes only over what is visible.

    At most `limit` CIs, the nearest. Four queries.
    """
    limit = min(limit, MAX_NODES)
    below, is_below_counted = _around(ci, user, "down", down)
    above, is_above_counted = _around(ci, user, "up", up)
    # In a circle a CI is above and below; it is drawn once, where it is nearer.
    depths = below | {key: -depth for key, depth in above.items() if depth <= below.get(key, depth)}
    nearest = dict(sorted(depths.items(), key=lambda item: (abs(item[1]), item[0]))[:limit])
    rows = ConfigurationItem.objects.filter(pk__in=nearest).select_related("ci_class").with_drift()
    nodes = [Node(row, nearest[row.pk]) for row in rows]
    keys = [ci.pk, *nearest]
    edges = Relation.objects.filter(source__in=keys, target__in=keys).order_by("pk")
    return Graph(
        middle=ci,
        nodes=sorted(nodes, key=lambda node: (abs(node.depth), node.depth, node.ci.name)),
        edges=[Edge(*row) for row in edges.values_list("source_id", "target_id", "kind")[:_MAX_EDGES]],
        more=len(depths) - len(nearest),
        is_counted=is_below_counted and is_above_counted,
    )


def _around(ci: ConfigurationItem, user: Any, direction: Direction, depth: int) -> tuple[dict[int, int], bool]:
    """Visible CIs in this direction by their distance, and whether these are all."""
    visible, values = ConfigurationItem.objects.visible_to(user).order_by().values("pk").query.sql_with_params()
    walk = _walk(direction, only=f"AND r.{_TO[direction]} IN ({visible})")
    rows = _rows(walk + _BOUNDED, [[ci.pk], min(depth, MAX_DEPTH), *values, _MAX_STEPS, [ci.pk]])
    return {key: distance for key, distance, _steps in rows}, sum(steps for *_row, steps in rows) < _MAX_STEPS - 1


def _nearest(ci_ids: list[int], direction: Direction, depth: int) -> list[int]:
    return [key for (key,) in _rows(_walk(direction) + _NEAREST_FIRST, [ci_ids, depth, ci_ids])]


def _walk(direction: Direction, *, base: str = "NULL::bigint", only: str = "") -> str:
    """The recursive query; with `base` it tells from which CI a row was reached, which makes it a row for each."""
    return _WALK.format(base=base, to=_TO[direction], frm=_FROM[direction], only=only)


def _rows(statement: str, values: list[Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()
