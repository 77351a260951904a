"""Keeping and forgetting views of lists."""

from contextlib import suppress

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.views.generic import View

from tickets.exceptions import InvalidInput
from tickets.models import SavedView
from tickets.saved_views import SavedViewForm, forget_view, keep_view, query_text
from tickets.views import PortalPage


class KeepView(PortalPage, View):
    """Keeps a view and shows the list with it; a refusal is told there, too."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        form = SavedViewForm(request.POST, user=request.user)
        if not form.is_valid():
            return self.refuse(str(next(iter(form.errors.values()))[0]))
        try:
            view = keep_view(actor=request.user, **form.cleaned_data)
        except InvalidInput as refusal:
            return self.refuse(refusal.message)
        messages.success(request, _("Kept as “%(name)s”.") % {"name": view.name})
        return HttpResponseRedirect(f"{reverse(view.page)}?{view.query}")

    def refuse(self, text: str) -> HttpResponse:
        """Told on the list as it was, or at home where it was none."""
        messages.error(self.request, text)
        page, query = self.request.POST.get("page", ""), QueryDict(self.request.POST.get("query", ""))
        with suppress(NoReverseMatch):
            if page.endswith("_list"):
                return HttpResponseRedirect(f"{reverse(page)}?{query_text(query)}")
        return HttpResponseRedirect(reverse("home"))


class ForgetView(PortalPage, View):
    """Forgets an own view and shows the list."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, key: int) -> HttpResponse:
        view = get_object_or_404(SavedView, pk=key, owner=self.person)
        forget_view(view, actor=request.user)
        messages.success(request, _("“%(name)s” is forgotten.") % {"name": view.name})
        return HttpResponseRedirect(reverse(view.page))
