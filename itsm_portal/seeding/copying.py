"""Rows into tables by COPY, past the services; the primary key's sequence goes on behind them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from django.db import connection, models, transaction

# Rows in one transaction: the database keeps a note for each foreign key until its end.
AT_ONCE = 20_000
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
T = TypeVar("T")


def next_key(model: type[models.Model]) -> int:
    """The first primary key that is free."""
    return int(model._base_manager.aggregate(newest=models.Max("pk"))["newest"] or 0) + 1


def copy_into(model: type[models.Model], fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Writes the rows, each with the values of `fields` (names of attributes); other fields get their defaults.

    Returns how many. What the database refuses (a constraint, an empty value) is raised as it says it.
    """
    columns = {field.attname: field for field in model._meta.concrete_fields}
    rest = [
        field
        for name, field in columns.items()
        if name not in fields and not field.primary_key and not field.has_db_default()
    ]
    tail = "".join("\t" + _text(field.get_default()) for field in rest) + "\n"
    names = ", ".join(f'"{field.column}"' for field in [*(columns[name] for name in fields), *rest])
    order = f'COPY "{model._meta.db_table}" ({names}) FROM STDIN'
    written = 0
    for batch in batches(rows, AT_ONCE):
        with transaction.atomic(), connection.cursor() as cursor, cursor.copy(order) as copy:
            copy.write("".join("\t".join(map(_text, row)) + tail for row in batch))
        written += len(batch)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT setval(pg_get_serial_sequence(%s, 'id'), max(id)) FROM \"{model._meta.db_table}\"",  # noqa: S608 - a table of ours
            [model._meta.db_table],
        )
    return written


@contextmanager
def word_indexes_afterwards() -> Iterator[None]:
    """Takes the indexes of words away and makes them anew at the end: row by row they cost most of the writing."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() AND indexdef ~ 'USING gin'"
        )
        indexes = cursor.fetchall()
        _check_constraints()
        for name, _order in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
    try:
        yield
    finally:
        _check_constraints()
        with connection.cursor() as cursor:
            cursor.execute("SET maintenance_work_mem = '512MB'")
            for _name, order in indexes:
                cursor.execute(order)
            cursor.execute("RESET maintenance_work_mem")


def _check_constraints() -> None:
    """Within a transaction: an index of a table is not made or dropped as long as its constraints are to be checked."""
    if connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def batches(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """The rows in lists of at most `size`."""
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch


def _text(value: Any) -> str:
    """A value as COPY reads it."""
    if value is None:
        return r"\N"
    if isinstance(value, str):
        return str(value).translate(_ESCAPES)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value).translate(_ESCAPES)
    return str(value)
