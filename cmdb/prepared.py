"""Statements that run for each request of each device: planned once for each connection, then only carried out.

Planning them costs several times as much as running them. Django's cursors put the values into the text, so PostgreSQL
sees another statement each time; these bind them on the server, and psycopg prepares what repeats
(`prepare_threshold` in `DATABASES`).
"""

from collections.abc import Mapping
from typing import Any

from django.db import connection
from psycopg import Cursor


def fetch_rows(statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """All rows of the statement's answer. Counted and logged like any other query.

    Values are bound on the server: a parameter whose type PostgreSQL cannot infer needs a cast in the text.
    """
    connection.ensure_connection()
    bound = Cursor(connection.connection)
    make = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    with make(bound) as cursor:  # type: ignore[arg-type]
        cursor.execute(statement, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def fetch_row(statement: str, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """The first row of the answer, or None; otherwise as `fetch_rows`."""
    rows = fetch_rows(statement, values)
    return rows[0] if rows else None
