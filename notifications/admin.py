"""The outbox in the admin: read-only; mails that were given up can be put back into the queue."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts.admin_classes import ReadOnlyAdmin
from notifications import services
from notifications.models import Outbox


@admin.register(Outbox)
class OutboxAdmin(ReadOnlyAdmin):
    list_display = ["id", "state", "recipient", "thread", "subject", "attempts", "next_attempt_at", "sent_at"]
    list_filter = ["state", "created_at"]
    list_select_related = ["recipient"]
    search_fields = ["thread", "event", "subject", "recipient__username"]
    exclude = ["lease", "html"]
    actions = ["send_again"]

    def has_revive_permission(self, request: HttpRequest) -> bool:
        """Who may see the outbox may have dead letters sent again: it changes no text and no recipient."""
        return self.has_view_permission(request)

    @admin.action(description=_("Send mails that were given up again"), permissions=["revive"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Outbox]) -> None:
        count = services.revive_dead_letters(now=timezone.now(), ids=queryset.values_list("pk", flat=True))
        if count:
            text = ngettext("%d mail waits for the next tick.", "%d mails wait for the next tick.", count) % count
            messages.success(request, text)
        else:
            messages.warning(request, _t("None of them had been given up."))
