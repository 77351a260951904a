"""Pages of golden images."""

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from test_environments import services
from test_environments.facts import fact_rows
from test_environments.filters import ImageFilter
from test_environments.forms import ImageForm
from test_environments.models import CopySource, GoldenImage, TestEnvironment
from test_environments.tables import ImageTable
from test_environments.views_choose import SourceChoice, SourceFormPage
from tickets.clock import now_of
from tickets.verbs import VerbPage
from tickets.views import DetailPage, VerbPageView
from tickets.views_list import ListPage

MANAGE = "test_environments.manage_environments"
VERBS = {
    "approve": VerbPage(
        icon="thumb-up",
        preview=lambda image: (
            _("You allow this one copy of %(source)s, which is %(class)s. Asked for: %(reason)s")
            % {
                "source": image.source,
                "class": image.get_classification_display(),
                "reason": image.reason or "–",
            }
        ),
    ),
    "retry": VerbPage(icon="refresh"),
    "delete_files": VerbPage(
        icon="trash",
        service="delete_image",
        preview=lambda image: _("What was captured of %(source)s goes; the record stays.") % {"source": image.source},
    ),
}


class ImageList(ListPage):
    model = GoldenImage
    table_class = ImageTable
    filterset_class = ImageFilter
    section = "environment_list"
    title = gettext_lazy("Golden images")
    intro = gettext_lazy("What production CIs were when they were captured: the base of copies for tests.")
    permission = "test_environments.see_environments"
    related = ("source", "requested_by")
    create_url_name = "image_create"
    create_permission = "test_environments.manage_environments"
    create_label = gettext_lazy("Capture a CI")


class ImageDetail(DetailPage):
    model = GoldenImage
    template_name = "test_environments/image_detail.html"
    section = "environment_list"
    list_url_name = "image_list"
    verb_url_name = "image_verb"
    related = ("source", "requested_by", "approved_by", "reception")
    verbs = VERBS

    def details(self, instance: GoldenImage) -> dict[str, Any]:
        gone = {TestEnvironment.State.DESTROYED}
        environments = list(instance.environments.select_related("requested_by").order_by("-pk")[:50])
        may_clone = instance.state in GoldenImage.USABLE and self.person.has_perm(MANAGE)
        clone_url = reverse("environment_order", args=[instance.source.number]) if may_clone else ""
        return {
            "baseline": sorted(instance.baseline.items()),
            "snapshot": fact_rows(instance.source_snapshot),
            "inventory": fact_rows(instance.inventory),
            "method": dict(CopySource.Method.choices).get(instance.method, instance.method),
            "environments": environments,
            "alive": [one for one in environments if one.state not in gone],
            "clone_url": f"{clone_url}?image={instance.number}" if clone_url else "",
            "events": list(instance.events.select_related("actor")[:50]),
        }


class ImageVerb(VerbPageView):
    model = GoldenImage
    section = "environment_list"
    list_url_name = "image_list"
    verb_url_name = "image_verb"
    related = ("source",)
    verbs = VERBS
    services = services
    noun = "image"


class ImageChoice(SourceChoice):
    title = gettext_lazy("Capture a CI")
    intro = gettext_lazy("Which CI? An administrator has released these for copies.")
    next_url_name = "image_order"
    list_url_name = "image_list"


class ImageCreate(SourceFormPage):
    form_class = ImageForm
    list_url_name = "image_list"
    title_of = gettext_lazy("Capture %(ci)s")
    submit_label = gettext_lazy("Capture")
    intro = gettext_lazy("The source is only read. Where it may hold data, somebody else approves the copy first.")

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """A disk that has to arrive first has a form of its own."""
        source = self.instance(**kwargs)
        if source.method in CopySource.RECEIVED and not source.folder:
            return HttpResponseRedirect(reverse("disk_order", args=[source.ci.number]))
        return super().get(request, **kwargs)

    def perform(self, instance: CopySource, data: dict[str, Any]) -> GoldenImage:
        return services.request_image(instance.ci, actor=self.request.user, now=now_of(self.request), **data)

    def section_label(self) -> Any:
        return _("Golden images")
