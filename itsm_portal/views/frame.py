"""The live parts of the frame: bell, notices, theme."""

from collections.abc import Container
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST
from django.views.generic import View

from accounts.models import User
from notifications.models import Outbox
from notifications.services import mark_read
from tickets.clock import now_of
from tickets.views import PortalPage


class Bell(PortalPage, View):
    """How many notices are unread."""

    def get(self, request: HttpRequest) -> HttpResponse:
        unread = Outbox.objects.shown_to(self.person).filter(read_at__isnull=True)[:100].count()
        return render(request, "components/_bell.html", {"unread": unread})


class Notices(PortalPage, View):
    """A person's messages; POST marks all as read."""

    def get(self, request: HttpRequest) -> HttpResponse:
        rows = Outbox.objects.shown_to(self.person).order_by("-created_at")
        context: dict[str, Any] = self.get_context_data(
            title=_("Notices"), breadcrumbs=[{"label": _("Notices")}], notices=list(rows[:50])
        )
        return render(request, "portal/notices.html", context)

    def post(self, request: HttpRequest) -> HttpResponse:
        mark_read(request.user, now=now_of(request))
        return HttpResponseRedirect(reverse("notices"))


@require_POST
@login_required
def theme(request: HttpRequest) -> HttpResponse:
    """Keeps the chosen theme with the person and returns to where he was."""
    return _keep(request, "theme", User.Theme.values)


@require_POST
@login_required
def language(request: HttpRequest) -> HttpResponse:
    """Keeps the language of the pages and mails with the person and returns to where he was."""
    return _keep(request, "language", dict(settings.LANGUAGES))


def _keep(request: HttpRequest, name: str, allowed: Container[str]) -> HttpResponse:
    chosen = request.POST.get(name, "")
    if chosen in allowed:
        User.objects.filter(username=request.user.get_username()).update(**{name: chosen})
    target = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(
        target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        target = reverse("home")
    return HttpResponseRedirect(target)
