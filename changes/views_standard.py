"""Pages of standard changes."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from changes import standard
from changes.filters import StandardTemplateFilter
from changes.forms_standard import ApproveTemplateForm, StandardTemplateForm
from changes.models import StandardTemplate
from changes.tables import StandardTemplateTable
from tickets.clock import now_of
from tickets.forms import RejectForm
from tickets.verbs import VerbPage
from tickets.views import ObjectPage, ServiceFormPage, VerbPageView
from tickets.views_list import ListPage


def _may_decide(template: StandardTemplate, user: Any) -> bool:
    return bool(user.has_perm(standard.APPROVE))


VERBS = {
    "approve": VerbPage(
        ApproveTemplateForm, label=gettext_lazy("Approve"), style="success", icon="thumb-up", allowed=_may_decide
    ),
    "reject": VerbPage(
        RejectForm, label=gettext_lazy("Reject"), style="danger", icon="thumb-down", allowed=_may_decide
    ),
}


class StandardList(ListPage):
    model = StandardTemplate
    table_class = StandardTemplateTable
    filterset_class = StandardTemplateFilter
    section = "change_list"
    title = gettext_lazy("Standard changes")
    intro = gettext_lazy("Approved once by the CAB; used by those whom they name, without another decision.")
    create_url_name = "standard_create"
    create_permission = standard.MANAGE
    create_label = gettext_lazy("Write a standard change")


class StandardPage(ObjectPage):
    model = StandardTemplate
    section = "change_list"
    list_url_name = "standard_list"


class StandardDetail(StandardPage):
    """What it is for, who uses it, the CAB's decisions, and the RFCs that were made from it."""

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        template = self.find(number)
        context = self.get_context_data(
            object=template,
            title=f"{template.number} {template.name}",
            breadcrumbs=self.crumbs_of(template),
            approvals=list(template.approvals.select_related("approver")),
            content_hash=standard.template_hash(template),
            is_approved=standard.valid_template_approval(template) is not None,
            products=list(template.products.all()),
            groups=list(template.groups.all()),
            people=[*template.users.all(), *template.teams.all()],
            changes=list(template.changes.visible_to(request.user).select_related("requester")[:20]),
            may_decide=request.user.has_perm(standard.APPROVE),
            may_manage=request.user.has_perm(standard.MANAGE),
        )
        return render(request, "changes/standard_detail.html", context)


class StandardVerb(VerbPageView):
    model = StandardTemplate
    section = "change_list"
    list_url_name = "standard_list"
    verb_url_name = "standard_verb"
    verbs = VERBS
    services = standard
    noun = "template"


class StandardCreate(ServiceFormPage):
    form_class = StandardTemplateForm
    section = "change_list"
    list_url_name = "standard_list"
    permission = standard.MANAGE
    title = gettext_lazy("Write a standard change")
    intro: Any = gettext_lazy("It can be used once a member of the CAB, who took no part in it, has approved it.")

    def perform(self, instance: Any, data: dict[str, Any]) -> StandardTemplate:
        return standard.write_template(actor=self.request.user, now=now_of(self.request), **data)

    def section_label(self) -> Any:
        return _("Standard changes")


class StandardEdit(StandardPage, StandardCreate):
    title = gettext_lazy("Edit")
    intro = gettext_lazy("Another content needs a new approval.")

    def instance(self, **kwargs: Any) -> StandardTemplate:
        template: StandardTemplate = self.find(kwargs["number"])
        return template

    def perform(self, instance: StandardTemplate, data: dict[str, Any]) -> StandardTemplate:
        return standard.edit_template(instance, actor=self.request.user, now=now_of(self.request), **data)
