"""Batches, deployments and their events: read-only."""

from django.contrib import admin

from accounts.admin_classes import ReadOnlyAdmin
from distribution.models import Batch, Deployment, DeploymentEvent, PushRun, PushTarget


@admin.register(Batch)
class BatchAdmin(ReadOnlyAdmin):
    list_display = ["id", "label", "purpose", "is_open", "weight", "max_in_flight", "created_at"]
    list_filter = ["purpose", "is_open"]
    search_fields = ["label"]


@admin.register(Deployment)
class DeploymentAdmin(ReadOnlyAdmin):
    list_display = ["id", "batch", "ci", "attempt", "state", "error_code", "moved_at", "overdue_at"]
    list_filter = ["state", "batch__purpose"]
    list_select_related = ["batch", "ci"]
    search_fields = ["batch__label", "ci__name", "error_code"]


@admin.register(DeploymentEvent)
class DeploymentEventAdmin(ReadOnlyAdmin):
    list_display = ["id", "deployment_id", "kind", "from_state", "to_state", "at", "is_duplicate"]
    list_filter = ["kind"]
    search_fields = ["=deployment__id"]


@admin.register(PushRun)
class PushRunAdmin(ReadOnlyAdmin):
    list_display = ["id", "kind", "outcome", "started_at", "ended_at", "note"]
    list_filter = ["kind", "outcome"]
    exclude = ["lease"]


@admin.register(PushTarget)
class PushTargetAdmin(ReadOnlyAdmin):
    list_display = ["id", "run", "deployment", "ended_at"]
    list_select_related = ["run", "deployment"]
    search_fields = ["=deployment__id", "=run__id"]
