"""Pages of the software library. Everybody who can sign in may look; what may be stored is a right."""

from typing import Any

from django.db.models import Count, OuterRef, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import View

from software import services
from software.filters import ProductFilter
from software.forms import ProductForm, RestoreForm, VersionForm, WithdrawForm
from software.models import Product, Version
from software.quarantine import restore_version
from software.tables import ProductTable
from tickets.clock import now_of
from tickets.views import PortalPage, ServiceFormPage
from tickets.views_list import ListPage


class ProductList(ListPage):
    model = Product
    table_class = ProductTable
    filterset_class = ProductFilter
    section = "product_list"
    title = gettext_lazy("Software library")
    intro = gettext_lazy("The definitive media library: the only source of software that may be installed.")
    create_url_name = "product_create"
    create_permission = "software.manage_software"
    create_label = gettext_lazy("Add a product")

    def get_queryset(self) -> Any:
        newest = Version.objects.ready().filter(product=OuterRef("pk")).order_by("-order").values("label")[:1]
        rows = Product.objects.select_related("owner")
        return rows.annotate(newest=Subquery(newest), version_count=Count("versions"))


class ProductDetail(PortalPage, View):
    section = "product_list"

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        product = get_object_or_404(Product.objects.select_related("owner"), slug=slug)
        versions = product.versions.select_related("created_by").prefetch_related("artifacts").order_by("-order")
        crumbs = [{"label": _("Software library"), "url": reverse("product_list")}, {"label": product.name}]
        context = self.get_context_data(
            object=product,
            title=product.name,
            breadcrumbs=crumbs,
            versions=list(versions[:100]),
            may_manage=request.user.has_perm("software.manage_software"),
        )
        return render(request, "software/product_detail.html", context)


class SoftwareForm(ServiceFormPage):
    section = "product_list"
    list_url_name = "product_list"
    permission = "software.manage_software"

    def section_label(self) -> Any:
        return _("Software library")

    def done(self, result: Any) -> str:
        return _("Stored: %(object)s") % {"object": result}


class ProductCreate(SoftwareForm):
    form_class = ProductForm
    title = gettext_lazy("Add a product")

    def perform(self, instance: Any, data: dict[str, Any]) -> Product:
        return services.create_product(actor=self.request.user, now=now_of(self.request), **data)


class VersionCreate(SoftwareForm):
    form_class = VersionForm
    title = gettext_lazy("Add a version")
    intro = gettext_lazy("It is ready as soon as its file is stored and verified.")

    def instance(self, **kwargs: Any) -> Product:
        return get_object_or_404(Product, slug=kwargs["slug"])

    def perform(self, instance: Product, data: dict[str, Any]) -> Version:
        return services.create_version(instance, actor=self.request.user, now=now_of(self.request), **data)

    def success_url(self, instance: Any, result: Any) -> str:
        return reverse("artifact_upload", args=[instance.slug, result.label])


class VersionPage(SoftwareForm):
    def instance(self, **kwargs: Any) -> Version:
        rows = Version.objects.select_related("product")
        return get_object_or_404(rows, product__slug=kwargs["slug"], label=kwargs["label"].replace("\0", ""))

    def success_url(self, instance: Version, result: Any) -> str:
        return reverse("product_detail", args=[instance.product.slug])


class VersionWithdraw(VersionPage):
    """A withdrawn version is never offered again."""

    form_class = WithdrawForm
    title = gettext_lazy("Withdraw the version")
    intro = gettext_lazy("It is never offered again; CIs that run it keep it.")

    def perform(self, instance: Version, data: dict[str, Any]) -> Version:
        services.withdraw_version(instance, actor=self.request.user, now=now_of(self.request), **data)
        return instance

    def done(self, result: Any) -> str:
        return _("Withdrawn: %(object)s") % {"object": result}


class VersionRestore(VersionPage):
    """Out of quarantine: the files are read and compared now."""

    form_class = RestoreForm
    title = gettext_lazy("Bring the version back")
    intro = gettext_lazy("Every file is read and compared. Not for those who made the version or stored its files.")

    def perform(self, instance: Version, data: dict[str, Any]) -> Version:
        restore_version(instance, actor=self.request.user, now=now_of(self.request), **data)
        return instance

    def done(self, result: Any) -> str:
        return _("Ready again: %(object)s") % {"object": result}
