"""Pages of gateways, and of the devices that they and certificates bring: they wait here for approval."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from cmdb import admission
from cmdb.filters import GatewayFilter, RegistrationFilter
from cmdb.forms_admission import ApprovalForm, GatewayForm, RejectionForm
from cmdb.models import ConfigurationItem, GatewayToken, Registration
from cmdb.tables import GatewayTable, RegistrationTable
from tickets.clock import now_of
from tickets.views import ObjectPage, ServiceFormPage
from tickets.views_list import ListPage


class RegistrationList(ListPage):
    model = Registration
    table_class = RegistrationTable
    filterset_class = RegistrationFilter
    section = "ci_list"
    permission = admission.MANAGE
    title = gettext_lazy("Devices that wait for approval")
    intro = gettext_lazy(
        "A gateway or a certificate let them in. They are no CIs yet: nothing is offered to them before approval."
    )
    related = ("gateway_token", "authority")


class RegistrationPage(ObjectPage):
    model = Registration
    section = "ci_list"
    permission = admission.MANAGE
    list_url_name = "registration_list"
    related = ("gateway_token__group", "authority", "decided_by", "ci")


class RegistrationDetail(RegistrationPage, ServiceFormPage):
    """What is known about the device, and the form that makes it a CI."""

    form_class = ApprovalForm
    template_name = "cmdb/registration_detail.html"
    title = gettext_lazy("Approve")

    def instance(self, **kwargs: Any) -> Registration:
        found: Registration = self.find(kwargs["number"])
        return found

    def perform(self, instance: Registration, data: dict[str, Any]) -> ConfigurationItem:
        return admission.approve_registration(instance, actor=self.request.user, now=now_of(self.request), **data)

    def form_crumbs(self, instance: Registration) -> list[dict[str, str]]:
        return self.crumbs_of(instance)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        registration: Registration = kwargs["object"]
        return super().get_context_data(attributes=sorted(registration.attributes.items()), **kwargs)


class RegistrationReject(RegistrationPage):
    http_method_names = ["post"]

    def post(self, request: HttpRequest, number: str) -> HttpResponse:
        form = RejectionForm(request.POST, instance=None, user=request.user)
        reason = form.cleaned_data["reason"] if form.is_valid() else ""
        admission.reject_registration(self.find(number), actor=request.user, now=now_of(request), reason=reason)
        messages.success(request, _("Rejected: it is refused like a stranger."))
        return HttpResponseRedirect(reverse("registration_list"))


class RegistrationReopen(RegistrationPage):
    http_method_names = ["post"]

    def post(self, request: HttpRequest, number: str) -> HttpResponse:
        registration = self.find(number)
        admission.reopen_registration(registration, actor=request.user, now=now_of(request))
        return HttpResponseRedirect(reverse("registration_detail", args=[registration.number]))


class GatewayList(ListPage):
    model = GatewayToken
    table_class = GatewayTable
    filterset_class = GatewayFilter
    section = "ci_list"
    permission = admission.MANAGE
    title = gettext_lazy("Gateways")
    intro = gettext_lazy(
        "A gateway speaks for the CIs of one group with one token, where the portal takes such tokens."
    )
    related = ("group", "ci_class", "agent_profile")
    create_url_name = "gateway_issue"
    create_permission = admission.MANAGE
    create_label = gettext_lazy("Issue a gateway token")


class GatewayIssue(ServiceFormPage):
    form_class = GatewayForm
    section = "ci_list"
    list_url_name = "gateway_list"
    permission = admission.MANAGE
    title = gettext_lazy("Issue a gateway token")
    secret = ""

    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """Answers with the secret itself: it is shown this once, so there is nowhere else to go."""
        answer = super().post(request, **kwargs)
        if not self.secret:
            return answer
        response = render(request, "cmdb/gateway_token.html", self.get_context_data(secret=self.secret))
        response["Cache-Control"] = "no-store"
        return response

    def perform(self, instance: Any, data: dict[str, Any]) -> Any:
        self.secret = admission.issue_gateway_token(actor=self.request.user, now=now_of(self.request), **data)
        return data["name"]

    def success_url(self, instance: Any, result: Any) -> str:
        return reverse("gateway_list")

    def section_label(self) -> Any:
        return _("Gateways")


class GatewayRevoke(ObjectPage):
    model = GatewayToken
    permission = admission.MANAGE
    http_method_names = ["post"]

    def post(self, request: HttpRequest, number: str) -> HttpResponse:
        admission.revoke_gateway_token(self.find(number), actor=request.user, now=now_of(request))
        return HttpResponseRedirect(reverse("gateway_list"))
