"""Pages of a CI's baselines: recording one, and comparing with one."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from cmdb import baselines
from cmdb.models import ConfigurationItem
from cmdb.views import CIPage
from tickets.clock import now_of
from tickets.forms import PortalForm
from tickets.links import page_of_object
from tickets.views import ServiceFormPage


class BaselineForm(PortalForm):
    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=100,
        help_text=gettext_lazy("What it is good for, for example “before the new disks”."),
    )  # fmt: skip


class CIBaselineRecord(CIPage, ServiceFormPage):
    form_class = BaselineForm
    permission = "cmdb.manage_cis"
    title = gettext_lazy("Record a baseline")
    intro = gettext_lazy(
        "Keeps which versions run on it, its facts, what it depends on, and what its agent reported. It can be "
        "compared with at any time, and is never changed."
    )
    submit_label = gettext_lazy("Record")

    def instance(self, **kwargs: Any) -> ConfigurationItem:
        found: ConfigurationItem = self.find(kwargs["number"])
        return found

    def perform(self, instance: Any, data: dict[str, Any]) -> ConfigurationItem:
        baselines.record_baseline(instance, actor=self.request.user, now=now_of(self.request), **data)
        found: ConfigurationItem = instance
        return found

    def done(self, result: Any) -> str:
        return _("The baseline of %(ci)s is recorded.") % {"ci": result}

    def section_label(self) -> Any:
        return _("Configuration items")


class CIBaseline(CIPage):
    """What a baseline holds, and what is different now; who may manage CIs can remove it."""

    related = ("ci_class__maintenance_window", "owner", "team", "agent_profile", "maintenance_window")

    def get(self, request: HttpRequest, number: str, key: int) -> HttpResponse:
        ci = self.find(number)
        baseline = get_object_or_404(ci.baselines.select_related("recorded_by"), pk=key)
        seen = baselines.Look(ci, request.user).compare(baseline)
        context = self.get_context_data(
            object=ci,
            baseline=baseline,
            seen=seen,
            title=_("Baseline “%(name)s” of %(ci)s") % {"name": baseline.name, "ci": ci.name},
            breadcrumbs=self.crumbs_of(ci, baseline.name),
            may_manage=request.user.has_perm("cmdb.manage_cis"),
        )
        return render(request, "cmdb/baseline.html", context)

    def post(self, request: HttpRequest, number: str, key: int) -> HttpResponse:
        ci = self.find(number)
        baseline = get_object_or_404(ci.baselines, pk=key)
        baselines.remove_baseline(baseline, actor=request.user, now=now_of(request))
        messages.success(request, _("The baseline “%(name)s” is removed.") % {"name": baseline.name})
        return HttpResponseRedirect(page_of_object(ci))
