"""Statements that run for each request of each device: planned once for each connection, then only carried out.

Planning them costs several times as much as running them. Django's cursors put the values into the text, so PostgreSQL
sees another statement each time; these bind them on the server, and psycopg prepares what repeats
(`prepare_threshold` in `DATABASES`).
"""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

from django.db import connection, models, transaction
from psycopg import RawCursor

_NAME = re.compile(r"%\((\w+)\)s")


@lru_cache(maxsize=256)
def _numbered(statement: str) -> tuple[str, tuple[str, ...]]:
    """The statement as PostgreSQL takes it, $1 for the first name and so on, and the names in this order.

    Kept here, because psycopg would read long statements anew each time.
    """
    places: dict[str, int] = {}
    text = _NAME.sub(lambda found: f"${places.setdefault(found[1], len(places) + 1)}", statement)
    return text, tuple(places)


def columns_of(model: type[models.Model], *names: str) -> list[str]:
    """These columns in the model's order, in which `from_db` takes their values; it reads the others when asked for."""
    known = [field.attname for field in model._meta.concrete_fields]
    if not set(names) <= set(known):
        raise ValueError(f"{model.__name__} has no {set(names) - set(known)}")
    return [name for name in known if name in names]


def fetch_rows(statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """All rows of the statement's answer. Counted and logged like any other query.

    Values are bound on the server: a parameter whose type PostgreSQL cannot infer needs a cast in the text. Values that
    the statement does not name are ignored.
    """
    text, names = _numbered(statement)
    connection.ensure_connection()
    bound = RawCursor(connection.connection)
    make = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    with make(bound) as cursor:  # type: ignore[arg-type]
        cursor.execute(text, [values[name] for name in names])
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def fetch_row(statement: str, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """The first row of the answer, or None; otherwise as `fetch_rows`."""
    rows = fetch_rows(statement, values)
    return rows[0] if rows else None


def at_once() -> AbstractContextManager[Any]:
    """Around one statement that is a transaction of its own, so that it needs no BEGIN and COMMIT; within a transaction
    of the caller's it gets a savepoint, so that its failure undoes nothing else.
    """
    return transaction.atomic() if connection.in_atomic_block else nullcontext()
