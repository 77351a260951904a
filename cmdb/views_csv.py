"""CIs from and to CSV files."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import View

from cmdb import registration
from cmdb.filters import CIFilter
from cmdb.models import ConfigurationItem
from tickets.clock import now_of
from tickets.forms import PortalForm
from tickets.views import PortalPage, ServiceFormPage


class CsvForm(PortalForm):
    file = forms.FileField(
        label=gettext_lazy("CSV file"),
        help_text=gettext_lazy("UTF-8; the first line names the columns: %s.") % ", ".join(registration.FIELDS),
    )

    def clean_file(self) -> bytes:
        file = self.cleaned_data["file"]
        if file.size > registration.MOST_BYTES:
            raise ValidationError(_("The file has more than %(most)d bytes.") % {"most": registration.MOST_BYTES})
        data: bytes = file.read()
        return data


class CIImport(ServiceFormPage):
    """Each line becomes a CI or is refused with its reason; the others stay."""

    form_class = CsvForm
    section = "ci_list"
    list_url_name = "ci_list"
    permission = "cmdb.manage_cis"
    title = gettext_lazy("Import CIs")
    intro = gettext_lazy("At most 1000 rows. A line that cannot be taken is refused with its reason; the others stay.")

    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        form = self.form_class(request.POST, request.FILES, user=request.user)
        if not form.is_valid():
            return self.show(None, form, status=400)
        try:
            rows = registration.register_csv(form.cleaned_data["file"], actor=request.user, now=now_of(request))
        except registration.InvalidInput as refusal:
            form.add_error("file", refusal.message)
            return self.show(None, form, status=refusal.status)
        made = [row.ci for row in rows if row.ci is not None]
        refused = [row for row in rows if row.ci is None]
        context = self.get_context_data(
            breadcrumbs=self.form_crumbs(None), made=made[:200], made_count=len(made), refused=refused
        )
        return render(request, "cmdb/import_done.html", context)

    def section_label(self) -> Any:
        return _("Configuration items")


class CIExport(PortalPage, View):
    """The CI list as it is filtered, as a file."""

    def get(self, request: HttpRequest) -> StreamingHttpResponse:
        visible = ConfigurationItem.objects.visible_to(request.user).order_by("name")
        found = CIFilter(request.GET, queryset=visible, request=request)
        rows = found.qs if found.is_valid() else visible.none()
        answer = StreamingHttpResponse(registration.export_csv(rows), content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = 'attachment; filename="cis.csv"'
        return answer
