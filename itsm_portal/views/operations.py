"""The page for those who run the portal."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.generic import View

from itsm_portal.operations import SEE, operations
from tickets.clock import now_of
from tickets.views import PortalPage


class OperationsPage(PortalPage, View):
    """Last self-check, rollouts that are not settled and why, ticks, workers, mails."""

    section = "operations"
    permission = SEE
    title = _("Operations")

    def get(self, request: HttpRequest) -> HttpResponse:
        context = self.get_context_data(operations=operations(), now=now_of(request))
        return render(request, "portal/operations.html", context)
