"""Classes, profiles, relations and CIs are set up here; what devices report and their tokens' digests are not."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext as _

from accounts.admin_classes import ReadOnlyAdmin, SetupAdmin
from cmdb.group_filter import check_filter
from cmdb.models import AgentProfile, AgentToken, CIClass, CIGroup, ConfigurationItem, InstalledVersion, Relation
from tickets.clock import now_of
from tickets.exceptions import InvalidInput


@admin.register(CIClass)
class CIClassAdmin(SetupAdmin):
    list_display = ["name", "slug"]
    search_fields = ["name", "slug"]
    prepopulated_fields = {"slug": ["name"]}


@admin.register(AgentProfile)
class AgentProfileAdmin(SetupAdmin):
    list_display = ["name", "takes", "proof", "attribute_key", "can_remove", "one_file_only"]
    search_fields = ["name"]


@admin.register(Relation)
class RelationAdmin(SetupAdmin):
    list_display = ["source", "kind", "target"]
    list_filter = ["kind"]
    list_select_related = ["source", "target"]
    search_fields = ["source__name", "target__name"]
    autocomplete_fields = ["source", "target"]


@admin.register(ConfigurationItem)
class ConfigurationItemAdmin(SetupAdmin):
    """CIs are never deleted, only retired; a copy for tests belongs to its environment."""

    list_display = ["name", "ci_class", "lifecycle", "owner", "agent_id", "copy_of", "last_seen_at"]
    list_filter = ["lifecycle", "ci_class", "agent_profile"]
    list_select_related = ["ci_class", "owner", "copy_of"]
    search_fields = ["name", "agent_id"]
    autocomplete_fields = ["owner", "team"]
    fields = [
        "name", "ci_class", "lifecycle", "owner", "team", "description", "agent_id", "agent_profile", "copy_of",
        "last_seen_at", "created_at",
    ]  # fmt: skip
    readonly_fields = ["copy_of", "last_seen_at", "created_at"]

    def has_delete_permission(self, request: HttpRequest, obj: ConfigurationItem | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ConfigurationItem, form: Any, change: bool) -> None:
        obj.agent_id = obj.agent_id or None
        if not change:
            obj.created_at = now_of(request)
        super().save_model(request, obj, form, change)


class CIGroupForm(forms.ModelForm):
    def clean_filter(self) -> dict[str, Any]:
        try:
            return check_filter(self.cleaned_data["filter"] or {})
        except InvalidInput as error:
            raise ValidationError(error.message) from error

    def clean_static_members(self) -> Any:
        found = self.cleaned_data["static_members"]
        if any(ci.copy_of_id is not None for ci in found):
            raise ValidationError(_("Copies for tests are in no group."))
        return found


@admin.register(CIGroup)
class CIGroupAdmin(SetupAdmin):
    form = CIGroupForm
    list_display = ["name", "description"]
    search_fields = ["name"]
    autocomplete_fields = ["static_members"]


@admin.register(AgentToken)
class AgentTokenAdmin(ReadOnlyAdmin):
    """When tokens were issued and revoked; never what they are."""

    list_display = ["id", "ci", "created_at", "revoked_at"]
    list_select_related = ["ci"]
    search_fields = ["ci__name"]
    exclude = ["sha256"]


@admin.register(InstalledVersion)
class InstalledVersionAdmin(ReadOnlyAdmin):
    list_display = ["ci", "product", "label", "valid_from", "valid_to", "source", "is_drift"]
    list_filter = ["is_drift", "product"]
    list_select_related = ["ci", "product"]
    search_fields = ["ci__name", "label", "source"]
    ordering = ["-pk"]
