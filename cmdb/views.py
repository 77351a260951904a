"""Pages of configuration items."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.utils.html import format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import View

from cmdb import services
from cmdb.drift import accept_drift
from cmdb.filters import CIFilter
from cmdb.forms import CIForm
from cmdb.models import AgentToken, ConfigurationItem, InstalledVersion
from cmdb.tables import CITable
from software.models import Product
from tickets.clock import now_of
from tickets.links import page_of_object
from tickets.views import ObjectPage, PortalPage, ServiceFormPage
from tickets.views_list import ListPage

_CURRENT = InstalledVersion.objects.filter(valid_to__isnull=True).select_related("product")


class CIList(ListPage):
    model = ConfigurationItem
    table_class = CITable
    filterset_class = CIFilter
    template_name = "cmdb/ci_list.html"
    section = "ci_list"
    title = gettext_lazy("Configuration items")
    related = ("ci_class", "owner", "team")
    wide_sorts = ("number", "name")
    create_url_name = "ci_create"
    create_permission = "cmdb.manage_cis"
    create_label = gettext_lazy("Register a CI")

    def get_queryset(self) -> Any:
        current = Prefetch("installed_versions", queryset=_CURRENT, to_attr="current_versions")
        return super().get_queryset().with_drift().prefetch_related(current)


class CIOptions(PortalPage, View):
    """Proposals for a field that takes a CI by name: what is typed so far stands in any field of the request."""

    def get(self, request: HttpRequest) -> HttpResponse:
        text = request.GET.get(request.GET.get("field", ""), "").replace("\0", "")
        visible = ConfigurationItem.objects.visible_to(request.user).production()
        names = visible.filter(name__icontains=text).order_by("name").values_list("name")[:20]
        return HttpResponse(format_html_join("", '<option value="{}"></option>', names))


class CIPage(ObjectPage):
    model = ConfigurationItem
    section = "ci_list"
    list_url_name = "ci_list"


class CIDetail(CIPage):
    """Facts, lifecycle and health, versions with history, baselines, tickets, deployments, the agent and its tokens."""

    related = (
        "ci_class__maintenance_window", "owner", "team", "agent_profile", "maintenance_window", "copy_of",
        "connection__credential",
    )  # fmt: skip

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        ci = self.find(number)
        history = list(ci.installed_versions.select_related("product", "version", "replaced")[:50])
        may_manage = request.user.has_perm("cmdb.manage_cis")
        visible = ConfigurationItem.objects.visible_to(request.user)
        context = self.get_context_data(
            object=ci,
            title=f"{ci.number} {ci.name}",
            breadcrumbs=self.crumbs_of(ci),
            current=[row for row in history if row.valid_to is None],
            history=history,
            depends=list(ci.depends.filter(target__in=visible.values("pk")).select_related("target")[:50]),
            supports=list(ci.supports.filter(source__in=visible.values("pk")).select_related("source")[:50]),
            copies=list(visible.filter(copy_of=ci)[:20]),
            attributes=sorted(ci.attributes.items()) if isinstance(ci.attributes, dict) else [],
            window=_window_of(ci, request),
            drifts=list(ci.drifts.filter(ended_at=None).select_related("product")),
            baselines=list(ci.baselines.defer("state").select_related("recorded_by")),
            attribute_changes=list(ci.attribute_changes.all()[:20]),
            may_manage=may_manage,
            tokens=list(ci.agent_tokens.order_by("-id")[:5]) if may_manage else [],
        )
        return render(request, "cmdb/ci_detail.html", context)


def _window_of(ci: ConfigurationItem, request: HttpRequest) -> dict[str, Any] | None:
    """The CI's maintenance window: whether it is open, and until when, or from when on."""
    if ci.window is None:
        return None
    now = now_of(request)
    begin, end = ci.window.occurrence(now)
    return {"name": ci.window.name, "is_open": begin <= now, "begin": begin, "end": end}


class CIToken(CIPage):
    """Issues a token for the CI's agent and shows it this once, or ends one."""

    http_method_names = ["post"]
    permission = "cmdb.manage_cis"

    def post(self, request: HttpRequest, number: str) -> HttpResponse:
        ci = self.find(number)
        now = now_of(request)
        if "revoke" in request.POST:
            if not request.POST["revoke"].isdecimal():
                raise PermissionDenied
            token = get_object_or_404(AgentToken, ci=ci, pk=request.POST["revoke"])
            services.revoke_agent_token(token, actor=request.user, now=now)
            return HttpResponseRedirect(page_of_object(ci))
        secret = services.issue_agent_token(ci, actor=request.user, now=now)
        context = self.get_context_data(
            object=ci, secret=secret, title=_("New token"), breadcrumbs=self.crumbs_of(ci, _("New token"))
        )
        response = render(request, "cmdb/token.html", context)
        response["Cache-Control"] = "no-store"
        return response


class CIRequestAttributes(CIPage):
    """Asks the CI's agent for its attributes with its next poll."""

    http_method_names = ["post"]
    permission = "cmdb.manage_cis"

    def post(self, request: HttpRequest, number: str) -> HttpResponse:
        ci = self.find(number)
        services.request_attributes(ci, actor=request.user, now=now_of(request))
        return HttpResponseRedirect(page_of_object(ci))


class CIAcceptDrift(CIPage):
    """Takes what the CI runs as what is expected from now on."""

    http_method_names = ["post"]
    permission = "cmdb.manage_cis"

    def post(self, request: HttpRequest, number: str) -> HttpResponse:
        ci = self.find(number)
        product = get_object_or_404(Product, slug=request.POST.get("product", "").replace("\0", ""))
        accept_drift(ci, actor=request.user, now=now_of(request), product=product)
        return HttpResponseRedirect(page_of_object(ci))


class CICreate(ServiceFormPage):
    form_class = CIForm
    section = "ci_list"
    list_url_name = "ci_list"
    permission = "cmdb.manage_cis"
    title = gettext_lazy("Register a configuration item")
    intro = gettext_lazy("Its versions come from its agent's reports; they are never typed in.")

    def perform(self, instance: Any, data: dict[str, Any]) -> ConfigurationItem:
        data["agent_id"] = data["agent_id"] or None
        return services.register_ci(actor=self.request.user, now=now_of(self.request), **data)

    def section_label(self) -> Any:
        return _("Configuration items")
