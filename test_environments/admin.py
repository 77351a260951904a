"""Sources of copies are set up here; the environments themselves have verbs in the portal and the API."""

from django.contrib import admin

from accounts.admin_classes import ReadOnlyAdmin, SetupAdmin
from test_environments.models import CopySource, DiskReception, GoldenImage, NeutralisingRecipe, TestEnvironment


@admin.register(CopySource)
class CopySourceAdmin(SetupAdmin):
    list_display = ["ci", "folder", "driver", "method", "kind", "classification", "needs_approval"]
    list_select_related = ["ci"]
    search_fields = ["ci__name", "folder"]
    autocomplete_fields = ["ci"]


@admin.register(NeutralisingRecipe)
class NeutralisingRecipeAdmin(SetupAdmin):
    list_display = ["name", "ci_class", "is_masking"]
    list_select_related = ["ci_class"]
    list_filter = ["ci_class"]
    search_fields = ["name"]


@admin.register(GoldenImage)
class GoldenImageAdmin(ReadOnlyAdmin):
    list_display = ["number", "source", "kind", "method", "state", "approval", "requested_by", "created_at"]
    list_filter = ["state", "kind"]
    list_select_related = ["source", "requested_by"]
    search_fields = ["source__name", "reason"]
    exclude = ["lease"]


@admin.register(TestEnvironment)
class TestEnvironmentAdmin(ReadOnlyAdmin):
    list_display = ["number", "source", "copy", "state", "purpose", "requested_by", "created_at"]
    list_filter = ["state"]
    list_select_related = ["source", "copy", "requested_by"]
    search_fields = ["source__name", "purpose"]
    exclude = ["lease"]


@admin.register(DiskReception)
class DiskReceptionAdmin(ReadOnlyAdmin):
    list_display = ["number", "ci", "method", "state", "requested_by", "created_at"]
    list_filter = ["state", "method"]
    list_select_related = ["ci", "requested_by"]
    search_fields = ["ci__name", "reason"]
    exclude = ["token_sha256"]
