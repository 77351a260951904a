"""Search: a number in any spelling opens its page; words are looked for in titles, CIs and versions."""

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.generic import View

from changes.models import Change
from cmdb.models import ConfigurationItem
from incidents.models import Incident
from problems.models import Problem
from releases.models import Release, Rollout
from software.models import Product, Version
from test_environments.models import GoldenImage, TestEnvironment
from tickets.links import page_of_object
from tickets.numbers import parse_number
from tickets.views import PortalPage

NUMBERED: tuple[Any, ...] = (
    Incident, Problem, Change, Release, Rollout, ConfigurationItem, TestEnvironment, GoldenImage,
)  # fmt: skip
SHOWN = 10


class Search(PortalPage, View):
    """Only what the person may see is found."""

    def get(self, request: HttpRequest) -> HttpResponse:
        text = request.GET.get("q", "").replace("\0", "").strip()[:200]
        found = by_number(text, request.user)
        if found is not None:
            return HttpResponseRedirect(page_of_object(found))
        groups = by_words(text, request.user) if len(text) >= 2 else []
        context = self.get_context_data(title=_("Search"), breadcrumbs=[{"label": _("Search")}], q=text, groups=groups)
        return render(request, "portal/search.html", context)


def by_number(text: str, user: Any) -> Any:
    """The visible object with this number."""
    number = parse_number(text)
    if number is None:
        return None
    model = next((model for model in NUMBERED if number[0] == model.PREFIX), None)
    return model.objects.visible_to(user).filter(pk=number[1]).first() if model else None


def by_words(text: str, user: Any) -> list[tuple[str, list[Any]]]:
    """Visible tickets by title, CIs by name, products by name, versions by label; empty groups are left out."""
    groups: list[tuple[str, list[Any]]] = []
    for model in (Incident, Problem, Change, Release):
        rows = model.objects.visible_to(user).filter(title__icontains=text).order_by("-pk")
        groups.append((str(model._meta.verbose_name_plural), list(rows[:SHOWN])))
    cis = ConfigurationItem.objects.visible_to(user).filter(name__icontains=text).order_by("name")
    groups.append((str(ConfigurationItem._meta.verbose_name_plural), list(cis[:SHOWN])))
    groups.append((_("products"), list(Product.objects.filter(name__icontains=text)[:SHOWN])))
    versions = Version.objects.filter(label__icontains=text).select_related("product")
    groups.append((_("versions"), list(versions[:SHOWN])))
    return [(label, rows) for label, rows in groups if rows]
