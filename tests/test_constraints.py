"""The database has every constraint and index that the models name: a migration may drop one for another."""

import pytest
from django.apps import apps
from django.db import connection

pytestmark = pytest.mark.django_db


def test_every_constraint_and_index_of_the_models_is_in_the_database() -> None:
    missing = []
    for model in apps.get_models(include_auto_created=True):
        with connection.cursor() as cursor:
            found = connection.introspection.get_constraints(cursor, model._meta.db_table)
        named = [*model._meta.constraints, *model._meta.indexes]
        missing += [f"{model._meta.label}: {one.name}" for one in named if one.name not in found]
    assert missing == []


def test_a_ci_has_one_live_deployment_by_a_unique_index() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'distribution_one_live_per_ci'")
        ((definition,),) = cursor.fetchall()
    assert "UNIQUE INDEX" in definition
    for state in ("offered", "downloading", "installing", "confirming", "cancelling", "unknown"):
        assert f"'{state}'" in definition
