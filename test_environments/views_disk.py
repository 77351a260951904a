"""Pages of disks that are received: ordering, the medium, how far it is."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from test_environments import services
from test_environments.facts import fact_rows
from test_environments.filters import DiskFilter
from test_environments.forms_disk import MediumForm, SecretForm, UploadForm
from test_environments.medium_download import medium_response
from test_environments.models import CopySource, DiskReception
from test_environments.tables import DiskTable
from test_environments.views_choose import SourceChoice, SourceFormPage
from tickets.clock import now_of
from tickets.exceptions import DomainError
from tickets.links import page_of_object
from tickets.verbs import VerbPage
from tickets.views import DetailPage, ObjectPage, VerbPageView, refuse
from tickets.views_list import ListPage

SEE, MANAGE = "test_environments.see_environments", "test_environments.manage_environments"
VERBS = {
    "revoke": VerbPage(
        icon="ban", service="revoke_reception",
        preview=lambda disk: _("The medium is worth nothing any more, and what has arrived is deleted."),
    ),
}  # fmt: skip


class DiskList(ListPage):
    model = DiskReception
    table_class = DiskTable
    filterset_class = DiskFilter
    section = "environment_list"
    title = gettext_lazy("Disks")
    intro = gettext_lazy("Disks of production CIs on their way to a golden image: sent by the machine, or uploaded.")
    permission = SEE
    related = ("ci", "image", "requested_by")
    create_url_name = "disk_choose"
    create_permission = MANAGE
    create_label = gettext_lazy("Receive a disk")


class DiskChoice(SourceChoice):
    title = gettext_lazy("Receive a disk")
    intro = gettext_lazy("Of which CI? An administrator has released these for a capture medium or an upload.")
    next_url_name = "disk_order"
    list_url_name = "disk_list"
    methods = CopySource.RECEIVED


class DiskOrder(SourceFormPage):
    """The order for one CI; which form it is, its release says. The secret is shown in the answer, this once."""

    list_url_name = "disk_list"
    submit_label: Any = gettext_lazy("Order")
    secret = ""

    def instance(self, **kwargs: Any) -> CopySource:
        source = super().instance(**kwargs)
        if source.method not in CopySource.RECEIVED:
            raise Http404
        if source.method == CopySource.Method.UPLOAD:
            self.form_class, self.submit_label = UploadForm, _("Upload")
            self.title = _("Upload the disk of %(ci)s") % {"ci": source.ci.name}
            self.intro = _(
                "The file is looked at as at something hostile, and opened once somebody else has approved the copy."
            )
        else:
            self.form_class = MediumForm
            self.title = _("Receive the disk of %(ci)s") % {"ci": source.ci.name}
            self.intro = _(
                "A small system boots on the machine from a USB stick, changes nothing on it, and sends its disk."
            )
        return source

    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """Answers with the secret itself, where there is one: there is nowhere else to show it."""
        answer = super().post(request, **kwargs)
        if not self.secret:
            return answer
        context = self.get_context_data(object=self.reception, secret=self.secret, breadcrumbs=[])
        response = render(request, "test_environments/disk_secret.html", context)
        response["Cache-Control"] = "no-store"
        return response

    def perform(self, instance: Any, data: dict[str, Any]) -> DiskReception:
        who: dict[str, Any] = {"actor": self.person, "now": now_of(self.request)}
        if instance.method == CopySource.Method.UPLOAD:
            file = data.pop("file")
            self.reception = services.begin_disk_upload(instance.ci, **who, **data)
            try:
                services.write_disk_piece(self.reception, **who, offset=0, stream=file)
            except DomainError:
                services.revoke_reception(self.reception, **who)
                raise
        else:
            self.reception, self.secret = services.order_reception(instance.ci, **who, **data)
        return self.reception

    def section_label(self) -> Any:
        return _("Disks")


class DiskDetail(DetailPage):
    model = DiskReception
    template_name = "test_environments/disk_detail.html"
    section = "environment_list"
    list_url_name = "disk_list"
    verb_url_name = "disk_verb"
    related = ("ci", "image", "requested_by")
    verbs = VERBS

    def details(self, instance: DiskReception) -> dict[str, Any]:
        may_have_medium = bool(instance.medium_bytes) and instance.state in DiskReception.EXPECTED
        return {
            "is_active": instance.state in {*DiskReception.EXPECTED, DiskReception.State.CHECKING},
            "inventory": fact_rows(instance.inventory),
            "secret_form": SecretForm() if may_have_medium and self.person.has_perm(MANAGE) else None,
            "events": list(instance.events.select_related("actor")[:50]),
        }


class DiskVerb(VerbPageView):
    model = DiskReception
    section = "environment_list"
    list_url_name = "disk_list"
    verb_url_name = "disk_verb"
    related = ("ci",)
    verbs = VERBS
    services = services
    noun = "reception"


class DiskMedium(ObjectPage):
    """The medium with its secret in place, for who has the secret."""

    model = DiskReception
    section = "environment_list"
    list_url_name = "disk_list"
    permission = MANAGE
    http_method_names = ["post"]
    related = ("ci",)

    def post(self, request: HttpRequest, number: str) -> Any:
        instance = self.find(number)
        form = SecretForm(request.POST, instance=instance, user=request.user)
        if form.is_valid():
            try:
                return medium_response(instance, actor=request.user, secret=form.cleaned_data["secret"])
            except DomainError as error:
                refuse(form, error)
        context = self.get_context_data(
            object=instance, form=form, title=_("Medium"), submit_label=_("Download the medium"), intro="",
            cancel_url=page_of_object(instance), breadcrumbs=self.crumbs_of(instance, _("Medium")),
        )  # fmt: skip
        return render(request, "tickets/ticket_form.html", context, status=400)
