"""Pages about what versions are made of."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import View

from software.forms import SbomForm
from software.models import Sbom, Version
from software.sboms import attach_sbom, search_components
from software.views import VersionPage
from tickets.clock import now_of
from tickets.views import PortalPage

SHOWN = 200


class VersionDetail(PortalPage, View):
    """One version: files, signatures, components."""

    section = "product_list"

    def get(self, request: HttpRequest, slug: str, label: str) -> HttpResponse:
        versions = Version.objects.select_related("product", "created_by").prefetch_related("artifacts", "manifests")
        version = get_object_or_404(versions, product__slug=slug, label=label.replace("\0", ""))
        sbom = Sbom.objects.defer("document").filter(version=version).first()
        text = request.GET.get("q", "")[:200]
        components = search_components(text).filter(sbom__version=version)
        crumbs = [
            {"label": _("Software library"), "url": reverse("product_list")},
            {"label": version.product.name, "url": reverse("product_detail", args=[slug])},
            {"label": version.label},
        ]
        context = self.get_context_data(
            object=version,
            title=str(version),
            breadcrumbs=crumbs,
            sbom=sbom,
            components=list(components[:SHOWN]),
            component_count=components.count() if sbom is not None else 0,
            q=text,
            now=now_of(request),
            may_manage=request.user.has_perm("software.manage_software"),
        )
        return render(request, "software/version_detail.html", context)


class SbomUpload(VersionPage):
    form_class = SbomForm
    title = gettext_lazy("Attach a bill of materials")

    def perform(self, instance: Version, data: dict[str, Any]) -> Sbom:
        return attach_sbom(instance, actor=self.request.user, now=now_of(self.request), content=data["file"])

    def success_url(self, instance: Version, result: Any) -> str:
        return reverse("version_detail", args=[instance.product.slug, instance.label])


class Components(PortalPage, View):
    """Which versions have a part, for example a library with a hole."""

    section = "product_list"
    title = gettext_lazy("Components")

    def get(self, request: HttpRequest) -> HttpResponse:
        text = request.GET.get("q", "")[:200]
        found = search_components(text) if text.strip() else search_components("").none()
        crumbs = [{"label": _("Software library"), "url": reverse("product_list")}, {"label": str(self.title)}]
        context = self.get_context_data(
            title=self.title, breadcrumbs=crumbs, q=text, components=list(found[:SHOWN]), component_count=found.count()
        )
        return render(request, "software/components.html", context)
