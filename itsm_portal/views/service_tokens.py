"""The page on which tokens of service accounts are issued, shown once, and revoked."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.generic import View

from accounts.models import ServiceToken, User
from itsm_portal import service_tokens
from tickets.clock import now_of
from tickets.exceptions import DomainError
from tickets.forms import PortalForm
from tickets.views import PortalPage, refuse


class TokenForm(PortalForm):
    user = forms.ModelChoiceField(
        User.objects.filter(is_active=True, is_service_account=True).order_by("username"), label=_("Service account")
    )
    name = forms.CharField(label=_("What it is for"), max_length=100)
    scopes = forms.CharField(
        label=_("Scopes"), max_length=2000, help_text=_("Parts of the API, for example: cis:read deploy:write")
    )
    days = forms.IntegerField(label=_("Valid for days"), min_value=1, max_value=service_tokens.MOST_DAYS, initial=90)

    def clean_scopes(self) -> list[str]:
        return str(self.cleaned_data["scopes"]).replace(",", " ").split()


class ServiceTokens(PortalPage, View):
    section = "service_tokens"
    permission = service_tokens.MANAGE
    title = _("Service tokens")

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.show(TokenForm(user=request.user))

    def post(self, request: HttpRequest) -> HttpResponse:
        now = now_of(request)
        if "revoke" in request.POST:
            key = request.POST["revoke"]
            token = get_object_or_404(ServiceToken, pk=key if key.isdecimal() and len(key) < 19 else 0)
            service_tokens.revoke_token(token, actor=request.user, now=now)
            return HttpResponseRedirect(reverse("service_tokens"))
        form = TokenForm(request.POST, user=request.user)
        if not form.is_valid():
            return self.show(form, status=400)
        try:
            _token, text = service_tokens.issue_token(actor=self.person, now=now, **form.cleaned_data)
        except DomainError as error:
            refuse(form, error)
            return self.show(form, status=error.status)
        return self.show(TokenForm(user=request.user), secret=text)

    def show(self, form: TokenForm, status: int = 200, **more: Any) -> HttpResponse:
        tokens = list(ServiceToken.objects.select_related("user")[:200])
        context = self.get_context_data(form=form, tokens=tokens, now=now_of(self.request), **more)
        response = render(self.request, "portal/service_tokens.html", context, status=status)
        response["Cache-Control"] = "no-store"
        return response
