"""Pages of test environments."""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from test_environments import services
from test_environments.filters import EnvironmentFilter
from test_environments.forms import EnvironmentForm
from test_environments.models import TestEnvironment
from test_environments.tables import EnvironmentTable
from tickets.clock import now_of
from tickets.verbs import VerbPage
from tickets.views import DetailPage, ListPage, ServiceFormPage, VerbPageView

VERBS = {
    "retry": VerbPage(icon="refresh"),
    "destroy": VerbPage(
        icon="trash",
        preview=lambda environment: (
            _("The copy of %(source)s and its agent go; the record stays.") % {"source": environment.source}
        ),
    ),
}


class EnvironmentList(ListPage):
    model = TestEnvironment
    table_class = EnvironmentTable
    filterset_class = EnvironmentFilter
    section = "environment_list"
    title = gettext_lazy("Test environments")
    permission = "test_environments.see_environments"
    related = ("source", "requested_by")
    create_url_name = "environment_create"
    create_permission = "test_environments.manage_environments"
    create_label = gettext_lazy("Copy a CI")


class EnvironmentDetail(DetailPage):
    model = TestEnvironment
    template_name = "test_environments/environment_detail.html"
    section = "environment_list"
    list_url_name = "environment_list"
    verb_url_name = "environment_verb"
    related = ("source", "copy", "requested_by")
    verbs = VERBS

    def details(self, instance: TestEnvironment) -> dict[str, Any]:
        copy = instance.copy
        installed = []
        if copy is not None:
            installed = list(copy.installed_versions.filter(valid_to__isnull=True).select_related("product"))
        baseline = sorted(instance.baseline.items()) if isinstance(instance.baseline, dict) else []
        return {"installed": installed, "baseline": baseline}


class EnvironmentVerb(VerbPageView):
    model = TestEnvironment
    section = "environment_list"
    list_url_name = "environment_list"
    verb_url_name = "environment_verb"
    related = ("source", "copy")
    verbs = VERBS
    services = services
    noun = "environment"


class EnvironmentCreate(ServiceFormPage):
    form_class = EnvironmentForm
    section = "environment_list"
    list_url_name = "environment_list"
    permission = "test_environments.manage_environments"
    title = gettext_lazy("Copy a CI for tests")
    intro = gettext_lazy("A file copy of its versions, with an agent identity of its own. It is never a target.")

    def perform(self, instance: Any, data: dict[str, Any]) -> TestEnvironment:
        source = data.pop("source")
        return services.request_environment(source, actor=self.request.user, now=now_of(self.request), **data)

    def section_label(self) -> Any:
        return _("Test environments")
