"""The admin as a whole: the portal's login in front of it, a policy for its scripts, and the history, read-only."""

from typing import Any

import pghistory.models
from allauth.account.decorators import secure_admin_login
from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.decorators import csp_replace
from django.apps import apps
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import BigIntegerField, OuterRef, QuerySet, Subquery
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.admin_classes import ReadOnlyAdmin

# Its pages carry scripts and styles of their own inside; nothing comes from elsewhere.
ADMIN_POLICY = {
    "default-src": [NONE],
    "script-src": [SELF, UNSAFE_INLINE, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
    "img-src": [SELF, "data:"],
    "font-src": [SELF],
    "connect-src": [SELF],
    "form-action": [SELF],
    "base-uri": [SELF],
    "frame-ancestors": [NONE],
    "manifest-src": [SELF],
}

admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
_admin_view: Any = admin.site.admin_view


def _with_policy(view: Any, cacheable: bool = False) -> Any:
    return csp_replace(ADMIN_POLICY)(_admin_view(view, cacheable))


admin.site.admin_view = _with_policy  # type: ignore[method-assign]


class HistoryAdmin(ReadOnlyAdmin):
    """What a row was, since when, and who changed it in which request."""

    list_display = ["pgh_id", "pgh_label", "pgh_obj_id", "pgh_created_at", "who", "where"]
    list_filter = ["pgh_label", "pgh_created_at"]
    list_select_related = ["pgh_context"]
    search_fields = ["=pgh_obj_id"]
    ordering = ["-pgh_id"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With the person, out of the context, in the same query."""
        user_id = Cast(KeyTextTransform("user", OuterRef("pgh_context__metadata")), BigIntegerField())
        names = get_user_model().objects.filter(pk=user_id).values("username")[:1]
        return super().get_queryset(request).annotate(username=Subquery(names))

    @admin.display(description=_("by"))
    def who(self, event: Any) -> str:
        return event.username or ""

    @admin.display(description=_("request"))
    def where(self, event: Any) -> str:
        return (event.pgh_context.metadata.get("url") or "") if event.pgh_context else ""


for _model in apps.get_models():
    if issubclass(_model, pghistory.models.Event) and not _model._meta.abstract and _model._meta.managed:
        admin.site.register(_model, HistoryAdmin)
