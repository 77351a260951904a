"""Batches, deployments and their events: read-only."""

from django.contrib import admin

from accounts.admin_classes import ReadOnlyAdmin
from distribution.models import Batch, Deployment, DeploymentEvent


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
