"""Keeping and forgetting views of lists."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.generic import View

from tickets.exceptions import InvalidInput
from tickets.models import SavedView
from tickets.saved_views import SavedViewForm, forget_view, keep_view
from tickets.views import PortalPage


class KeepView(PortalPage, View):
    """Keeps a view and shows the list with it; a refusal is told there, too."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        form = SavedViewForm(request.POST, user=request.user)
        if not form.is_valid():
            messages.error(request, str(next(iter(form.errors.values()))[0]))
            return HttpResponseRedirect(reverse("home"))
        try:
            view = keep_view(actor=request.user, **form.cleaned_data)
        except InvalidInput as refusal:
            messages.error(request, refusal.message)
            return HttpResponseRedirect(reverse("home"))
        messages.success(request, _("Kept as “%(name)s”.") % {"name": view.name})
        return HttpResponseRedirect(f"{reverse(view.page)}?{view.query}")


class ForgetView(PortalPage, View):
    """Forgets an own view and shows the list."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, key: int) -> HttpResponse:
        view = get_object_or_404(SavedView, pk=key, owner=self.person)
        forget_view(view, actor=request.user)
        messages.success(request, _("“%(name)s” is forgotten.") % {"name": view.name})
        return HttpResponseRedirect(reverse(view.page))
