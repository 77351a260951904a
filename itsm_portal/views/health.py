"""Probes for whoever watches the processes: no login, no session, no page."""

from django.core.cache import cache
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

# Migrations of a running process do not change for the better: once applied, they are not counted again.
_state = {"migrated": False}


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """200 while the process answers; restarting it is what helps when it does not."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when database, migrations and cache are there, else 503 with what is missing."""
    checks = {"database": _database(), "migrations": False, "cache": _cache()}
    if checks["database"]:
        checks["migrations"] = _migrations()
    ready = all(checks.values())
    return JsonResponse({"status": "ready" if ready else "not ready", "checks": checks}, status=200 if ready else 503)


def _database() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception:  # a pool that gives no connection raises errors of its own
        return False
    return True


def _migrations() -> bool:
    if not _state["migrated"]:
        try:
            executor = MigrationExecutor(connection)
            _state["migrated"] = not executor.migration_plan(executor.loader.graph.leaf_nodes())
        except DatabaseError:
            return False
    return _state["migrated"]


def _cache() -> bool:
    try:
        cache.set("readyz", "1", timeout=5)
        return cache.get("readyz") == "1"
    except Exception:  # whatever the cache's driver raises
        return False
