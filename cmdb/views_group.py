"""Pages of CI groups."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from cmdb import groups
from cmdb.filters import CIGroupFilter
from cmdb.forms_group import CIGroupForm
from cmdb.models import CIGroup
from cmdb.tables import CIGroupTable
from tickets.clock import now_of
from tickets.views import ObjectPage, ServiceFormPage
from tickets.views_list import ListPage


class CIGroupList(ListPage):
    model = CIGroup
    table_class = CIGroupTable
    filterset_class = CIGroupFilter
    section = "ci_list"
    permission = "cmdb.see_all_cis"
    title = gettext_lazy("CI groups")
    intro = gettext_lazy("CIs that are meant together: targets of releases, gateways, standard changes.")
    create_url_name = "group_create"
    create_permission = groups.MANAGE
    create_label = gettext_lazy("Make a group")


class CIGroupPage(ObjectPage):
    model = CIGroup
    section = "ci_list"
    list_url_name = "group_list"


class CIGroupDetail(CIGroupPage):
    """What defines it, and who belongs to it now."""

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        group = self.find(number)
        members = group.members().visible_to(request.user)
        context = self.get_context_data(
            object=group,
            title=f"{group.number} {group.name}",
            breadcrumbs=self.crumbs_of(group),
            member_count=members.count(),
            members=list(members.order_by("name")[:100]),
            named_count=group.static_members.count(),
            filter_rows=_rows(group.filter),
            may_manage=request.user.has_perm(groups.MANAGE),
        )
        return render(request, "cmdb/group_detail.html", context)


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    labels = {"ci_class": _("Class"), "lifecycle": _("Lifecycle"), "owner": _("Owner"), "team": _("Team"),
              "name": _("Name"), "runs": _("Runs")}  # fmt: skip
    rows = [(label, ", ".join(found[name])) for name, label in labels.items() if name in found]
    return [*rows, *((key, ", ".join(values)) for key, values in found.get("attributes", {}).items())]


class CIGroupCreate(ServiceFormPage):
    form_class = CIGroupForm
    section = "ci_list"
    list_url_name = "group_list"
    permission = groups.MANAGE
    title = gettext_lazy("Make a group")
    intro: Any = gettext_lazy("Whatever is filled in below the named CIs must fit; empty fields do not count.")

    def perform(self, instance: Any, data: dict[str, Any]) -> CIGroup:
        return groups.create_group(actor=self.request.user, now=now_of(self.request), **data)

    def section_label(self) -> Any:
        return _("CI groups")


class CIGroupEdit(CIGroupPage, CIGroupCreate):
    title = gettext_lazy("Edit")

    def instance(self, **kwargs: Any) -> CIGroup:
        group: CIGroup = self.find(kwargs["number"])
        return group

    def perform(self, instance: CIGroup, data: dict[str, Any]) -> CIGroup:
        groups.edit_group(instance, actor=self.request.user, now=now_of(self.request), **data)
        return instance
