"""People, teams and roles in the admin."""

from typing import Any

import allauth.account.admin  # noqa: F401 - registers what is unregistered below
import knox.admin  # noqa: F401 - registers what is unregistered below
from allauth.account.models import EmailAddress
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as BaseGroupAdmin
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.models import Group
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from knox.models import get_token_model
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts.admin_classes import ReadOnlyAdmin, SetupAdmin
from accounts.models import ServiceToken, Team, User

# Addresses are on the user; tokens are made at the login only, and their text is not kept.
admin.site.unregister([Group, EmailAddress, get_token_model()])


@admin.register(User)
class UserAdmin(BaseUserAdmin, SetupAdmin):
    """Rights come from roles only. People are deactivated, not deleted; only superusers touch superusers."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["username", "email", "first_name", "last_name", "is_active", "is_staff", "is_service_account"]
    list_filter = ["is_active", "is_staff", "is_service_account", "groups"]
    filter_horizontal = ["groups"]
    readonly_fields = ["last_login", "date_joined"]
    fieldsets = [
        (None, {"fields": ["username", "password"]}),
        (_("Person"), {"fields": ["first_name", "last_name", "email", "language", "time_zone", "theme"]}),
        (_("Roles"), {"fields": ["is_active", "is_staff", "is_superuser", "is_service_account", "groups"]}),
        (_("Dates"), {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [
        (
            None,
            {
                "classes": ["wide"],
                "fields": ["username", "email", "usable_password", "password1", "password2"],
            },
        )
    ]

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        fields = list(super().get_readonly_fields(request, obj))
        return fields if request.user.is_superuser else [*fields, "is_superuser"]  # type: ignore[union-attr]

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        if obj is not None and obj.is_superuser and not request.user.is_superuser:  # type: ignore[union-attr]
            return False
        return bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False


@admin.register(Group)
class GroupAdmin(BaseGroupAdmin, SetupAdmin):
    """Roles. `manage.py setup_roles` gives the portal's own ones exactly their rights again."""


@admin.register(Team)
class TeamAdmin(SetupAdmin):
    list_display = ["name", "email"]
    search_fields = ["name"]
    autocomplete_fields = ["members"]


@admin.register(ServiceToken)
class ServiceTokenAdmin(ReadOnlyAdmin):
    """Which tokens service accounts have; never what they are. They are issued and revoked in the portal."""

    list_display = ["name", "user", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at"]
    list_select_related = ["user"]
    search_fields = ["name", "user__username"]
    exclude = ["sha256"]
