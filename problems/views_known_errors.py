"""Known errors as everybody reads them: a page of its own, and suggestions while somebody reports an incident."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import View

from problems.known_errors import REPORT, known_errors, workaround_helped
from problems.models import Problem
from tickets.clock import now_of
from tickets.numbers import parse_number
from tickets.views import PortalPage

MOST_ON_THE_PAGE = 50


class KnownErrors(PortalPage, View):
    """GET: what fits the words of `title`. POST: the workaround of `number` helped."""

    permission = REPORT
    title = gettext_lazy("Known errors")

    def get(self, request: HttpRequest) -> HttpResponse:
        text = request.GET.get("title", "")[:200]
        if getattr(request, "htmx", False) and request.headers.get("HX-Target") == "known-errors":
            found = known_errors(self.person, text) if text.strip() else []
            return render(request, "problems/_known_errors.html", {"known_errors": found})
        found = known_errors(self.person, text, most=MOST_ON_THE_PAGE)
        context: dict[str, Any] = self.get_context_data(known_errors=found, text=text)
        return render(request, "problems/known_errors.html", context)

    def post(self, request: HttpRequest) -> HttpResponse:
        number = parse_number(request.POST.get("number", ""))
        key = number[1] if number and number[0] == Problem.PREFIX else 0
        problem = Problem.objects.published_to(self.person).filter(pk=key).first()
        if problem is None:
            raise Http404
        workaround_helped(problem, actor=self.person, now=now_of(request))
        messages.success(request, _("Good that it works. Nothing was reported, and we know that the workaround helps."))
        return HttpResponseRedirect(reverse("home"))
