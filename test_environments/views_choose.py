"""The first step of capture, clone and reception: which production CI."""

from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.generic import View

from cmdb.models import ConfigurationItem
from test_environments.models import CopySource
from tickets.numbers import parse_number
from tickets.views import PortalPage, ServiceFormPage

MOST = 200


class SourceChoice(PortalPage, View):
    """Lists the CIs that an administrator released, with what is known of each; a link leads to the second step."""

    section = "environment_list"
    permission = "test_environments.manage_environments"
    intro: Any = ""
    next_url_name = ""
    list_url_name = ""
    methods: tuple[str, ...] = ()

    def get(self, request: Any) -> Any:
        query = request.GET.get("q", "").strip()[:100]
        rows = self.sources()
        if query:
            rows = rows.filter(ci__name__icontains=query)
        found = list(rows[: MOST + 1])
        context = self.get_context_data(
            intro=self.intro,
            query=query,
            is_cut=len(found) > MOST,
            sources=[(source, reverse(self.next_url_name, args=[source.ci.number])) for source in found[:MOST]],
        )
        return render(request, "test_environments/choose.html", context)

    def sources(self) -> Any:
        visible = ConfigurationItem.objects.visible_to(self.person).production()
        rows = CopySource.objects.filter(ci__in=visible).select_related("ci__ci_class").order_by("ci__name")
        return rows.filter(method__in=self.methods) if self.methods else rows

    def crumbs(self) -> list[dict[str, str]]:
        return [{"label": _("Test environments"), "url": reverse(self.list_url_name)}, {"label": str(self.title)}]


class SourceFormPage(ServiceFormPage):
    """The second step: a form about one released CI. The form's instance is its source of copies."""

    section = "environment_list"
    permission = "test_environments.manage_environments"
    title_of: Any = "%(ci)s"

    def instance(self, **kwargs: Any) -> CopySource:
        visible = ConfigurationItem.objects.visible_to(self.person).production()
        key = parse_number(kwargs["number"])
        rows = CopySource.objects.filter(ci__in=visible).select_related("ci__ci_class")
        found = rows.filter(ci_id=key[1]).first() if key and key[0] == ConfigurationItem.PREFIX else None
        if found is None:
            raise Http404
        self.title = self.title_of % {"ci": found.ci.name}
        return found

    def show(self, instance: Any, form: Any, status: int = 200) -> HttpResponse:
        context = self.get_context_data(
            object=instance, form=form, intro=self.intro, submit_label=self.submit_label, source=instance,
            cancel_url=reverse(self.list_url_name), breadcrumbs=self.form_crumbs(None),
        )  # fmt: skip
        return render(self.request, "test_environments/source_form.html", context, status=status)
