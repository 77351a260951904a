"""Pages of golden images."""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from test_environments import services
from test_environments.filters import ImageFilter
from test_environments.forms import ImageForm
from test_environments.models import GoldenImage
from test_environments.tables import ImageTable
from tickets.clock import now_of
from tickets.verbs import VerbPage
from tickets.views import DetailPage, ServiceFormPage, VerbPageView
from tickets.views_list import ListPage

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
    related = ("source", "requested_by", "approved_by")
    verbs = VERBS

    def details(self, instance: GoldenImage) -> dict[str, Any]:
        return {
            "baseline": sorted(instance.baseline.items()),
            "environments": list(instance.environments.select_related("requested_by").order_by("-pk")[:50]),
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


class ImageCreate(ServiceFormPage):
    form_class = ImageForm
    section = "environment_list"
    list_url_name = "image_list"
    permission = "test_environments.manage_environments"
    title = gettext_lazy("Capture a CI")
    intro = gettext_lazy("The source is only read. Where it may hold data, somebody else approves the copy first.")

    def perform(self, instance: Any, data: dict[str, Any]) -> GoldenImage:
        source = data.pop("source")
        return services.request_image(source, actor=self.request.user, now=now_of(self.request), **data)

    def section_label(self) -> Any:
        return _("Golden images")
