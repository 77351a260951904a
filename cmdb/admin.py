"""Classes, profiles, relations and CIs are set up here; what devices report and their tokens' digests are not."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext as _
from unfold.widgets import UnfoldAdminTextareaWidget

from accounts.admin_classes import ReadOnlyAdmin, SetupAdmin
from cmdb.credentials import MAX_SECRET, check_secret, set_secret
from cmdb.group_filter import check_filter
from cmdb.models import (
    AgentProfile,
    AgentToken,
    CIClass,
    CIGroup,
    ConfigurationItem,
    Connection,
    Credential,
    GatewayToken,
    InstalledVersion,
    MaintenanceWindow,
    Registration,
    Relation,
    TrustedAuthority,
)
from tickets.clock import now_of
from tickets.exceptions import DomainError, InvalidInput


@admin.register(CIClass)
class CIClassAdmin(SetupAdmin):
    list_display = ["name", "slug", "maintenance_window"]
    list_select_related = ["maintenance_window"]
    search_fields = ["name", "slug"]

    def get_readonly_fields(self, request: HttpRequest, obj: CIClass | None = None) -> Any:
        """Approved plans name a class by its short name, so it stays."""
        return ["slug"] if obj else []

    def get_prepopulated_fields(self, request: HttpRequest, obj: CIClass | None = None) -> Any:
        return {} if obj else {"slug": ["name"]}


@admin.register(AgentProfile)
class AgentProfileAdmin(SetupAdmin):
    list_display = ["name", "takes", "proof", "attribute_key", "can_remove", "one_file_only", "can_wait"]
    search_fields = ["name"]


@admin.register(TrustedAuthority)
class TrustedAuthorityAdmin(SetupAdmin):
    list_display = ["name", "identifier", "may_register", "ci_class", "agent_profile"]
    list_select_related = ["ci_class", "agent_profile"]
    search_fields = ["name", "identifier"]


@admin.register(GatewayToken)
class GatewayTokenAdmin(ReadOnlyAdmin):
    """Which gateways there are; they are issued in the portal, never what they are."""

    list_display = ["name", "group", "may_register", "created_at", "revoked_at"]
    list_select_related = ["group"]
    search_fields = ["name"]
    exclude = ["sha256"]


@admin.register(Registration)
class RegistrationAdmin(ReadOnlyAdmin):
    """Devices that waited or wait for approval; decided in the portal."""

    list_display = ["agent_id", "state", "gateway_token", "authority", "first_seen_at", "decided_by", "ci"]
    list_filter = ["state"]
    list_select_related = ["gateway_token", "authority", "decided_by", "ci"]
    search_fields = ["agent_id"]


@admin.register(MaintenanceWindow)
class MaintenanceWindowAdmin(SetupAdmin):
    list_display = ["name", "weekdays", "start", "minutes", "zone"]
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
        "name", "ci_class", "lifecycle", "owner", "team", "description", "agent_id", "agent_profile",
        "maintenance_window", "copy_of", "last_seen_at", "created_at",
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


class SecretInput(UnfoldAdminTextareaWidget):
    """Takes a text and never shows it again, not even beside an error."""

    def format_value(self, value: Any) -> str:
        return ""


class CredentialForm(forms.ModelForm):
    """The secret goes in and never comes out: the field is always empty, and kept as it is when left empty."""

    secret = forms.CharField(
        label=_("Secret"),
        required=False,
        strip=False,
        max_length=MAX_SECRET,
        widget=SecretInput(attrs={"autocomplete": "off", "spellcheck": "false", "rows": 6}),
        help_text=_("A private key without a passphrase, or a password. Left empty, the present one stays."),
    )

    class Meta:
        model = Credential
        fields = ["name", "kind"]

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        secret = data.get("secret", "")
        if not secret and (self.instance.pk is None or "kind" in self.changed_data):
            self.add_error("secret", _("Give the secret."))
        elif secret and "kind" in data:
            try:
                check_secret(data["kind"], secret)
            except DomainError as error:
                self.add_error("secret", error.message)
        return data


@admin.register(Credential)
class CredentialAdmin(SetupAdmin):
    form = CredentialForm
    fields = ["name", "kind", "secret"]
    list_display = ["name", "kind", "changed_at"]
    search_fields = ["name"]

    def save_model(self, request: HttpRequest, obj: Credential, form: Any, change: bool) -> None:
        if form.cleaned_data["secret"]:
            set_secret(obj, secret=form.cleaned_data["secret"], actor=request.user, now=now_of(request))
        else:
            super().save_model(request, obj, form, change)


@admin.register(Connection)
class ConnectionAdmin(ReadOnlyAdmin):
    """How hosts are reached; changed on the CI's page."""

    list_display = ["ci", "kind", "address", "port", "user", "credential"]
    list_select_related = ["ci", "credential"]
    search_fields = ["ci__name", "address"]


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
