"""The two kinds of admin pages: setup data, which administrators edit, and records, which nobody edits there."""

from typing import Any

from django.db import models
from django.http import HttpRequest
from unfold.admin import ModelAdmin


class SetupAdmin(ModelAdmin):
    """Setup data: edited here by those who have the model's rights."""

    list_per_page = 50
    show_full_result_count = False


class ReadOnlyAdmin(ModelAdmin):
    """Records that only services write: whoever may view sees them, nobody changes them, superusers included."""

    list_per_page = 50
    show_full_result_count = False
    ordering = ["-pk"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Only what the page itself offers; no bulk deletion."""
        return {name: action for name, action in super().get_actions(request).items() if name in self._own_actions()}

    def _own_actions(self) -> set[str]:
        return {action if isinstance(action, str) else action.__name__ for action in self.actions or ()}
