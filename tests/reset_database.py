"""What a test committed is taken back row by row: only in tables that it wrote, and with what was there at first.

Django's own way empties every table and creates permissions and triggers anew; it takes a second.
"""

from collections.abc import Callable

import pgtrigger
from django.db import connection, transaction

KEPT = "at_first"  # a schema with copies of those tables that are not empty at first


def remember_database() -> None:
    """To be called once, before the first test."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA IF EXISTS {KEPT} CASCADE; CREATE SCHEMA {KEPT}")
        for table in _tables_that(lambda table: f"EXISTS (TABLE {table})"):
            cursor.execute(f"CREATE TABLE {KEPT}.{table} AS TABLE {table}")


def reset_database() -> None:
    """To be called after each test that committed; does nothing where nothing was remembered. Sequences go on."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [KEPT])
        kept = {table for (table,) in cursor.fetchall()}
    if not kept:
        return

    def is_changed(table: str) -> str:
        if table not in kept:
            return f"EXISTS (TABLE {table})"
        return (
            f"EXISTS (TABLE {table} EXCEPT ALL TABLE {KEPT}.{table})"
            f" OR EXISTS (TABLE {KEPT}.{table} EXCEPT ALL TABLE {table})"
        )

    changed = _tables_that(is_changed)
    # Foreign keys are looked at when it commits.
    with pgtrigger.ignore(), transaction.atomic(), connection.cursor() as cursor:
        for table in changed:
            cursor.execute(f"DELETE FROM {table}")
        for table in kept.intersection(changed):
            cursor.execute(f"INSERT INTO {table} TABLE {KEPT}.{table}")


def _tables_that(condition: Callable[[str], str]) -> list[str]:
    """Tables of models for which a condition in SQL holds."""
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(f"SELECT '{table}' WHERE {condition(table)}" for table in sorted(tables)))
        return [table for (table,) in cursor.fetchall()]
