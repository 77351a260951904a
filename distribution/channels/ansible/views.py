"""Pages of the push channel: a CI's connection, and what its host said in runs."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from cmdb.models import ConfigurationItem, Connection
from distribution.channels.ansible.connections import MANAGE, connect_ci, disconnect_ci
from distribution.channels.ansible.forms import ConnectionForm
from distribution.channels.ansible.models import SEE_LOG
from distribution.models import Deployment
from tickets.clock import now_of
from tickets.links import page_of_object
from tickets.views import ObjectPage, ServiceFormPage


class CIObjectPage(ObjectPage):
    model = ConfigurationItem
    section = "ci_list"
    list_url_name = "ci_list"


class CIConnection(ServiceFormPage, CIObjectPage):
    """How the CI is reached; saving it puts the CI on the push channel."""

    form_class = ConnectionForm
    section = "ci_list"
    list_url_name = "ci_list"
    permission = MANAGE
    title = gettext_lazy("Push software by Ansible")
    intro = gettext_lazy("From now on nothing waits for an agent: the portal brings the software to the host.")

    def instance(self, **kwargs: Any) -> Any:
        return self.find(kwargs["number"])

    def initial(self, instance: Any) -> dict[str, Any]:
        connection = Connection.objects.filter(ci=instance).first()
        names = ConnectionForm.base_fields
        return {name: getattr(connection, name) for name in names} if connection is not None else {}

    def perform(self, instance: Any, data: dict[str, Any]) -> Any:
        connect_ci(instance, actor=self.request.user, now=now_of(self.request), **data)
        return instance

    def section_label(self) -> Any:
        return _("Configuration items")


class CIDisconnect(CIObjectPage):
    """Leaves the CI to its agent again."""

    http_method_names = ["post"]
    permission = MANAGE

    def post(self, request: HttpRequest, number: str) -> HttpResponse:
        ci = self.find(number)
        disconnect_ci(ci, actor=request.user, now=now_of(request))
        return HttpResponseRedirect(page_of_object(ci))


class CIPushLog(CIObjectPage):
    """What the host said while a deployment was pushed to it."""

    permission = SEE_LOG

    def get(self, request: HttpRequest, number: str, deployment: int) -> HttpResponse:
        ci = self.find(number)
        row = Deployment.objects.filter(ci=ci, pk=deployment).select_related("batch").first()
        if row is None:
            raise Http404
        context = self.get_context_data(
            object=ci,
            deployment=row,
            targets=list(row.push_targets.select_related("run").order_by("-run_id")[:20]),
            title=_("Push runs"),
            breadcrumbs=self.crumbs_of(ci, _("Push runs")),
        )
        return render(request, "distribution/push_log.html", context)
