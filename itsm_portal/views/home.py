"""The first page: what waits for this person."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.generic import View

from itsm_portal.home import panels_for
from tickets.clock import now_of
from tickets.views import PortalPage


class Home(PortalPage, View):
    """The panels that serve him: work and decisions in the wide column, time and news in the narrow one."""

    section = "home"

    def get(self, request: HttpRequest) -> HttpResponse:
        panels = panels_for(self.person, now=now_of(request))
        context = self.get_context_data(
            title=_("Home"),
            breadcrumbs=[],
            main=[(panel.template, rows) for panel, rows in panels if not panel.is_aside],
            aside=[(panel.template, rows) for panel, rows in panels if panel.is_aside],
        )
        return render(request, "portal/home.html", context)
