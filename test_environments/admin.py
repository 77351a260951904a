"""Sources of copies are set up here; the environments themselves have verbs in the portal and the API."""

from django.contrib import admin

from accounts.admin_classes import ReadOnlyAdmin, SetupAdmin
from test_environments.models import CopySource, TestEnvironment


@admin.register(CopySource)
class CopySourceAdmin(SetupAdmin):
    list_display = ["ci", "folder"]
    list_select_related = ["ci"]
    search_fields = ["ci__name", "folder"]
    autocomplete_fields = ["ci"]


@admin.register(TestEnvironment)
class TestEnvironmentAdmin(ReadOnlyAdmin):
    list_display = ["number", "source", "copy", "state", "purpose", "requested_by", "created_at"]
    list_filter = ["state"]
    list_select_related = ["source", "copy", "requested_by"]
    search_fields = ["source__name", "purpose"]
    exclude = ["lease"]
