"""Products are set up here; versions and files come through the portal and the API, which check and hash them."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from accounts.admin_classes import ReadOnlyAdmin, SetupAdmin
from software.models import Artifact, Product, Version


@admin.register(Product)
class ProductAdmin(SetupAdmin):
    list_display = ["name", "slug", "owner"]
    list_select_related = ["owner"]
    search_fields = ["name", "slug"]
    autocomplete_fields = ["owner"]

    def get_readonly_fields(self, request: HttpRequest, obj: Product | None = None) -> Any:
        """Devices know a product by its short name, so it stays."""
        return ["slug"] if obj else []


@admin.register(Version)
class VersionAdmin(ReadOnlyAdmin):
    list_display = ["product", "label", "state", "created_by", "created_at"]
    list_filter = ["state", "product"]
    list_select_related = ["product", "created_by"]
    search_fields = ["label", "product__name"]
    ordering = ["-pk"]


@admin.register(Artifact)
class ArtifactAdmin(ReadOnlyAdmin):
    list_display = ["filename", "version", "format", "size", "sha256", "uploaded_at"]
    list_select_related = ["version__product"]
    search_fields = ["filename", "sha256"]
    exclude = ["file"]
